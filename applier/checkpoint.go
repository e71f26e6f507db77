package applier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"understudy/internal/failpoint"
)

// checkpoints is the state of checkpointing, of the deciding goroutine.
type checkpoints struct {
	busy   bool       // one is being made durable
	done   chan error // its result
	frozen Position   // of the last one begun
	gen    uint64     // of the intents written since the last one began
	last   time.Time
	bytes  int64 // content written since it began

}

// initialMirrorSlack makes checkpoints rarer during an initial mirror: a crash then means
// a difference mirror anyway, and syncing competes with creating files (38 of 79 us of
// processor time for each of 50,000 small files went into openat beside syncfs).
const initialMirrorSlack = 5

// checkpointDue reports whether to begin a checkpoint between two operations.
func (a *Applier) checkpointDue() bool {
	if a.ck.busy || !a.uncommitted() {
		return false
	}
	if a.cfg.NoSync {
		return a.cat.dirty.count >= maxDirty
	}
	every, size := a.cfg.CheckpointEvery, a.cfg.CheckpointBytes
	if a.pos.Run != 0 && !a.pos.Mirrored {
		every, size = every*initialMirrorSlack, size*initialMirrorSlack
	}
	return a.ck.bytes >= size || a.cat.dirty.count >= maxDirty || time.Since(a.ck.last) >= every
}

func (a *Applier) uncommitted() bool {
	return a.cat.dirty.count > 0 || a.pos != a.ck.frozen || a.pending() > 0
}

// beginCheckpoint settles times, freezes catalog and position, and lets them become
// durable beside further operations.
func (a *Applier) beginCheckpoint(ctx context.Context) error {
	if err := a.settleAll(ctx); err != nil {
		return err
	}
	gen, err := a.intents.begin()
	if err != nil {
		return err
	}
	a.ck.gen = gen
	b := a.cat.freeze(a.meta())
	b.touched = a.touched.take()
	a.count(func(s *Stats) { s.Objects += uint64(len(b.objects)) })
	a.ck.frozen, a.ck.last, a.ck.bytes, a.ck.busy = a.pos, time.Now(), 0, true
	if failpoint.Planted(failpoint.PlantConfirmEarly) {
		a.confirm()
	}
	go func() { a.ck.done <- a.makeDurable(ctx, b) }()
	return nil
}

// makeDurable syncs the target's file systems and then commits the batch. What fails is
// tried again until ctx ends; a catalog that cannot be written holds up no operation.
func (a *Applier) makeDurable(ctx context.Context, b *batch) error {
	if a.cfg.NoSync {
		return a.cat.commit(b)
	}
	for {
		failpoint.Hit(failpoint.SyncBefore)
		err := a.syncTrees()
		if err == nil && a.cfg.BeforeDurable != nil {
			err = a.cfg.BeforeDurable()
		}
		if err == nil {
			failpoint.Hit(failpoint.SyncAfter)
			failpoint.Hit(failpoint.PositionBefore)
			if err = a.syncTouched(b.touched); err == nil {
				err = a.cat.commit(b)
			}
			if err == nil {
				err = a.cat.verifyDue()
			}
			if err == nil {
				failpoint.Hit(failpoint.PositionAfter)
				return nil
			}
			err = fmt.Errorf("commit catalog: %w", err)
			if errors.Is(err, errCatalog) {
				return err // no time cures it
			}
		}
		a.event(Event{Kind: EventCatalog, Seq: b.meta.Applied, Err: err})
		select {
		case <-ctx.Done():
			return err
		case <-time.After(a.retryWait()):
		}
	}
}

func (a *Applier) syncTrees() error {
	synced := map[uint64]bool{}
	for _, t := range a.trees {
		var st unix.Stat_t
		if err := unix.Fstat(t.fd, &st); err == nil && synced[st.Dev] {
			continue
		}
		synced[st.Dev] = true
		if err := a.at.Syncfs(t.fd); err != nil {
			if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				a.mu.Lock()
				a.syncLost = true
				a.mu.Unlock()
			}
			return fmt.Errorf("sync target file system: %w", err)
		}
	}
	return nil
}

// endCheckpoint takes the result of the checkpoint under way: only now is its position
// confirmed.
func (a *Applier) endCheckpoint(err error) error {
	a.ck.busy = false
	if err != nil {
		a.cat.unfreeze()
		a.touched.lost()
		a.ck.frozen = a.durable
		return err
	}
	a.cat.thaw()
	a.intents.durable(a.ck.gen)
	a.mu.Lock()
	a.stats.Checkpoints++
	lost := a.syncLost
	a.syncLost = false
	a.mu.Unlock()
	if lost {
		a.needRemirror("target file system lost written data")
	}
	a.dropMarks(a.ck.frozen.Applied)
	for _, t := range a.trees {
		t.dropStage(&a.at, func() error { return a.keepMtime(t, t.Source) })
	}
	a.confirm()
	return nil
}

// confirm says that the last checkpoint begun is durable.
func (a *Applier) confirm() {
	a.mu.Lock()
	a.durable = a.ck.frozen
	a.wake()
	a.mu.Unlock()
	a.cfg.OnDurable(a.ck.frozen)
}

// awaitCheckpoint waits for the one under way.
func (a *Applier) awaitCheckpoint() error {
	if !a.ck.busy {
		return nil
	}
	return a.endCheckpoint(<-a.ck.done)
}

// checkpointNow makes everything applied so far durable before it returns.
func (a *Applier) checkpointNow(ctx context.Context) error {
	if err := a.awaitCheckpoint(); err != nil && ctx.Err() == nil {
		return err
	}
	if !a.uncommitted() {
		return nil
	}
	if err := a.beginCheckpoint(ctx); err != nil {
		return err
	}
	return a.awaitCheckpoint()
}
