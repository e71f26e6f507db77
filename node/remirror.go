package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"understudy/fileop"
	"understudy/mirror"
)

// end is where the journal stood when a mirror had ended.
type end struct{ seq, k fileop.Seq }

// retry spaces attempts: the first at once, later ones after twice the time each.
type retry struct {
	next  time.Time
	delay time.Duration
}

// due reports whether to try now, and if so plans the next attempt.
func (r *retry) due(now time.Time, first, longest time.Duration) bool {
	if now.Before(r.next) {
		return false
	}
	r.delay = min(max(2*r.delay, first), max(first, longest))
	r.next = now.Add(r.delay)
	return true
}

// mirrorArrived reports whether the target has applied the last mirror that ended well. One
// that was given up on the way counts as applied as well, and another took its place.
func (s *session) mirrorArrived(a ack) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mirrored == nil || a.Applied >= s.mirrored.seq && a.MirrorApplied >= s.mirrored.k
}

// waits reports whether the target, which has applied everything up to the end of the
// last mirror, is not usable without another one. It is so when it was killed while it
// applied the mirror, or found names changed by others. A mirror that an operator
// stopped, or that could not read everything, is not repeated by itself.
func (s *session) waits(a ack) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitsLocked(a)
}

func (s *session) waitsLocked(a ack) bool {
	return a.Remirror && !s.orders.busy() && s.mirrored != nil && a.Applied >= s.mirrored.seq && a.MirrorApplied >= s.mirrored.k
}

// remirror orders the difference mirror a target waits for (AutoRemirror).
func (s *session) remirror(a ack) {
	cfg := s.c.n.conf()
	s.mu.Lock()
	due := !s.c.replicationOff() && cfg.AutoRemirror != RemirrorNone && s.waitsLocked(a) && s.mirror.Idle() &&
		s.again.due(time.Now(), cfg.NetworkRetry, cfg.AutoRemirrorRetry)
	if a.Usable {
		s.again = retry{}
	}
	s.mu.Unlock()
	if due {
		s.c.log.Warn("target asks for a mirror, comparing everything", "state", a.State)
		if a.Doubt {
			s.orders.put(mirror.Options{Mode: mirror.Diff, Checksum: true, ChecksumAll: true})
		} else {
			s.heal()
		}
	}
}

// requests of a session's mirror. The target answers after it applied what was logged
// before; when records of that are lost, it waits for the MirrorAbort, which the mirror
// appends once its request has ended.
type requests struct {
	mu   sync.Mutex // guards lost
	lost chan struct{}
}

// errMirrorLost ends requests of a mirror whose records were lost.
var errMirrorLost = errors.New("mirror records were lost on the way")

// until ends with ctx, and when end is called.
func (r *requests) until(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil {
		r.lost = make(chan struct{})
	}
	lost := r.lost
	go func() {
		select {
		case <-lost:
			cancel(errMirrorLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// end ends the requests under way.
func (r *requests) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost != nil {
		close(r.lost)
		r.lost = nil
	}
}
