package node

import (
	"context"
	"errors"
	"time"

	"understudy/capture"
	"understudy/control"
	"understudy/event"
	"understudy/fileop"
	"understudy/mirror"
)

// The mirror driver of a session: it runs what is ordered, repeats what was lost, and
// between runs follows hints and what came in across the border.

// order asks for a run in place of the one ordered before.
func (s *session) order(o mirror.Options) {
	if !s.c.replicationOff() {
		s.orders.put(o)
	}
}

// heal asks for a run that makes good what was lost, and leaves one that is ordered.
func (s *session) heal() {
	if !s.c.replicationOff() {
		s.orders.putHeal()
	}
}

// driveMirror runs what is ordered, one after another.
func (s *session) driveMirror(ctx context.Context) error {
	s.joined(ctx)
	if !s.orders.busy() { // a daemon before this one ran it
		s.afterMirror(nil)
	}
	for {
		o, ok := s.orders.take()
		if !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-s.orders.wake:
			}
			continue
		}
		if s.c.replicationOff() {
			s.orders.done()
			continue
		}
		s.mirrorActive(true)
		s.mirrorBegun(o)
		if s.c.wasMirrored() { // not of the first one
			s.mirrorScript(ctx, "mirrorstart")
		}
		err := s.runMirror(ctx, o)
		s.mirrorActive(false)
		if ctx.Err() != nil {
			return nil
		}
		s.mirrorScript(ctx, scriptAfter(err))
		s.finished(err)
		s.mirrorEnded(err)
		s.afterMirror(err)
	}
}

