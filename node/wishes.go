package node

import (
	"context"
	"errors"
	"fmt"

	"understudy/control"
	"understudy/mirror"
	"understudy/verifier"
)

// wishes are what the operator asked of a connection beyond a mirror that begins at once
// and changes that follow it. They outlive the daemon.
type wishes struct {
	Pending bool                   `json:"pending,omitempty"`      // no mirror begins until one is started by hand
	First   *control.MirrorRequest `json:"first_mirror,omitempty"` // until a mirror ended well; nil: the usual
	Once    bool                   `json:"mirror_only,omitempty"`  // replication stops where a mirror ended
	Orphans bool                   `json:"orphans,omitempty"`      // to be treated when the next mirror has ended
}

// errPending ends a session that was opened only to hear whether the target agrees.
var errPending = errors.New("no mirror until one is started")

// wishesOf reads what CONNECT asks for.
func (n *Node) wishesOf(req *control.ConnectRequest) (w wishes, err error) {
	w.Once, w.Orphans = req.NoReplication, req.Orphans
	changed := req.Newer || req.Checksum
	switch {
	case req.Mirror == "none" && changed, (req.Mirror == "" || req.Mirror == "full") && req.Newer:
		return w, control.Errorf(control.BadRequest, "leave one out", "connect: mirror %q with newer or checksum", req.Mirror)
	case req.Mirror == "none":
		w.Pending = true
	case req.Mirror == "diff" && req.Newer:
		w.First = &control.MirrorRequest{Mode: "diff", Newer: true, Checksum: req.Checksum}
		_, err = n.mirrorOptions(w.First)
	case req.Mirror != "" && req.Mirror != "full" && req.Mirror != "diff":
		err = control.Errorf(control.BadRequest, "full, diff or none", "connect: mirror %q", req.Mirror)
	}
	return w, err
}

// wished is what is wished now.
func (c *Connection) wished() wishes {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wishes
}

// wish changes it.
func (c *Connection) wish(change func(*wishes)) {
	c.mu.Lock()
	before := c.wishes
	change(&c.wishes)
	w := c.wishes
	c.signalLocked()
	c.mu.Unlock()
	if w != before {
		c.store(func(st *storedConnection) { st.Wishes = w })
	}
}

// stored is what is remembered of a new connection. It may have come far already.
func (c *Connection) stored() storedConnection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return storedConnection{Key: c.key, ConnectionConfig: c.cfg, Mirrored: c.mirrored, StoppedAt: c.stoppedAt,
		Transmission: c.mode, NoReplication: c.noReplication, Wishes: c.wishes, Scripts: c.scripts}
}

// wishedMirror is the first mirror that CONNECT asked for. c.mu is held.
func (c *Connection) wishedMirror() (o mirror.Options, ok bool) {
	if c.mirrored || c.wishes.First == nil {
		return o, false
	}
	o, err := c.n.mirrorOptions(c.wishes.First)
	return o, err == nil
}

// beginsNewer reports whether the next session begins with a mirror that leaves what is
// later on the target.
func (c *Connection) beginsNewer() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ordered != nil {
		return c.ordered.Newer
	}
	o, ok := c.wishedMirror()
	return ok && o.Newer
}

// mirrorAgain starts a mirror on a connection that replicates only while it mirrors.
func (n *Node) mirrorAgain(ctx context.Context, req *control.MirrorRequest) (done bool, err error) {
	c, err := n.connection(req.ID)
	if err != nil || req.Action != "start" || !c.wished().Once || !c.replicationOff() {
		return false, err
	}
	o, err := n.mirrorOptions(req)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	c.ordered = &o
	c.mu.Unlock()
	c.wish(func(w *wishes) { w.Orphans = req.Orphans })
	c.setReplication(false)
	return true, c.replicateAnew(ctx)
}

// afterMirror does what is wished for after a mirror that ended with err. A session that
// ends meanwhile leaves it to the next.
func (s *session) afterMirror(err error) {
	w := s.c.wished()
	if s.c.cfg.Restore != nil || !w.Orphans && !w.Once {
		return
	}
	s.c.n.wait.Go(func() {
		if err == nil { // what is lost on the way is sent again only as long as changes are
			err = s.c.settle(s.ctx)
		}
		if w.Orphans && err == nil {
			err = s.c.treatOrphans(s.ctx)
		}
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil && w.Orphans:
			s.c.log.Warn("orphans are left alone", "err", err)
		}
		s.c.wish(func(w *wishes) { w.Orphans = false })
		if w.Once && s.mirrorIdle() {
			s.c.replicateNoMore(s)
		}
	})
}

// treatOrphans has the target remove or set aside what only it has, and returns when
// that is done.
func (c *Connection) treatOrphans(ctx context.Context) error {
	for running := c.verifyReport(ctx, 0); running.State == "running"; { // somebody else's
		if running = c.verifyReport(ctx, maxWaitVerb); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := c.startVerify(verifier.Options{OrphansOnly: true, Treat: true}, nil); err != nil {
		return err
	}
	for {
		rep := c.verifyReport(ctx, maxWaitVerb)
		switch {
		case rep.State == "done":
			return nil
		case rep.State != "running":
			return fmt.Errorf("orphans: %s %s", rep.State, rep.Error)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

// settled waits until everything captured before the call is applied, and what is wished
// for after a mirror is done.
func (c *Connection) settled(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return err
	}
	return c.whyNot(c.await(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.wishes.Orphans && (!c.wishes.Once || c.noReplication)
	}))
}
