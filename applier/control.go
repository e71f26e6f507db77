package applier

import (
	"context"
	"fmt"

	"understudy/fileop"
)

// hold is what keeps the applier from going on. Guarded by Applier.mu.
type hold struct {
	paused bool
	stopAt fileop.Seq // with stop
	stop   bool
	atRest bool                     // held, and all modification times are set
	wanted map[*fileop.Seq]struct{} // numbers Settled waits for
}

// watched reports whether somebody waits for seq.
func (h *hold) watched(seq fileop.Seq) bool {
	for w := range h.wanted {
		if *w <= seq {
			return true
		}
	}
	return false
}

// held reports whether the deciding goroutine must not execute the next record.
func (a *Applier) held() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hold.paused || (a.hold.stop && a.pos.Applied >= a.hold.stopAt)
}

// serve answers requests and, while held, brings the tree to rest.
func (a *Applier) serve() error {
	for {
		select {
		case f := <-a.ctl:
			f()
			continue
		default:
		}
		break
	}
	if err := a.answerWaiting(); err != nil {
		return err
	}
	if !a.held() {
		return nil
	}
	if err := a.settleAll(a.ctx); err != nil {
		return err
	}
	a.mu.Lock()
	rests := !a.hold.atRest
	if rests {
		a.hold.atRest = true
		a.shown = a.pos
		a.wake()
	}
	a.mu.Unlock()
	if rests {
		a.cfg.OnChange()
	}
	return nil
}

// nudge makes the deciding goroutine look at hold, if it runs.
func (a *Applier) nudge(ctx context.Context) error { return a.do(ctx, func() {}) }

// do runs f in the deciding goroutine between two operations.
func (a *Applier) do(ctx context.Context, f func()) error {
	a.mu.Lock()
	stopped := a.stopped
	if !a.running {
		a.mu.Unlock()
		return ErrClosed
	}
	a.mu.Unlock()
	select {
	case a.ctl <- f:
		return nil
	case <-stopped:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Pause stops applying after the operation in progress, and returns once nothing changes
// on the target any more and all modification times are set (B10.50, B10.52). Received
// operations wait in their queue.
func (a *Applier) Pause(ctx context.Context) error {
	a.setHold(func(h *hold) { h.paused = true })
	return a.waitRest(ctx)
}

// Hold is Pause without the waiting; before Run nothing is applied at all.
func (a *Applier) Hold() {
	a.setHold(func(h *hold) { h.paused = true })
	_ = a.nudge(context.Background())
}

// AtRest reports whether a Pause, Hold or StopAfter has taken effect.
func (a *Applier) AtRest() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hold.atRest
}

// Resume ends Pause and StopAfter.
func (a *Applier) Resume() {
	a.setHold(func(h *hold) { h.paused, h.stop, h.stopAt = false, false, 0 })
	_ = a.nudge(context.Background())
}

// StopAfter makes the applier stop exactly after operation seq; WaitStopped waits for
// it. The tree is then the state after that operation, modification times included.
func (a *Applier) StopAfter(seq fileop.Seq) {
	a.setHold(func(h *hold) { h.stop, h.stopAt = true, seq })
	_ = a.nudge(context.Background())
}

// WaitStopped waits until a StopAfter or Pause has taken effect.
func (a *Applier) WaitStopped(ctx context.Context) error { return a.waitRest(ctx) }

func (a *Applier) setHold(f func(*hold)) {
	a.mu.Lock()
	f(&a.hold)
	a.hold.atRest = false
	a.mu.Unlock()
}

// waitRest waits until the deciding goroutine rests. An applier that does not run rests
// by nature once its times are set, which Run's end does not promise.
func (a *Applier) waitRest(ctx context.Context) error {
	_ = a.nudge(ctx)
	return a.waitFor(ctx, func() bool { return a.hold.atRest })
}

// waitFor waits until ok, which is called with mu held.
func (a *Applier) waitFor(ctx context.Context, ok func() bool) error {
	for {
		a.mu.Lock()
		done, ch, closed := ok(), a.changed, a.closed
		a.mu.Unlock()
		if done {
			return nil
		}
		if closed {
			return ErrClosed
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return fmt.Errorf("wait for the applier: %w", context.Cause(ctx))
		}
	}
}

// Settled waits until operation seq is applied.
func (a *Applier) Settled(ctx context.Context, seq fileop.Seq) error {
	a.mu.Lock()
	if a.hold.wanted == nil {
		a.hold.wanted = map[*fileop.Seq]struct{}{}
	}
	a.hold.wanted[&seq] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.hold.wanted, &seq)
		a.mu.Unlock()
	}()
	return a.waitFor(ctx, func() bool { return a.shown.Applied >= seq })
}

// AbortMirror says that mirror records up to k will not come any more: operations stop
// waiting for them, and the mirror run under way does not make the target usable.
func (a *Applier) AbortMirror(k fileop.Seq) { a.GiveUpMirror(context.Background(), k) }

// GiveUpMirror is AbortMirror for a feed, whose calls end with ctx.
func (a *Applier) GiveUpMirror(ctx context.Context, k fileop.Seq) {
	a.mu.Lock()
	a.abortTo = max(a.abortTo, k)
	a.mu.Unlock()
	_ = a.do(ctx, func() { a.aborted = max(a.aborted, k) }) // the next step sees it
}
