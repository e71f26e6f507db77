package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/mirror"
	"understudy/repset"
)

// What a saved replication set changes in its connections (B5.43): the rules count from
// the next change on, and a difference mirror brings what they added. New root
// directories need a connection of their own making: their place on the target and their
// capture are agreed on when it is made (B5.44).

// config is the connection's configuration as it is now.
func (c *Connection) config() ConnectionConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg
}

// currentRules are those in force.
func (c *Connection) currentRules() *repset.Rules {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rules
}

// setSaved returns a channel that is closed when the set is saved next.
func (c *Connection) setSaved() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saved == nil {
		c.saved = make(chan struct{})
	}
	return c.saved
}

// setChanged puts a saved set into effect on its connections, and says what the operator
// has to know.
func (n *Node) setChanged(set repset.Set) (notes []string) {
	rules, err := set.Compile()
	if err != nil {
		return []string{err.Error()} // it was checked before it was saved
	}
	n.mu.Lock()
	var list []*Connection
	for _, c := range n.conns {
		if strings.EqualFold(c.cfg.Set, set.Name) {
			list = append(list, c)
		}
	}
	n.mu.Unlock()
	slices.SortFunc(list, func(a, b *Connection) int { return a.ID - b.ID })
	for _, c := range list {
		if note := c.changeRules(set, rules); note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

// changeRules gives a connection the rules of the saved set.
func (c *Connection) changeRules(set repset.Set, rules *repset.Rules) (note string) {
	defer c.tellSaved()
	var written []string
	for _, r := range set.Rules {
		written = append(written, r.String())
	}
	before := c.currentRules()
	switch {
	case slices.Equal(before.Rules(), rules.Rules()):
		return ""
	case !slices.Equal(c.n.roots(before), c.n.roots(rules)):
		return fmt.Sprintf("connection %d to %s goes on with the old rules, since the directories are others: disconnect it and connect it again", c.ID, c.cfg.Target)
	}
	c.mu.Lock()
	c.rules, c.cfg.Rules, c.size = rules, written, repset.Size{}
	s := c.session
	c.mu.Unlock()
	c.store(func(st *storedConnection) { st.Rules = written })
	c.log.Info("rules changed", "set", set.Name, "generation", set.Generation)
	if s == nil {
		return "" // the next session begins with a mirror
	}
	s.mirror.SetRules(rules)
	if c.n.conf().AutoRemirror == RemirrorNone {
		return fmt.Sprintf("connection %d to %s needs a mirror for what the rules added, and AutoRemirror is 0: mirror start %d different", c.ID, c.cfg.Target, c.ID)
	}
	s.order(mirror.Options{Mode: mirror.Diff, Checksum: true})
	return fmt.Sprintf("connection %d to %s has the new rules, a mirror brings what they added", c.ID, c.cfg.Target)
}

func (c *Connection) tellSaved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saved != nil {
		close(c.saved)
		c.saved = nil
	}
}

// alsoIn names the other connected sets that hold files of a connection's set. Each
// delivers them to its target: what one connection carries depends on no other.
func (n *Node) alsoIn(c *Connection) (notes []string) {
	n.mu.Lock()
	var others []*Connection
	for _, o := range n.conns {
		if o != c && !strings.EqualFold(o.cfg.Set, c.cfg.Set) {
			others = append(others, o)
		}
	}
	n.mu.Unlock()
	slices.SortFunc(others, func(a, b *Connection) int { return a.ID - b.ID })
	for _, o := range others {
		if dir, ok := n.sharedRoot(c.currentRules(), o.currentRules()); ok {
			notes = append(notes, fmt.Sprintf("files below %s are in replication set %s as well (connection %d): both connections send them", dir, o.cfg.Set, o.ID))
		}
	}
	return notes
}

// connectNotes is what to know of a connection that was made.
func (n *Node) connectNotes(id int, err error) []string {
	if err != nil {
		return nil
	}
	c, err := n.connection(id)
	if err != nil {
		return nil // ended meanwhile
	}
	return append(n.alsoIn(c), c.forwardNote()...)
}

// sharedRoot finds a root of one set whose files the other may hold, too.
func (n *Node) sharedRoot(a, b *repset.Rules) (string, bool) {
	for _, pair := range [][2]*repset.Rules{{a, b}, {b, a}} {
		for _, inner := range n.roots(pair[0]) {
			for _, outer := range n.roots(pair[1]) {
				if repset.Within(outer, inner) && pair[1].Leads(inner) {
					return inner, true
				}
			}
		}
	}
	return "", false
}

// calculate measures the set of a connection that begins, so that its mirror has a
// percentage (CalculateOnConnect). The mirror does not wait for it.
func (s *session) calculate(ctx context.Context) error {
	c := s.c
	c.mu.Lock()
	known := c.size != repset.Size{}
	rules := c.rules
	c.mu.Unlock()
	if known || !c.n.conf().CalculateOnConnect {
		return nil
	}
	sz, err := c.n.measure(ctx, rules)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("replication set not measured, its mirror has no percentage", "err", err)
		}
		return nil
	}
	c.mu.Lock()
	if c.rules == rules {
		c.size = sz
	}
	c.mu.Unlock()
	s.mirror.Measured(uint64(sz.Files), uint64(sz.Bytes))
	return nil
}

// measure walks what the rules select, or with CalculateByVolume asks the volumes what
// they use: at once, and too much where a set is only a part of them (B5.57).
func (n *Node) measure(ctx context.Context, rules *repset.Rules) (repset.Size, error) {
	places, done, err := n.beneath(n.roots(rules))
	defer done()
	if err != nil {
		return repset.Size{}, err
	}
	if !n.conf().CalculateByVolume {
		return repset.Measure(ctx, rules, places, nil)
	}
	var sz repset.Size
	seen := map[unix.Fsid]bool{}
	for _, p := range places {
		var st unix.Statfs_t
		if err := unix.Statfs(p.At, &st); err != nil {
			return sz, control.Errorf(control.BadRequest, "", "measure %s: %v", p.Root, err)
		}
		if !seen[st.Fsid] {
			seen[st.Fsid] = true
			sz.Bytes += int64(st.Blocks-st.Bfree) * st.Bsize
			sz.Files += int64(st.Files - st.Ffree)
		}
	}
	return sz, nil
}
