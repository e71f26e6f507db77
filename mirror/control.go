package mirror

import (
	"context"
	"sync"

	"understudy/fileop"
)

// gate lets a run be paused, stopped and aborted from outside. A run passes it between
// lock holds only, so replication goes on behind it (B7.27).
type gate struct {
	mu      sync.Mutex
	change  *sync.Cond
	paused  bool
	stopped bool
	aborted bool
}

func (g *gate) init() { g.change = sync.NewCond(&g.mu) }

func (g *gate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	g.change.Broadcast()
}

// reset opens the gate and reports whether it was aborted.
func (g *gate) reset() (aborted bool) {
	g.set(func() {
		aborted = g.aborted
		g.paused, g.stopped, g.aborted = false, false, false
	})
	return aborted
}

// isAborted reports whether records were lost since the last reset.
func (g *gate) isAborted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.aborted
}

// pass waits while the gate is closed.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused {
		wake := context.AfterFunc(ctx, func() { g.set(func() {}) })
		defer wake()
	}
	for {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case g.aborted:
			return ErrAborted
		case g.stopped:
			return ErrStopped
		case !g.paused:
			return nil
		}
		g.change.Wait()
	}
}

// Pause holds the run under way where it is (B7.24). What is logged already is still
// transmitted (B7.26).
func (m *Mirror) Pause() { m.gate.set(func() { m.gate.paused = true }) }

// Resume lets a paused run go on where it was (B7.24).
func (m *Mirror) Resume() { m.gate.set(func() { m.gate.paused = false }) }

// Stop ends the run under way; its Run returns ErrStopped. The next one starts from
// the beginning (B7.25).
func (m *Mirror) Stop() { m.gate.set(func() { m.gate.stopped = true }) }

// Ordered reports whether a run of the operator's is under way, and not only hints.
func (m *Mirror) Ordered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run != nil && m.run.ordered
}

// Aborted says that mirror records were lost between here and the target. A run of the
// operator's appends MirrorAbort and returns ErrAborted, however near its end it is. ended:
// there is none, so that the caller has to see to a difference mirror; MirrorAbort is
// appended at once, or by the follow-up run that is under way. A batch of hints is no run:
// it goes on, and does not know what of it was lost.
func (m *Mirror) Aborted() (ended bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil {
		m.lost()
		return true
	}
	m.gate.set(func() { m.gate.aborted = true })
	return !m.run.ordered
}

// lost releases a target that waits for records of a run that is over. m.mu is held.
func (m *Mirror) lost() {
	m.unquiet(true)
	m.put(&fileop.Op{Kind: fileop.MirrorAbort, Len: m.lastRun})
	m.doubt()
	m.touched.addAll()
}
