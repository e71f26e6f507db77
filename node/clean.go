package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"understudy/fileop"
	"understudy/internal/atomicfile"
	"understudy/internal/bootid"
	"understudy/internal/checked"
)

// The clean mark says up to which operation both disks are known to hold everything, the
// source's and the target's. After the source's power was cut, or its daemon killed,
// only files changed later can differ (docs/decisions, "limited difference mirrors"):
//
//  1. Every few seconds: the number n of the last operation, the time t; then the
//     protected file systems are synced, and the target is told.
//  2. When the target has confirmed n as durable, the mark {n, t} is written.
//  3. The target keeps what operations after n touched (applier/touched.go), the source
//     the files changed in place after t (flight.go); any other change after t shows in
//     the change time of the inode.
//
// A mark is dropped when what it says may not hold, and lessened to "same boot" when
// changes are no longer watched.

// cleanEvery is the time between two marks; tests shorten it. Syncing more often costs
// writes that could have been gathered; less often, larger mirrors.
var cleanEvery = 5 * time.Second

// cleanSlack is how long before a mark a file may have been changed by an operation that
// got a later number: a change is made first and logged then. It also covers the grain
// of file times and small corrections of the clock.
var cleanSlack = 5 * time.Second

// clockBack is by how much the clock may fall behind before no file time is believed.
const clockBack = time.Second

// cleanMark is what is remembered, in a file per connection.
type cleanMark struct {
	Boot     string       `json:"boot"`
	Epoch    fileop.Epoch `json:"epoch"`
	Seq      fileop.Seq   `json:"seq"`
	Mirror   fileop.Seq   `json:"mirror"`
	At       time.Time    `json:"at"`
	Flight   uint64       `json:"flight"`    // first generation of files changed in place that counts
	SameBoot bool         `json:"same_boot"` // of no use after a power cut
}

func (n *Node) markPath(key string) string { return filepath.Join(n.cfg.Data, "clean", key) }

// readMark returns the mark of a connection. fs.ErrNotExist: there is none.
func (n *Node) readMark(key string) (m cleanMark, err error) {
	raw, err := os.ReadFile(n.markPath(key))
	if err == nil {
		raw, err = checked.Open(raw)
	}
	if err == nil {
		err = json.Unmarshal(raw, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read clean mark: %w", err)
	}
	return m, nil
}

func (n *Node) writeMark(key string, m cleanMark) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(n.markPath(key)), 0o700); err != nil {
		return fmt.Errorf("write clean mark: %w", err)
	}
	return atomicfile.Write(n.markPath(key), checked.Seal(raw), 0o600)
}

// dropMark makes sure that no mark is found any more. Durable when it returns nil.
func (n *Node) dropMark(key string) error {
	err := os.Remove(n.markPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(n.markPath(key)))
	}
	if err != nil {
		return fmt.Errorf("drop clean mark: %w", err)
	}
	n.flight.need(key, 0)
	return nil
}

// openMarks finds the marks of the connections there are, and the list they need.
func (n *Node) openMarks() (err error) {
	if n.flight, err = openFlight(filepath.Join(n.cfg.Data, "flight"), n.log, n.dropMarks); err != nil {
		return err
	}
	known := map[string]bool{}
	n.state.read(func(d *stateData) {
		for i := range d.Connections {
			known[d.Connections[i].Key] = true
		}
	})
	for _, key := range n.marked() {
		m, err := n.readMark(key)
		if err != nil || !known[key] {
			if err := n.dropMark(key); err != nil {
				return err
			}
			continue
		}
		n.flight.need(key, m.Flight)
	}
	return nil
}

// marked are the connections that have a mark on disk.
func (n *Node) marked() (keys []string) {
	names, _ := os.ReadDir(filepath.Dir(n.markPath("x")))
	for _, name := range names {
		if !strings.HasPrefix(name.Name(), ".") {
			keys = append(keys, name.Name())
		}
	}
	return keys
}

// forget removes what is kept of an ended connection beside the state.
func (c *Connection) forget() {
	if err := c.n.dropMark(c.key); err != nil {
		c.log.Error("clean mark not dropped", "err", err)
	}
}

// dropMarks drops all marks: what they need can no longer be written.
func (n *Node) dropMarks() {
	for _, key := range n.marked() {
		if err := n.dropMark(key); err != nil {
			n.log.Error("clean mark not dropped", "err", err)
		}
	}
}

