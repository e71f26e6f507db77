package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"understudy/control"
	"understudy/internal/access"
	"understudy/internal/atomicfile"
	"understudy/internal/pamlogin"
	"understudy/stream"
)

// Who may come in, and what for.

// errLogin is all that somebody learns whose login is refused: not whether the user
// exists, nor whether the password was right.
var errLogin = errors.New("user and password are not accepted here")

// maxChecks bounds the password checks at a time, each a process of its own.
const maxChecks = 8

// gate decides who comes in.
type gate struct {
	invites  *access.Invites
	throttle *access.Throttle
	tokens   localTokens
	checks   chan struct{} // holds a token for each running password check
}

func newGate() *gate {
	g := &gate{invites: access.NewInvites(), throttle: access.NewThrottle(), checks: make(chan struct{}, maxChecks)}
	g.tokens.file = groupFile
	g.tokens.renew()
	return g
}

// admit is asked by the door about everybody who comes.
func (n *Node) admit(ctx context.Context, a access.Attempt) (stream.Grant, error) {
	var c access.Caller
	var err error
	switch {
	case a.User == control.InvitedUser:
		err = n.gate.throttle.Try(ctx, a.From, func() (err error) { c, err = n.admitInvited(a); return err })
	case a.User != "":
		err = n.gate.throttle.Try(ctx, a.From, func() (err error) { c, err = n.admitUser(ctx, a); return err })
	case a.Token != "":
		c, err = n.admitLocal(a.Token)
	case a.NKey != "":
		c, err = n.admitScript(a.NKey)
	case !a.Key.IsZero():
		return n.admitMachine(a)
	default:
		c = access.Caller{Kind: access.Guest}
	}
	if err != nil {
		n.counts.refused.Add(1)
		n.log.Warn("login refused", "from", a.From.String(), "user", loggable(a.User), "err", err)
		return stream.Grant{}, publicly(err)
	}
	if c.Kind == access.Invited {
		return stream.Grant{Caller: c, Publish: []string{control.PairSubject}}, nil
	}
	if c.Kind != access.Guest {
		n.counts.logins.Add(1)
		n.log.Info("logged in", "caller", c.String(), "level", c.Level.String(), "from", a.From.String())
	}
	return stream.Grant{Caller: c, Publish: control.Subjects(n.cfg.Name, c.Level)}, nil
}

// loggable bounds what a stranger writes into the log.
func loggable(user string) string { return user[:min(len(user), 100)] }

// publicly is what the one who is refused may know.
func publicly(err error) error {
	for _, known := range []error{errLogin, access.ErrInvite, access.ErrBusy, pamlogin.ErrUnavailable} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("not admitted")
}

func (n *Node) admitMachine(a access.Attempt) (stream.Grant, error) {
	name, ok := n.keys.Meet(a.Key)
	if !ok {
		n.log.Warn("machine refused: not paired", "from", a.From.String(), "key", a.Key.Short())
		return stream.Grant{}, fmt.Errorf("%s is not paired with the machine that has key %s", n.cfg.Name, a.Key.Short())
	}
	g := stream.PeerGrant(access.Caller{Kind: access.Machine, Name: name, Key: a.Key}, n.cfg.Name)
	g.Publish = append(g.Publish, control.Subjects(n.cfg.Name, access.None)...)
	return g, nil
}

func (n *Node) admitInvited(a access.Attempt) (access.Caller, error) {
	if a.Key.IsZero() {
		return access.Caller{}, access.ErrNoKey
	}
	if err := n.gate.invites.Take(a.Password, a.Key); err != nil {
		return access.Caller{}, err
	}
	return access.Caller{Kind: access.Invited, Name: a.Key.Short(), Key: a.Key}, nil
}

func (n *Node) admitLocal(token string) (access.Caller, error) {
	level, ok := n.gate.tokens.level(token)
	if !ok {
		return access.Caller{}, errors.New("token of another start of the daemon, or from before a group changed")
	}
	return access.Caller{Kind: access.Local, Name: level.String(), Level: level}, nil
}

func (n *Node) admitScript(nkey string) (access.Caller, error) {
	s, ok := n.keys.ScriptOf(nkey)
	level, known := access.ParseLevel(s.Level)
	if !ok || !known {
		return access.Caller{}, errors.New("key is not known")
	}
	return access.Caller{Kind: access.Script, Name: s.Name, Level: level}, nil
}