// follow keeps one of the mirror's followers at work; when it says that the target
// lacks something, everything is compared.
func (s *session) follow(ctx context.Context, follower func(context.Context) error) error {
	for {
		err := follower(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.c.log.Warn("target lacks something, comparing everything", "err", err)
		s.heal()
		select {
		case <-ctx.Done():
		case <-time.After(s.c.n.conf().NetworkRetry):
		}
	}
}

// runMirror runs one mirror; what was lost on the way is sent again by comparing.
func (s *session) runMirror(ctx context.Context, o mirror.Options) error {
	for {
		s.waitLink(ctx)
		if s.c.replicationOff() {
			return mirror.ErrStopped
		}
		if err := s.listenForward(ctx); err != nil {
			return err
		}
		s.measured(&o)
		if r := s.c.cfg.Restore; r != nil {
			s.mu.Lock()
			o = r.options(s.since)
			s.mu.Unlock()
		}
		err := s.mirror.Run(ctx, o)
		if ctx.Err() != nil || err == nil || errors.Is(err, mirror.ErrStopped) || errors.Is(err, mirror.ErrIncomplete) {
			return err
		}
		if s.journal.Err() != nil {
			return err
		}
		s.c.raise(event.MirrorRepeated, s.c.ID, err)
		o = repeated(o, s.wasEmpty)
		select {
		case <-ctx.Done():
		case <-time.After(s.c.n.conf().NetworkRetry):
		}
	}
}

// lostMirror ends what is being mirrored, because records may be lost on the way, and
// has everything compared again. applied is what the target has of the mirror's records; if
// that is all of them and none are being made, nothing was under way.
func (s *session) lostMirror(applied fileop.Seq) {
	if _, last := s.journal.Last(); !s.mirror.Ordered() && last <= applied {
		return // a batch of hints is sent over the new link
	}
	ended := s.mirror.Aborted()
	s.requests.end()
	if ended { // else whoever runs it begins a new one
		s.heal()
	}
}

// fidelity is the least of the session's captures.
func (s *session) fidelity() (backend, fidelity string, orderKept bool) {
	least := capture.WriteOrder
	for _, c := range s.captures {
		if f := c.backend.Fidelity(); f <= least {
			least, backend, fidelity = f, c.name, f.String()
		}
	}
	return backend, fidelity, least == capture.WriteOrder
}

// waitLink waits until the target can be asked.
func (s *session) waitLink(ctx context.Context) {
	for !s.link.Up() && ctx.Err() == nil {
		changed := s.link.Changed()
		if s.link.Up() {
			return
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}

// measured adds the size of the set, where it was calculated (B5.53).
func (s *session) measured(o *mirror.Options) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	o.TotalFiles, o.TotalBytes = uint64(s.c.size.Files), uint64(s.c.size.Bytes)
}

// mirrorActive tells the captures, which then log copied ranges as plain writes: the
// target may not have the source of the copy yet.
func (s *session) mirrorActive(on bool) {
	for _, cap := range s.captures {
		if cap.stacked != nil {
			cap.stacked.SetMirrorActive(on)
		}
	}
}

// finished notes the outcome.
func (s *session) finished(err error) {
	seq, k := s.journal.Last()
	s.mu.Lock()
	s.mirrErr, s.mirrored = err, nil
	if err == nil {
		s.mirrored = &end{seq, k}
	}
	s.mu.Unlock()
	s.orders.done()
	if err == nil {
		s.c.mirrorEnded()
		s.c.mirroredOnce()
	}
	s.c.note(err)
	if s.c.cfg.Restore != nil {
		s.c.n.wait.Go(func() { s.c.restored(err) })
	}
}

// mirrorIdle reports whether nothing is left to mirror.
func (s *session) mirrorIdle() bool {
	return !s.orders.busy() && s.mirror.Idle()
}

// lookAgain makes captures that only get hints look at everything, so that what
// happened before the call is seen.
func (s *session) lookAgain() {
	if s.c.cfg.Restore != nil {
		return // one mirror is all it does
	}
	for i, cap := range s.captures {
		if cap.sync != nil {
			if err := cap.sync(); err != nil {
				s.c.log.Warn("events not read", "dir", cap.dir, "err", err)
			}
		}
		if !cap.exact() {
			s.mirror.Dirty(i, relative(cap.dir, s.c.pairs[i].From), true)
		}
	}
}

// fill completes the status of the connection.
func (s *session) fill(out *control.Connection) {
	p, js, ts := s.mirror.Progress(), s.journal.Stats(), s.sender.Stats()
	s.mu.Lock()
	a, down, mirrErr := s.ack, s.linkDown, s.mirrErr
	s.mu.Unlock()
	busy := s.orders.busy()
	last, _ := s.journal.Last()
	out.Transmit = s.c.transmitWord(down)
	out.Mirror, out.MirrorPercent = mirrorWords[p.State], p.Percent
	out.MirrorFiles, out.MirrorBytes = int64(p.Files), int64(p.Sent)
	if busy && out.Mirror == "Idle" {
		out.Mirror = "Mirroring"
	}
	out.Replication = "Replicating"
	if s.c.replicationOff() {
		out.Replication = "Stopped"
		if !s.c.wished().Once {
			out.Mirror = "Remirror required"
		}
	}
	if out.Mirror == "Idle" && out.MirrorPercent < 0 && mirrErr == nil && s.c.wasMirrored() {
		out.MirrorPercent = 100 // before the daemon was started again, or unmeasured
	}
	out.SentBytes = int64(ts.WireBytes)
	if last > a.Applied {
		out.QueuedOps, out.QueuedBytes = uint64(last-a.Applied), int64(js.StoredBytes)+js.MemoryBytes
	}
	u := s.usage()
	out.QueueLimit, out.QueuePercent = u.limit, u.percent
	out.LagMS = float64(s.lag.now().Microseconds()) / 1000
	out.TargetState = a.State
	if down || a.State == "" {
		out.TargetState = "Unreachable"
	}
	if down && s.link.Held() {
		out.TargetState = "Unknown"
	}
	out.Capture, out.Fidelity, out.OrderKept = s.fidelity()
	out.Epoch = epochText(s.epoch)
	out.Mirrors = s.c.mirrors.Load()
	out.CapturedOp, out.AppliedOp = uint64(last), uint64(a.Applied)
	if out.LastError == "" {
		out.LastError = a.Err
	}
	if out.LastError == "" && ts.TargetFull { // it waits, in order
		out.LastError = ts.LastError
	}
	if out.LastError == "" && mirrErr != nil {
		out.LastError = mirrErr.Error()
	}
}
