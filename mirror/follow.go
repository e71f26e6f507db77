package mirror

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"understudy/fileop"
)

// errYield ends a follow-up run in favour of one that covers its work.
var errYield = errors.New("a mirror of everything begins")

// follow returns the run under way, or begins a follow-up run that Serve carries out.
// m.mu is held.
func (m *Mirror) follow() *run {
	if m.run == nil {
		o := Options{Mode: Full}
		if m.cfg.Target != nil {
			o = Options{Mode: Diff, Checksum: true}
		}
		m.start(o, false)
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
	return m.run
}

// start makes a new run the present one; from its MirrorBegin on the border knows of
// it. exact: the target knows nothing that the run has not sent. m.mu is held.
func (m *Mirror) start(o Options, exact bool) *run {
	m.unquiet(false)
	m.lastRun++
	r := &run{m: m, id: m.lastRun, opts: o, seen: newSeen(exact), estimate: firstCredit, ordered: exact, follow: !exact}
	m.put(&fileop.Op{Kind: fileop.MirrorBegin, Len: r.id})
	m.run = r
	return r
}

// bring adds work for the walker.
func (r *run) bring(f frame) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if len(r.come) >= maxCome {
		r.over = true
		return
	}
	r.come = append(r.come, f)
}

// Serve carries out the follow-up runs that the border asks for, until ctx ends; then
// it returns nil. Any other return means that the target lacks something and a
// difference mirror is due.
func (m *Mirror) Serve(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		}
		if err := m.serveOne(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (m *Mirror) serveOne(ctx context.Context) error {
	m.running.Lock()
	defer m.running.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m.mu.Lock()
	r := m.run
	if r == nil || !r.follow || m.claimed {
		m.mu.Unlock()
		return nil
	}
	m.yield = cancel
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.yield = nil
	}()
	r.ctx = ctx
	m.gate.set(func() { m.gate.paused, m.gate.stopped = false, false })
	m.prog.start(r.id, Joining, r.opts)
	start := time.Now()
	err := r.all()
	if errors.Is(context.Cause(ctx), errYield) {
		return nil
	}
	m.prog.setState(stateAfter(err))
	m.log.Info("follow-up mirror ended", "run", r.id, "took", time.Since(start), "bytes", m.prog.sent.Load(), "err", err)
	return err
}

// sameAttrs compares what travels of two looks at one object.
func sameAttrs(a, b *fileop.Entry) bool {
	return a.Attr == b.Attr && a.Target == b.Target && slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y fileop.Xattr) bool {
		return x.Name == y.Name && bytes.Equal(x.Value, y.Value)
	})
}
