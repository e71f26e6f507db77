package node

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"os"
	"strings"
	"sync"

	"understudy/internal/access"
)

// Local programs show a token that only root and the groups can read. Who has read it once
// could go on with it after leaving a group, so it is made anew when a group changes.

// groupFile is where members leave a group. Changes of groups that a directory service
// keeps are not seen here; the daemon makes new tokens at its start, too.
const groupFile = "/etc/group"

// localTokens are those that are accepted now.
type localTokens struct {
	file string // groupFile, except in tests

	mu   sync.Mutex // guards what follows
	all  map[access.Level]string
	seen []byte // lines of the groups when the tokens were made; nil: not looked yet
}

// renew makes new tokens; those before are not accepted any more.
func (l *localTokens) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = map[access.Level]string{access.Admin: rand.Text(), access.Monitor: rand.Text()}
}

func (l *localTokens) of(level access.Level) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[level]
}

func (l *localTokens) level(token string) (access.Level, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for level, want := range l.all {
		if subtle.ConstantTimeCompare([]byte(token), []byte(want)) == 1 {
			return level, true
		}
	}
	return access.None, false
}

// changed reports whether the groups are others than at the last call.
func (l *localTokens) changed(lines []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.seen
	l.seen = lines
	return before != nil && !bytes.Equal(before, lines)
}

// recheckLocal makes new tokens when a group changed, and ends the sessions that were
// begun with the old ones: their programs log in again, if they may.
func (n *Node) recheckLocal() {
	raw, err := os.ReadFile(n.gate.tokens.file)
	if err != nil || !n.gate.tokens.changed(groupLines(raw, n.cfg.AdminGroup, n.cfg.MonitorGroup)) {
		return
	}
	n.gate.tokens.renew()
	if err := n.writeLocal(); err != nil {
		n.log.Error("tokens of local programs not written", "err", err)
	}
	n.srv.Drop(func(c access.Caller) bool { return c.Kind == access.Local })
	n.log.Info("groups changed, local programs log in again")
}

// groupLines are those of the named groups, never nil.
func groupLines(raw []byte, names ...string) []byte {
	out := []byte{}
	for line := range bytes.Lines(raw) {
		for _, name := range names {
			if strings.HasPrefix(string(line), name+":") {
				out = append(out, line...)
			}
		}
	}
	return out
}
