package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"understudy/control"
	"understudy/internal/failpoint"
	"understudy/stream"
)

// How restorations end, and what is known of them afterwards.

// restores are the ended restorations.
type restores struct {
	mu    sync.Mutex // guards what follows
	ended map[int]*endedRestore
}

// endedRestore is one that ended, or is being disconnected.
type endedRestore struct {
	report control.Restore
	over   chan struct{} // closed when it is disconnected
}

func (n *Node) restoring(number int) *Connection {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.cfg.Restore != nil && c.cfg.Restore.Number == number {
			return c
		}
	}
	return nil
}

// restoreStatus waits for the end of a restoration, for a while.
func (n *Node) restoreStatus(ctx context.Context, number int, wait time.Duration) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, min(wait, maxWaitVerb))
	defer cancel()
	c := n.restoring(number)
	if c != nil {
		select {
		case <-c.done:
		case <-ctx.Done():
			return c.restoreReport("restoring", nil), nil
		}
	}
	n.restores.mu.Lock()
	e := n.restores.ended[number]
	n.restores.mu.Unlock()
	if e == nil {
		return n.storedRestore(number)
	}
	select {
	case <-e.over:
		return e.report, nil
	case <-ctx.Done():
		out := e.report
		out.State = "restoring"
		return out, nil
	}
}

// storedRestore tells of a restoration whose connection does not run: the daemon is
// starting.
func (n *Node) storedRestore(number int) (any, error) {
	var out *control.Restore
	n.state.read(func(d *stateData) {
		for i := range d.Connections {
			if c := &d.Connections[i]; c.Restore != nil && c.Restore.Number == number {
				out = &control.Restore{ID: number, State: "restoring", Set: c.Restore.Set, From: n.cfg.Name, To: c.Target, Percent: -1}
			}
		}
	})
	if out == nil {
		return nil, control.Errorf(control.NotFound, "", "no restoration %d", number)
	}
	return *out, nil
}

func (c *Connection) restoreReport(state string, err error) control.Restore {
	out := control.Restore{ID: c.cfg.Restore.Number, State: state, Set: c.cfg.Restore.Set, From: c.n.cfg.Name, To: c.cfg.Target, Percent: -1}
	if s := c.current(); s != nil {
		p := s.mirror.Progress()
		out.Percent, out.Files, out.Left, out.Bytes = p.Percent, p.Files, p.Skipped, p.Sent
	}
	if err != nil {
		out.Error = err.Error()
	}
	c.verifying.mu.Lock()
	out.Orphans = c.verifying.report.Totals.Treated
	c.verifying.mu.Unlock()
	return out
}

// restored goes on when the mirror of a restoration has ended: it waits until everything is
// applied, looks for orphans where that is asked for, and ends the connection.
func (c *Connection) restored(err error) {
	ctx := c.n.ctx
	if err == nil {
		err = c.settle(ctx)
	}
	if err == nil { // a machine that was killed meanwhile lost records, and is healed by another mirror
		err = c.await(ctx, func() bool {
			s := c.current()
			return s != nil && s.mirrorIdle() && s.lastAck().Usable
		})
	}
	failpoint.Hit(failpoint.RestoreMirrored)
	if err == nil && c.cfg.Restore.Orphans {
		err = c.treatOrphans(ctx)
	}
	if err == nil {
		err = c.durable(ctx)
	}
	failpoint.Hit(failpoint.RestoreDurable)
	if err == nil && c.cfg.Restore.Repset {
		err = c.restoreSet(ctx)
	}
	if ctx.Err() != nil {
		return // it goes on with the next start
	}
	state := "done"
	if err != nil {
		state = "failed"
	} else {
		c.n.cameHome(c.cfg.Restore)
	}
	if _, err := c.n.endRestore(ctx, c, state, err); err != nil {
		c.log.Warn("restoration not ended in good order", "err", err)
	}
}

// durable waits until what was logged before the call is applied and on the other machine's
// disk. Nobody sends it again once the connection is gone: a machine that is killed goes back
// to its last checkpoint.
func (c *Connection) durable(ctx context.Context) error {
	for {
		if err := c.settle(ctx); err != nil {
			return err
		}
		s := c.current()
		if s == nil {
			continue // settle waits for the next
		}
		seq, k := s.journal.Last()
		safe, moved := false, false
		err := c.await(ctx, func() bool {
			a := s.lastAck()
			moved = c.current() != s || !s.mirrorIdle() || !s.mirrorArrived(a)
			safe = a.DurableOp >= seq && a.DurableMirror >= k
			return moved || safe
		})
		if err != nil || safe && !moved {
			return err
		}
	}
}

// restoreSet has the other machine store this one's copy of the set. What a cut link lost
// is said again.
func (c *Connection) restoreSet(ctx context.Context) error {
	for {
		b, err := c.n.backup(c.cfg.Restore.Original, c.cfg.Restore.Set)
		if err != nil {
			return err
		}
		s := c.current()
		if s == nil {
			if err := c.settle(ctx); err != nil { // waits for the next
				return err
			}
			continue
		}
		s.waitLink(ctx)
		b.Source = c.n.cfg.Name
		_, err = s.link.Request(ctx, backupSubject(c.n.cfg.Name, c.key), encodeJSON(b))
		if remote := new(stream.RemoteError); err == nil || ctx.Err() != nil || errors.As(err, &remote) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.n.conf().NetworkRetry):
		}
	}
}

// endRestore notes the outcome and disconnects.
func (n *Node) endRestore(ctx context.Context, c *Connection, state string, cause error) (any, error) {
	e := &endedRestore{report: c.restoreReport(state, cause), over: make(chan struct{})}
	n.restores.mu.Lock()
	if n.restores.ended == nil {
		n.restores.ended = map[int]*endedRestore{}
	}
	if before := n.restores.ended[e.report.ID]; before != nil {
		n.restores.mu.Unlock()
		return before.report, nil // it is ending
	}
	n.restores.ended[e.report.ID] = e
	delete(n.restores.ended, e.report.ID-maxRestores)
	n.restores.mu.Unlock()
	defer close(e.over)
	c.log.Info("restoration ended", "set", e.report.Set, "state", state, "files", e.report.Files, "bytes", e.report.Bytes, "err", cause)
	failpoint.Hit(failpoint.RestoreEnding)
	err := n.Disconnect(context.WithoutCancel(ctx), c.ID)
	failpoint.Hit(failpoint.RestoreEnded)
	if ce := new(control.Error); errors.As(err, &ce) && ce.Code == control.NotFound {
		err = nil // somebody else ended it
	}
	return e.report, err
}
