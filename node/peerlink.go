package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"understudy/capture"
	"understudy/control"
	"understudy/fileop"
	"understudy/mirror"
	"understudy/repset"
	"understudy/stream"
)

// join asks the target for its half of the connection. What the target gave up with it is
// made good before its reports count again.
func (s *session) join() error {
	c := s.c
	rejoin := s.journal != nil
	info := joinInfo{Source: c.n.cfg.Name, Connection: c.key, Set: c.cfg.Set, Epoch: s.epoch, Restore: c.cfg.Restore != nil, History: c.cfg.History}
	_, _, info.Ordered = s.fidelity()
	for i, p := range c.pairs {
		e, err := s.captures[i].tree.Lookup(relative(s.captures[i].dir, p.From))
		if err != nil {
			return fmt.Errorf("look at %s: %w", p.From, err)
		}
		info.Roots = append(info.Roots, joinRoot{Tree: uint32(i), Obj: e.Obj, From: p.From, Path: p.To})
	}
	req := joinRequest{Version: peerVersion, Target: c.cfg.Target, Info: info, Adopt: c.cfg.Adopt}
	if rejoin {
		_, req.AbortTo = s.journal.Last()
	}
	raw, err := json.Marshal(req)
	if err != nil {
		return err
	}
	data, err := s.link.Request(s.ctx, stream.JoinSubject, raw)
	if err != nil {
		return fmt.Errorf("join %s: %w", c.cfg.Target, err)
	}
	var reply joinReply
	if err := decodeJSON(data, &reply, "join reply"); err != nil {
		return err
	}
	if reply.Msg != "" {
		return &control.Error{Code: control.Code(reply.Code), Msg: c.cfg.Target + " refuses: " + reply.Msg, Hint: reply.Hint}
	}
	if rejoin && (s.joinedBefore() || !s.givenUp) {
		s.lostMirror(s.hasApplied(&reply, req.AbortTo))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer != reply.Session { // it counts from its start, and may have to apply again
		s.ack.MirrorLost, s.ack.Applied, s.ack.Usable, s.ack.Remirror = 0, 0, false, false
	}
	s.ack.MirrorApplied = fileop.Seq(reply.MirrorApplied) // our last report may be older
	s.peer, s.joins, s.told, s.since = reply.Session, reply.Joins, reply.Joins, reply.Since
	if s.roots == nil {
		for _, r := range info.Roots {
			s.roots = append(s.roots, r.Obj)
		}
	}
	return nil
}

// hasApplied is the last mirror record that the target surely has applied. If a join was not
// heard of, what it gave up counts as applied, and nobody knows how much that is.
func (s *session) hasApplied(reply *joinReply, asked fileop.Seq) fileop.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer == "" { // taken up by a new process, in a quiet moment: nothing was under way
		return fileop.Seq(reply.MirrorApplied)
	}
	known := s.joins
	if s.peer != reply.Session {
		known = 0
	}
	if asked > fileop.Seq(reply.MirrorApplied) {
		known++ // this join gave records up
	}
	if reply.Joins > known {
		return 0
	}
	return fileop.Seq(reply.MirrorApplied)
}

// watchLink tells the mirror when records under way may be lost, and joins again when
// the target comes back.
func (s *session) watchLink(ctx context.Context) error {
	gen := s.joinedAt // 0: the session was resumed
	for {
		changed := s.link.Changed()
		up, now := s.link.Up(), s.link.Generation()
		if up && (now != gen || s.isOutdated()) {
			if err := s.join(); err != nil {
				if refused := new(control.Error); errors.As(err, &refused) {
					return err
				}
				s.c.note(err)
				changed = closeAfter(ctx, s.c.n.conf().NetworkRetry)
			} else {
				gen = now
				s.setJoined(gen)
				s.c.note(nil)
			}
		}
		s.setLinkDown(!up)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-s.outdated:
		}
	}
}

// isOutdated reports whether the target's half was joined since it was by this session: a
// request that was given up came late.
func (s *session) isOutdated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told > s.joins
}

// closeAfter returns a channel that is closed after d, or when ctx ends.
func closeAfter(ctx context.Context, d time.Duration) <-chan struct{} {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx.Done()
}

func (s *session) setLinkDown(down bool) {
	s.mu.Lock()
	changed := s.linkDown != down
	s.linkDown = down
	s.mu.Unlock()
	if changed {
		s.c.linkEvent(!down)
		s.c.signal()
	}
}

// onAck takes the target's report.
func (s *session) onAck(data []byte) {
	var a ack
	if err := decodeJSON(data, &a, "acknowledgement"); err != nil {
		s.c.log.Warn("acknowledgement not understood", "err", err)
		return
	}
	s.mu.Lock()
	if a.Epoch != s.epoch || a.Session != s.peer || a.Joins != s.joins {
		if a.Session == s.peer && a.Joins > s.joins { // the answer is under way, or was to a request given up before
			s.told = a.Joins
			signalOn(s.outdated)
		}
		s.mu.Unlock()
		return
	}
	lost := a.MirrorLost > s.ack.MirrorLost
	s.ack = a
	s.mu.Unlock()
	if lost {
		s.lostMirror(a.MirrorApplied)
	}
	s.reported(a)
	s.remirror(a)
	s.journal.Confirm(a.DurableFrame, a.DurableOp)
	s.journal.MirrorApplied(a.MirrorApplied)
	s.lag.applied(a.Applied)
	if a.Broken != "" {
		s.cancel(fmt.Errorf("%w: target: %s", errAutoDisc, a.Broken))
	}
	s.c.signal()
}

func (s *session) lastAck() ack {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ack
}

// target asks the other side for the mirror.
type target struct{ s *session }

func (t target) ask(ctx context.Context, subject string, query []byte) ([]byte, error) {
	ctx, done := t.s.requests.until(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // the target applies what is before it first
	defer cancel()
	t.s.c.limits.valve.Charge(len(query))
	return t.s.link.Request(ctx, subject, query)
}

func (t target) List(ctx context.Context, q fileop.ListQuery) (r fileop.ListReply, err error) {
	data, err := t.ask(ctx, listSubject(t.s.c.n.cfg.Name, t.s.c.key), q.Append(nil))
	if err == nil {
		err = r.Parse(data)
	}
	return r, err
}

func (t target) Digests(ctx context.Context, q fileop.DigestQuery) (r fileop.DigestReply, err error) {
	data, err := t.ask(ctx, digestSubject(t.s.c.n.cfg.Name, t.s.c.key), q.Append(nil))
	if err == nil {
		err = r.Parse(data)
	}
	return r, err
}

// hintSink turns hints of a capture into those of a root.
type hintSink struct {
	m    *mirror.Mirror
	root int
	rel  string // the root's path below the capture's directory
}

func (h hintSink) Dirty(path string, deep bool) {
	if path, deep, ok := h.within(path, deep); ok {
		h.m.Dirty(h.root, path, deep)
	}
}

// within is a hint as it concerns the root; ok: it does.
func (h hintSink) within(path string, deep bool) (string, bool, bool) {
	switch {
	case h.rel == "" || path == h.rel || repset.Within("/"+h.rel, "/"+path):
		return path, deep, true
	case repset.Within("/"+path, "/"+h.rel) && deep:
		return h.rel, true, true
	}
	return "", false, false
}

var _ capture.HintSink = hintSink{}

// relative is path below dir without a leading slash.
func relative(dir, path string) string {
	if path == dir {
		return ""
	}
	return path[len(dir)+1:]
}
