package node

import (
	"context"
	"errors"

	"understudy/control"
	"understudy/event"
)

// Replication of a connection, by hand. While it is stopped changes are not queued: what
// was queued before is still sent and applied, and the replica stays the state of the
// source at that moment. Starting it again begins a new session, with a mirror that makes
// good what was missed (B8.8).

// errReplication ends a session whose changes are queued again by the next one.
var errReplication = errors.New("replication starts again")

// replicates obeys a request for one connection.
func (n *Node) replicates(ctx context.Context, req control.ReplicationRequest) (any, error) {
	if t := n.trialOf(req.ID); t != nil {
		return nothing{}, t.replicate(!req.Stop)
	}
	c, err := n.connection(req.ID)
	if err != nil {
		return nil, err
	}
	if !req.Stop {
		c.wish(func(w *wishes) { w.Once = false })
	}
	if c.replicationOff() == req.Stop {
		return nothing{}, nil
	}
	if req.Stop {
		c.replicateNoMore(c.current())
		return nothing{}, nil
	}
	c.setReplication(false)
	return nothing{}, c.replicateAnew(ctx)
}

func (c *Connection) setReplication(off bool) {
	c.mu.Lock()
	c.noReplication = off
	c.mu.Unlock()
	c.store(func(st *storedConnection) { st.NoReplication = off })
}

// replicateNoMore stops replication; s is the present session, or nil.
func (c *Connection) replicateNoMore(s *session) {
	c.setReplication(true)
	if s != nil {
		s.stopReplication()
	}
	c.tell(event.ReplicateStopped)
	c.signal()
}

// replicateAnew has the next session begin, with its mirror.
func (c *Connection) replicateAnew(ctx context.Context) error {
	defer c.signal()
	s := c.current()
	if s == nil {
		c.unpark(parkReplication, nil)
		return nil
	}
	s.cancel(errReplication)
	return c.await(ctx, func() bool { return c.current() != s })
}

// replicationOff reports whether changes are not queued.
func (c *Connection) replicationOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.noReplication
}

// stopReplication ends the queueing of changes in a session that goes on. A mirror ends
// too: without the changes beside it, it would be of no moment. No daemon after this one
// goes on behind the session, and no clean mark is taken: changes are not watched.
func (s *session) stopReplication() {
	if t := s.journal.Tail(); t != nil {
		t.Kill()
	}
	s.unhook()
	s.mirror.Deaf()
	s.mirror.Stop()
	s.marking.Lock()
	defer s.marking.Unlock()
	if err := s.c.n.lessenMark(s.c.key); err != nil {
		s.c.log.Error("clean mark not changed", "err", err)
	}
}

// unhook takes the session's borders off the captures. It may be called again.
func (s *session) unhook() {
	s.mu.Lock()
	list := s.detach
	s.detach = nil
	s.mu.Unlock()
	for _, f := range list {
		f()
	}
}
