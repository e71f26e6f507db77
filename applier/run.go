package applier

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// Run applies what feed delivers until ctx ends, and then returns nil; or returns what
// stopped it: ErrProtocol for a record no honest source sends, the feed's error, or
// that of the state directory. The feed must begin at Position: its next frame is the
// successor of Position.Frame. Run may be called again.
func (a *Applier) Run(ctx context.Context, feed Feed) error {
	if a.unclean {
		return ErrRecover
	}
	a.mu.Lock()
	if a.closed || a.running {
		a.mu.Unlock()
		return ErrClosed
	}
	a.running = true
	a.stopped = make(chan struct{})
	a.mu.Unlock()
	inner, cancel := context.WithCancel(ctx)
	q, m := newLane(), newLane()
	var wg sync.WaitGroup
	wg.Go(func() {
		q.fill(inner, func(ctx context.Context) (laneItem, error) {
			f, i, err := feed.Next(ctx)
			return laneItem{f, i}, err
		})
	})
	wg.Go(func() {
		m.fill(inner, func(ctx context.Context) (laneItem, error) {
			f, err := feed.NextMirror(ctx)
			return laneItem{frame: f}, err
		})
	})
	err := a.loop(inner, &cursor{lane: q}, &cursor{lane: m})
	cancel()
	wg.Wait()
	a.endRun()
	if ctx.Err() != nil && !errors.Is(err, ErrProtocol) {
		return nil
	}
	return err
}

func (a *Applier) endRun() {
	if err := a.awaitCheckpoint(); err != nil {
		a.log.Warn("last checkpoint did not end", "err", err)
	}
	for _, w := range a.waiting {
		w.fail(ErrClosed)
	}
	a.waiting = nil
	a.show()
	a.mu.Lock()
	a.running = false
	close(a.stopped)
	a.mu.Unlock()
}

