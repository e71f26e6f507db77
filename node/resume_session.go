package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"understudy/mirror"
	"understudy/stream"
)

// A session outlives the daemon: the holder keeps the tail of its journal, and the next
// daemon goes on in the same epoch with the same numbers. It needs no target for that,
// since applications wait until it has happened.

// resumeSessions goes on with the sessions whose tails the holder has. It is called
// between adopting the captures and serving them. What cannot be resumed begins a new
// epoch, as after any other end.
func (n *Node) resumeSessions() {
	if n.holder == nil {
		return
	}
	names, err := n.holder.Names()
	if err != nil {
		n.log.Error("sessions not resumed", "err", err)
		return
	}
	for _, name := range names {
		key, ok := strings.CutPrefix(name, tailPrefix)
		if !ok {
			continue
		}
		began := time.Now()
		c, err := n.resumeSession(name, key)
		if err != nil {
			n.log.Warn("session not resumed, a new one compares", "err", err)
			if err := n.holder.Drop(name); err != nil {
				n.log.Warn("tail not dropped", "err", err)
			}
			continue
		}
		c.log.Info("session resumed", "epoch", epochText(c.resumed.epoch), "quiet", !c.resumed.givenUp, "took", time.Since(began))
		n.mu.Lock()
		n.startConnection(c)
		n.mu.Unlock()
	}
}

func (n *Node) resumeSession(name, key string) (*Connection, error) {
	st, ok := n.storedConnection(key)
	if !ok {
		return nil, fmt.Errorf("no connection %s", key)
	}
	raw, files, err := n.holder.Take(name)
	if err != nil {
		return nil, err
	}
	c, t, err := n.adopt(st, raw, files)
	if err != nil {
		return nil, err
	}
	if c.resumed, err = c.resume(n.ctx, t); err != nil {
		return nil, err
	}
	return c, nil
}

// resume continues the session of an epoch whose daemon was killed or replaced: behind
// its last operation, and with a mirror only if the moment was not quiet.
func (c *Connection) resume(ctx context.Context, t *stream.Tail) (_ *session, err error) {
	quiet, d := t.State()
	s := &session{c: c, epoch: t.Epoch(), orders: newOrders(false), began: lately(), givenUp: !quiet, outdated: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			t.Kill()
			s.close()
			err = errors.Join(err, t.Close())
		}
	}()
	if err := s.resumedCaptures(); err != nil {
		return nil, err
	}
	n := c.n
	if s.journal, err = n.srv.OpenJournal(s.ctx, s.journalConfig(t)); err != nil {
		return nil, err
	}
	s.link, err = stream.Dial(s.ctx, stream.LinkConfig{Addr: c.address(), Peer: c.cfg.Target, Keys: n.keys, Log: c.log, Later: true})
	if err != nil {
		return nil, err
	}
	s.prepare(t)
	last, k := s.journal.Last()
	s.mirror.Continue(last, quiet)
	if quiet {
		s.mirrored = &end{last, k}
	} else {
		s.order(mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: d.All, Since: d.Since})
	}
	return s, s.attach()
}

// resumedCaptures takes the captures that were adopted. Nothing is served yet, so no
// path is looked at.
func (s *session) resumedCaptures() error {
	n := s.c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range s.c.pairs {
		cap := n.findStacked(p.From)
		if cap == nil {
			return fmt.Errorf("%s: its capture was not resumed", p.From)
		}
		cap.users++
		s.captures = append(s.captures, cap)
	}
	return nil
}

// takeResumed returns, once, the session that was resumed.
func (c *Connection) takeResumed(ctx context.Context) *session {
	c.mu.Lock()
	s := c.resumed
	c.resumed = nil
	c.mu.Unlock()
	if s != nil {
		context.AfterFunc(ctx, func() { s.cancel(context.Cause(ctx)) })
	}
	return s
}

// resumes reports whether a queue found in the store belongs to a session that goes on.
func (n *Node) resumes(q stream.Stored) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.mu.Lock()
		s := c.resumed
		if s == nil {
			s = c.session
		}
		c.mu.Unlock()
		if s != nil && !q.Target && stream.Token(c.key) == q.Connection && s.epoch == q.Epoch {
			return true
		}
	}
	return false
}

// joined waits until the target has agreed to go on.
func (s *session) joined(ctx context.Context) {
	_ = s.c.await(ctx, func() bool {
		return s.joinedBefore()
	})
}

func (s *session) joinedBefore() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joinedAt != 0
}

// joinedNow reports whether the target's reports tell of its present state: no join is due.
// While a schedule keeps the line shut, its last report has to do.
func (s *session) joinedNow() bool {
	shut := !s.c.limits.open()
	s.mu.Lock()
	defer s.mu.Unlock()
	return (shut || s.link.Up() && s.joinedAt == s.link.Generation()) && s.told <= s.joins
}

func (s *session) setJoined(gen uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joinedAt = gen
}

// leave lets go of a session that the next daemon resumes: everything stays as it is.
// The captures have ended first, so that no operation is refused.
func (s *session) leave() {
	for _, cap := range s.captures {
		<-cap.done
	}
	s.link.Close()
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := s.journal.Close(ctx); err != nil {
		s.c.log.Debug("queue left with operations in its tail", "err", err)
	}
	s.releaseCaptures()
}
