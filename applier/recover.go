package applier

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// maxLostOps is more than the operations the queue can lose in a power cut: those of its
// sync interval of 1 s, at over 1 M a second at most.
const maxLostOps = 1 << 21

// Recover makes the target ready for Run after an unclean stop. frames are those of the
// queue lane after Position.Frame, up to the last received; after a killed process only
// those up to the operation that was under way are read, after a power cut all.
//
// It puts every name back to what it was at Position (see rewind), so that the
// operations after it can be applied again. Until the last of those that may have been
// applied before is applied again, Position.Recovering holds. Mirror data that was under
// way is lost: such a run will not make the target usable. With Config.Past nothing is lost:
// none was applied since Position, and what follows comes again.
//
// The records of a mirror and of a given up epoch are not read again; what they did to
// names is undone by the intents, and a mirror does the rest. After a power cut, which may
// have taken intents, all names are compared as well.
//
// It may be interrupted and called again, also by the next process.
func (a *Applier) Recover(ctx context.Context, frames iter.Seq2[fileop.Frame, error]) error {
	if !a.unclean {
		return nil
	}
	a.ctx = ctx
	rw := newRewind(a)
	if err := a.readIntents(rw); err != nil {
		return fmt.Errorf("recover target: %w", err)
	}
	if !a.otherEpoch {
		if err := a.readTouched(ctx, rw, frames); err != nil {
			return fmt.Errorf("recover target: %w", err)
		}
	}
	failpoint.Hit(failpoint.RewindBefore)
	err := a.retrying(ctx, "rewind names", func() error {
		if failpoint.Planted(failpoint.PlantNoRewind) {
			return nil
		}
		rw.restart()
		if err := a.findStages(); err != nil {
			return err
		}
		return rw.run()
	})
	failpoint.Hit(failpoint.RewindAfter)
	if err == nil {
		err = a.retrying(ctx, "put back content", func() error { return a.restoreSaves() })
	}
	if err == nil {
		err = a.cat.err
	}
	if err != nil {
		return fmt.Errorf("recover target: %w", err)
	}
	a.log.Info("target names rewound", "seq", a.pos.Applied, "until", a.pos.Until,
		"touched", len(rw.objs), "rescued", rw.rescuedCount, "recreated", rw.placeholders)
	a.ghosts.close()
	if a.pos.Run != 0 && !a.cfg.Past {
		a.needRemirror("stopped while mirroring")
	}
	if rw.full {
		a.ghostsUntil = max(a.pos.Until, a.pos.Applied) + maxLostOps
	}
	a.pos.Recovering = a.pos.Applied < a.pos.Until
	if err := a.checkpointNow(ctx); err != nil {
		return fmt.Errorf("recover target: %w", err)
	}
	a.unclean, a.otherEpoch = false, false
	a.show()
	return nil
}

// readIntents collects what was about to change since Position. After a power cut, or
// where the intents are not there, everything is compared as well.
func (a *Applier) readIntents(rw *rewind) error {
	complete, err := a.intents.read(rw.note)
	if err != nil {
		return err
	}
	rw.full = a.rebooted || !complete
	if !complete && !a.rebooted {
		a.log.Warn("intents are missing, comparing all names")
	}
	return nil
}

// readTouched collects what the operations that may have been applied touched.
func (a *Applier) readTouched(ctx context.Context, rw *rewind, frames iter.Seq2[fileop.Frame, error]) error {
	high := a.high.get(a.pos.Epoch)
	if !a.rebooted && high <= a.pos.Applied {
		return nil
	}
	last, chain, until := a.pos.FrameLast, a.pos.Chain, a.pos.Applied
	for f, err := range frames {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("read frames: %w", err)
		}
		if err := f.Follows(a.pos.Epoch, last, chain); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		last, chain = f.Last(), f.Chain
		r := f.Records()
		for {
			var op fileop.Op
			ok, err := r.Next(&op)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			if !ok || !a.rebooted && op.Seq > high {
				break
			}
			if op.Seq > a.pos.Applied {
				rw.touch(&op)
				until = op.Seq
				a.aborted = max(a.aborted, op.Other)
			}
		}
		if !a.rebooted && last >= high {
			break
		}
	}
	if !a.rebooted && last < high { // operations that were begun are not in the queue
		a.log.Warn("received operations are missing, comparing all names", "seq", last, "begun", high)
		rw.full = true
	}
	a.pos.Until = max(a.pos.Until, until, high)
	return nil
}

// findStages opens the staging directories that are there: what a restart needs may be
// in them.
func (a *Applier) findStages() error {
	for _, t := range a.trees {
		if t.stageFD < 0 {
			if err := t.findStage(&a.at); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreSaves puts back the content operations will read again (exact.go).
func (a *Applier) restoreSaves() error {
	for _, t := range a.trees {
		if t.stageFD < 0 {
			continue
		}
		names, err := a.at.ReadDir(t.stageFD)
		if err != nil {
			return err
		}
		best := map[fileop.ObjID]save{}
		for _, d := range names {
			id, seq, ok := parseSaveName(d.Name)
			if !ok {
				continue
			}
			s := save{t, d.Name, seq}
			if a.cat.get(key{t.Tree, id}) == nil || seq <= a.pos.Applied {
				if err := a.unlinkSave(s); err != nil {
					return err
				}
				continue
			}
			a.saves = append(a.saves, s)
			if b, ok := best[id]; !ok || seq < b.seq {
				best[id] = s
			}
		}
		for id, s := range best {
			if err := a.restoreSave(t, id, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Applier) restoreSave(t *tree, id fileop.ObjID, s save) error {
	from, err := a.at.Open(t.stageFD, s.name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	st, err := a.at.Stat(from, "")
	if err != nil {
		return err
	}
	fd, err := a.fileFD(t, a.cat.get(key{t.Tree, id}))
	if err != nil {
		return err
	}
	if err := a.at.Truncate(fd, 0); err != nil {
		return err
	}
	if err := a.copyData(from, 0, fd, 0, st.Size); err != nil {
		return err
	}
	return a.at.Truncate(fd, st.Size)
}