// loop is the deciding goroutine: requests, then one record, then a checkpoint if due.
func (a *Applier) loop(ctx context.Context, q, m *cursor) error {
	a.ctx = ctx
	for ctx.Err() == nil {
		if err := a.serve(); err != nil {
			return err
		}
		did := false
		if !a.held() {
			var err error
			if did, err = a.step(ctx, q, m); err != nil {
				return err
			}
		}
		if a.cat.err != nil {
			return a.cat.err
		}
		if err := a.housekeep(ctx, !did); err != nil {
			return err
		}
		if !did {
			if err := a.rest(ctx, q, m); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// step executes one record, if one can be.
func (a *Applier) step(ctx context.Context, q, m *cursor) (bool, error) {
	haveQ, err := q.peek(a.beginFrame, a.endFrame)
	if err != nil {
		return false, err
	}
	haveM, err := m.peek(a.beginMirrorFrame, func(*laneItem) {})
	if err != nil {
		return false, err
	}
	if haveM && m.item.frame.Epoch < a.pos.Epoch {
		m.have = false // of an older epoch: its run was given up with it
		a.addCredit(len(m.op.Data) + 64)
		return true, nil
	}
	haveM = haveM && m.item.frame.Epoch == a.pos.Epoch // a newer epoch waits for its gap
	var qop, mop *fileop.Op
	if haveQ {
		qop = &q.op
	}
	if haveM {
		mop = &m.op
	}
	if haveQ && qop.Seq <= a.pos.Applied {
		q.have = false // applied before a restart, in a frame that was not finished
		return true, nil
	}
	aborts := haveQ && qop.Kind == fileop.MirrorAbort
	if a.cfg.Past && aborts && qop.Other > max(a.pos.MirrorApplied, a.aborted) {
		qop = nil
	}
	switch decide(a.pos.Applied, a.pos.MirrorApplied, a.aborted, qop, mop) {
	case applyQueue:
		q.have = false
		return true, a.doQueue(ctx, qop, q.more() || m.more())
	case applyMirror:
		m.have = false
		return true, a.doMirror(ctx, mop)
	case dropMirror:
		m.have = false
		a.addCredit(len(mop.Data) + 64)
		return true, nil
	}
	return false, nil
}

// doQueue executes a record of the queue. more: others are at hand. The last one shows
// only when the modification times are set as well, a moment later: who waits for it
// wants to see the tree at rest.
func (a *Applier) doQueue(ctx context.Context, op *fileop.Op, more bool) error {
	a.skipMirror(min(op.Other, a.aborted))
	a.high.set(a.pos.Epoch, op.Seq)
	a.touches(op)
	failpoint.Hit(failpoint.ApplyBefore)
	if err := a.exec(ctx, op); err != nil {
		return err
	}
	failpoint.Hit(failpoint.ApplyAfter)
	a.pos.Applied = op.Seq
	if a.pos.Recovering && op.Seq >= a.pos.Until {
		a.pos.Recovering = false
	}
	a.told(op)
	shows := more || a.pending() == 0
	a.mu.Lock()
	a.stats.Ops++
	if shows {
		a.shown = a.pos
		if a.hold.watched(op.Seq) {
			a.wake()
		}
	}
	a.mu.Unlock()
	if shows {
		a.cfg.OnChange()
	}
	return nil
}

func (a *Applier) doMirror(ctx context.Context, op *fileop.Op) error {
	a.touches(op)
	failpoint.Hit(failpoint.MirrorBefore)
	if err := a.exec(ctx, op); err != nil {
		return err
	}
	failpoint.Hit(failpoint.MirrorAfter)
	if op.Seq > a.pos.MirrorApplied+1 {
		a.skipMirror(op.Seq - 1)
	}
	a.pos.MirrorApplied = op.Seq
	a.told(op)
	a.addCredit(len(op.Data) + 64)
	a.count(func(s *Stats) { s.MirrorOps++ })
	return nil
}

func (a *Applier) addCredit(n int) {
	a.credit += n
	if a.credit >= creditEvery {
		a.giveCredit()
	}
}

func (a *Applier) giveCredit() {
	if a.credit > 0 {
		a.credit = 0
		a.cfg.OnMirrorApplied(a.pos.MirrorApplied)
	}
}

// beginFrame refuses a frame that is not the successor. A new epoch begins with number
// 1 and a gap.
func (a *Applier) beginFrame(it *laneItem) error {
	f := &it.frame
	if f.Epoch != a.pos.Epoch && f.First == 1 && f.Prev == 0 {
		r := f.Records()
		var op fileop.Op
		if ok, err := r.Next(&op); err == nil && ok && op.Kind == fileop.Gap {
			if err := a.newEpoch(f.Epoch); err != nil {
				return err
			}
		}
	}
	if err := f.Follows(a.pos.Epoch, a.pos.FrameLast, a.pos.Chain); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func (a *Applier) newEpoch(e fileop.Epoch) error {
	a.pos = Position{Epoch: e, Remirror: a.pos.Remirror, Doubt: a.pos.Doubt}
	a.aborted = 0
	clear(a.lists)
	// Marks and saves belong to numbers of the old epoch; no restart goes back there.
	clear(a.marks)
	past, err := a.touched.begin(e)
	a.mu.Lock()
	a.past = past
	a.mu.Unlock()
	return err
}

func (a *Applier) endFrame(it *laneItem) {
	a.pos.Frame, a.pos.FrameLast, a.pos.Chain = it.index, it.frame.Last(), it.frame.Chain
}

// beginMirrorFrame refuses frames of the other lane. Their epoch is looked at
// in step.
func (a *Applier) beginMirrorFrame(it *laneItem) error {
	if it.frame.Lane != fileop.LaneMirror {
		return fmt.Errorf("%w: frame of lane %d in the mirror lane", ErrProtocol, it.frame.Lane)
	}
	return nil
}

// housekeep settles times and takes checkpoints.
func (a *Applier) housekeep(ctx context.Context, idle bool) error {
	a.dirs.trim()
	a.files.trim()
	a.mu.Lock()
	a.aborted = max(a.aborted, a.abortTo)
	a.mu.Unlock()
	select {
	case err := <-a.ck.done:
		if err := a.endCheckpoint(err); err != nil && ctx.Err() == nil {
			return err
		}
	default:
	}
	if (idle && a.pending() > 0) || a.pending() >= maxPending {
		if err := a.settleAll(ctx); err != nil {
			return err
		}
	}
	if idle {
		a.giveCredit()
		a.show()
	}
	if a.ck.busy && a.cat.dirty.count >= 2*maxDirty {
		if err := a.awaitCheckpoint(); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if a.checkpointDue() {
		return a.beginCheckpoint(ctx)
	}
	return nil
}

// rest waits until there is something to do; after a quiet while it takes a checkpoint.
func (a *Applier) rest(ctx context.Context, q, m *cursor) error {
	if up := q.findAbort(); up > a.aborted && !a.cfg.Past {
		a.aborted = up
		return nil
	}
	var idle <-chan time.Time
	if a.uncommitted() && !a.ck.busy && !a.cfg.NoSync {
		timer := time.NewTimer(idleCheckpoint)
		defer timer.Stop()
		idle = timer.C
	}
	qReady, mReady := q.ready, m.ready
	if a.held() {
		qReady, mReady = nil, nil
	}
	select {
	case <-ctx.Done():
	case <-qReady:
	case <-mReady:
	case f := <-a.ctl:
		f()
	case err := <-a.ck.done:
		if err := a.endCheckpoint(err); err != nil && ctx.Err() == nil {
			return err
		}
	case <-idle:
		return a.beginCheckpoint(ctx)
	}
	return nil
}