// lessenMark makes a mark one of this boot only: from here on files may be changed in
// place without a word. Should it fail, the mark is dropped.
func (n *Node) lessenMark(key string) error {
	m, err := n.readMark(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && m.SameBoot {
		return nil
	}
	if m.SameBoot = true; err == nil {
		err = n.writeMark(key, m)
	}
	if err != nil {
		err = errors.Join(err, n.dropMark(key))
	}
	return err
}

// cleaner keeps the clean mark of one session. Its goroutine is the session's keepClean.
type cleaner struct {
	s       *session
	pending *cleanMark // taken, and not confirmed by the target yet
	clean   *cleanMark // written
	started time.Time
	ahead   time.Duration // the most the clock was ahead of elapsed time since started
}

// keepClean takes marks and writes them, until ctx ends. Only captures in write order
// can: others learn of a change after it.
func (s *session) keepClean(ctx context.Context) error {
	c := &cleaner{s: s, started: time.Now()}
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	defer s.c.n.flight.leave(s.c.key)
	if err := s.c.n.lessenMark(s.c.key); err != nil { // files were changed unwatched since
		s.c.log.Error("clean mark not changed", "err", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !s.inWriteOrder() {
			continue
		}
		if err := c.step(ctx); err != nil && ctx.Err() == nil {
			s.c.log.Warn("clean mark not kept; a mirror after a crash would compare everything", "err", err)
			c.pending = nil
			if err := c.drop(); err != nil {
				s.c.log.Error("clean mark not dropped", "err", err)
			}
		}
	}
}

func (s *session) inWriteOrder() bool {
	return !slices.ContainsFunc(s.captures, func(c *captured) bool { return c.stacked == nil })
}

// step does what is due.
func (c *cleaner) step(ctx context.Context) error {
	s := c.s
	s.marking.Lock()
	defer s.marking.Unlock()
	if s.c.replicationOff() { // nobody watches
		c.pending, c.clean = nil, nil
		return s.c.n.lessenMark(s.c.key)
	}
	if c.clockBack() {
		c.pending = nil
		s.c.log.Warn("clock was set back; no file time before that is believed")
		return c.drop()
	}
	a := s.lastAck()
	if !a.Usable || a.Epoch != s.epoch {
		c.pending = nil
		if c.clean != nil { // the target lacks something that date and size do not show
			return c.drop()
		}
		return nil
	}
	if err := c.confirm(a); err != nil {
		return err
	}
	if c.pending != nil || !s.mirrorIdle() {
		return nil
	}
	return c.take(ctx)
}

// confirm writes the mark that was taken once the target holds it.
func (c *cleaner) confirm(a ack) error {
	s, m := c.s, c.pending
	if m == nil {
		return nil
	}
	if a.DurableOp < m.Seq || a.DurableMirror < m.Mirror {
		return nil
	}
	c.pending = nil
	if err := s.c.n.writeMark(s.c.key, *m); err != nil {
		return err
	}
	c.clean = m
	s.c.n.flight.need(s.c.key, m.Flight)
	return nil
}

// take begins a mark: from the moment it is taken to the end of the sync, whatever the
// mark covers gets to the disk.
func (c *cleaner) take(ctx context.Context) error {
	s := c.s
	last, _ := s.journal.Last()
	if c.clean != nil && last == c.clean.Seq {
		return nil // nothing happened
	}
	first, err := s.c.n.flight.mark(s.c.key)
	if err != nil || first == 0 {
		return err
	}
	m := &cleanMark{Boot: bootid.Get(), Epoch: s.epoch, At: time.Now(), Flight: first}
	m.Seq, _ = s.journal.Last()
	if !s.mirrorIdle() {
		return nil
	}
	_, m.Mirror = s.journal.Last()
	if err := s.syncTrees(); err != nil {
		return err
	}
	var told cleanMark
	if c.clean != nil {
		told = *c.clean
	}
	if err := s.tellClean(ctx, told); err != nil {
		s.c.log.Debug("target not told of the clean mark", "err", err)
		return nil // again with the next one
	}
	c.pending = m
	return nil
}

// syncTrees makes the protected file systems durable.
func (s *session) syncTrees() error {
	for _, cap := range s.captures {
		if t, ok := cap.tree.(interface{ Sync() error }); ok {
			if err := t.Sync(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cleaner) drop() error {
	c.clean = nil
	return c.s.c.n.dropMark(c.s.c.key)
}

// clockBack notices that the clock was set back since the session began or it was last
// asked.
func (c *cleaner) clockBack() bool {
	now := time.Now()
	ahead := now.Round(0).Sub(c.started.Round(0)) - now.Sub(c.started)
	c.ahead = max(c.ahead, ahead)
	if c.ahead-ahead < clockBack {
		return false
	}
	c.ahead = ahead
	return true
}