// admitUser lets in users of this machine's operating system (B15.2). Whose password is
// right and who is in no group has no more access than a guest (B15.6).
func (n *Node) admitUser(ctx context.Context, a access.Attempt) (access.Caller, error) {
	select {
	case n.gate.checks <- struct{}{}:
		defer func() { <-n.gate.checks }()
	case <-ctx.Done():
		return access.Caller{}, context.Cause(ctx)
	}
	name, err := pamlogin.Check(ctx, n.cfg.LoginCommand, a.User, a.Password)
	if errors.Is(err, pamlogin.ErrDenied) {
		return access.Caller{}, fmt.Errorf("%w: %w", errLogin, err)
	}
	if err != nil {
		return access.Caller{}, err
	}
	level, err := n.levelOf(name)
	if err != nil {
		return access.Caller{}, err
	}
	return access.Caller{Kind: access.User, Name: name, Level: level}, nil
}

// levelOf is what a user's groups give; root may everything (B15.3, B15.7, B15.10).
func (n *Node) levelOf(name string) (access.Level, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return access.None, fmt.Errorf("groups of user: %w", err)
	}
	if u.Uid == "0" {
		return access.Admin, nil
	}
	ids, err := u.GroupIds()
	if err != nil {
		return access.None, fmt.Errorf("groups of user: %w", err)
	}
	level := access.None
	for _, id := range ids {
		g, err := user.LookupGroupId(id)
		switch {
		case err != nil:
		case g.Name == n.cfg.AdminGroup:
			return access.Admin, nil
		case g.Name == n.cfg.MonitorGroup:
			level = access.Monitor
		}
	}
	return level, nil
}

// recheckGroups is how long a user keeps rights that the groups do not give any more.
const recheckGroups = 15 * time.Second

// watchAccess says whether passwords can be checked here, ends sessions whose user has
// other rights by now, and tells paired machines the next key of this one, if it is to
// change.
func (n *Node) watchAccess(ctx context.Context) {
	if len(n.cfg.LoginCommand) > 0 {
		if err := pamlogin.Probe(ctx, n.cfg.LoginCommand); err != nil && ctx.Err() == nil {
			n.log.Warn("no logins with passwords", "err", err)
		}
	}
	n.recheckLocal()
	atEach(ctx, cmp.Or(n.cfg.RecheckGroups, recheckGroups), func() {
		n.recheck()
		n.recheckLocal()
		if next, _ := n.keys.Rotating(); !next.IsZero() {
			n.goOnRotating(ctx)
		}
	})
}

// recheck ends sessions of users whose level changed.
func (n *Node) recheck() {
	changed := map[access.Caller]bool{}
	for _, c := range n.srv.Callers() {
		if _, seen := changed[c]; seen || c.Kind != access.User {
			continue
		}
		level, err := n.levelOf(c.Name)
		changed[c] = err != nil || level != c.Level
		if changed[c] {
			n.log.Warn("rights changed, session ends", "caller", c.String(), "had", c.Level.String())
		}
	}
	for _, ends := range changed {
		if ends { // only then: it turns away those who just come in
			n.srv.Drop(func(c access.Caller) bool { return changed[c] })
			return
		}
	}
}

// writeLocal leaves addresses and tokens for programs on this machine, readable by root
// and by the groups, where they exist.
func (n *Node) writeLocal() error {
	keys := []access.Fingerprint{n.keys.Key()}
	if next, _ := n.keys.Rotating(); !next.IsZero() {
		keys = append(keys, next)
	}
	for _, f := range []struct {
		name, group string
		level       access.Level
	}{{control.LocalMonitorFile, n.cfg.MonitorGroup, access.Monitor}, {control.LocalFile, n.cfg.AdminGroup, access.Admin}} {
		raw, err := json.Marshal(control.Local{Name: n.cfg.Name, Address: n.reachable(), Token: n.gate.tokens.of(f.level), Level: f.level.String(), Keys: keys})
		if err != nil {
			return err
		}
		if err := n.writeFor(filepath.Join(n.cfg.Data, f.name), f.group, raw); err != nil {
			return err
		}
	}
	return nil
}

// writeFor writes a file that root and a group may read. Without the group, or without
// the right to give the file to it, only the owner may.
func (n *Node) writeFor(path, group string, raw []byte) error {
	if err := atomicfile.Write(path, raw, 0o600); err != nil {
		return err
	}
	g, err := user.LookupGroup(group)
	if err != nil || os.Geteuid() != 0 {
		return nil
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group %s: %w", group, err)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("give %s to group %s: %w", path, group, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		return fmt.Errorf("give %s to group %s: %w", path, group, err)
	}
	// The group has to get to the file: passing through the directory shows nothing of it.
	return os.Chmod(n.cfg.Data, 0o711)
}

// reachable is the address for programs on this machine.
func (n *Node) reachable() string { return addressFor(n.Addr(), "127.0.0.1") }

func (n *Node) session(ctx context.Context, _ nothing) (any, error) {
	c := access.CallerOf(ctx)
	return control.Session{Caller: c.String(), Level: c.Level.String()}, nil
}
