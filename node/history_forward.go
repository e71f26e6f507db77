package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"understudy/applier"
	"understudy/fileop"
	"understudy/history"
)

// forward applies a part of a log to a copy of a replica, by an applier as the live one.
type forward struct {
	g      *generation
	state  string
	roots  []applier.Root
	to     history.Moment
	mirror fileop.Seq // mirror records of the last epoch up to here; history.All: what is there
	tune   func(*applier.Config)
	noSync bool                   // the caller makes the copy durable, or throws it away
	tell   func(applier.Position) // now and then; nil: nobody listens
	copied *past
}

// errStuck: an operation cannot be applied, and waiting will not help.
var errStuck = errors.New("an operation cannot be applied")

// run goes on from where the copy stands until f.to. It returns the position reached.
func (f *forward) run(ctx context.Context, from fileop.Epoch) (pos applier.Position, err error) {
	epochs, err := f.g.log.Epochs(from)
	if err != nil {
		return pos, err
	}
	for i, e := range epochs {
		last := e.Epoch == f.to.Epoch
		end := history.End{Epoch: e.Epoch, Applied: f.to.Op, Mirror: f.mirror}
		switch {
		case last:
		case e.End == nil:
			return pos, fmt.Errorf("%w: epoch %x has no end", history.ErrDamaged, e.Epoch)
		default:
			end = *e.End
		}
		if pos, err = f.epoch(ctx, e, i == 0, end); err != nil || last {
			return pos, err
		}
	}
	return pos, fmt.Errorf("%w: epoch %x", history.ErrNoMoment, f.to.Epoch)
}

// epoch applies one epoch up to its end.
func (f *forward) epoch(ctx context.Context, e history.Epoch, first bool, end history.End) (pos applier.Position, err error) {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cfg := applier.Config{Past: true, NoSync: f.noSync, StateDir: f.state, Epoch: e.Epoch, Roots: f.roots, OnEvent: func(ev applier.Event) {
		switch ev.Kind {
		case applier.EventCured, applier.EventOrphans, applier.EventMovedAside, applier.EventNotPermitted, applier.EventRemirror:
			return
		}
		cancel(fmt.Errorf("%w: %s: operation %d %s: %w", errStuck, ev.Kind, ev.Seq, ev.Name, errors.Join(ev.Err)))
	}}
	if f.tune != nil {
		f.tune(&cfg)
	}
	app, err := applier.Open(cfg, f.copied.log)
	if err != nil {
		return pos, err
	}
	defer func() {
		err = errors.Join(err, app.Close())
		pos = app.Position()
	}()
	if pos = app.Position(); !app.NeedsRecovery() && pos.Applied >= end.Applied && (pos.MirrorApplied >= end.Mirror || end.Mirror == history.All) {
		return pos, nil
	}
	if app.NeedsRecovery() {
		again := f.g.log.Lane(e, first, fileop.LaneQueue, pos.FrameLast, end.Applied)
		defer again.Close()
		if err := app.Recover(run, frames(again, end.Applied)); err != nil {
			return pos, err
		}
	}
	feed := &pastFeed{app: app, end: end, q: f.g.log.Lane(e, first, fileop.LaneQueue, pos.FrameLast, end.Applied),
		m: f.g.log.Lane(e, first, fileop.LaneMirror, pos.MirrorApplied, end.Mirror), given: pos.MirrorApplied}
	defer feed.q.Close()
	defer feed.m.Close()
	var wg sync.WaitGroup
	var applyErr error
	wg.Go(func() {
		applyErr = app.Run(run, feed)
		cancel(applyErr)
	})
	err = f.reach(run, app, end)
	cancel(nil)
	wg.Wait()
	return pos, errors.Join(err, applyErr)
}

// frames is what a restart reads again: operations behind last were never applied.
func frames(l *history.Lane, last fileop.Seq) iter.Seq2[fileop.Frame, error] {
	return func(yield func(fileop.Frame, error) bool) {
		for {
			f, _, err := l.Next()
			if err == nil {
				f, err = f.Until(last)
			}
			if errors.Is(err, io.EOF) || !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// forwardPatience is how long nothing may be applied: far longer than any operation takes
// whose disk works.
const forwardPatience = 5 * time.Minute

// tellEvery is how often progress is told.
const tellEvery = 200 * time.Millisecond

// reach waits until the end of the epoch's part is applied.
func (f *forward) reach(ctx context.Context, app *applier.Applier, end history.End) error {
	last, moved := app.Position(), time.Now()
	for {
		wait, cancel := context.WithTimeout(ctx, tellEvery)
		err := app.Settled(wait, end.Applied)
		cancel()
		pos := app.Position()
		if f.tell != nil {
			f.tell(pos)
		}
		if pos != last {
			last, moved = pos, time.Now()
		}
		switch {
		case time.Since(moved) > forwardPatience:
			return fmt.Errorf("%w: nothing moved behind operation %d, mirror record %d, for %v", errStuck, pos.Applied, pos.MirrorApplied, forwardPatience)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && (pos.MirrorApplied >= end.Mirror || end.Mirror == history.All):
			return nil
		case err == nil: // the mirror's records follow in a moment
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// pastFeed gives an applier both lanes of a part of one epoch, and then nothing more.
type pastFeed struct {
	app   *applier.Applier
	end   history.End
	q, m  *history.Lane
	given fileop.Seq // last mirror record handed out; NextMirror's own
}

func (f *pastFeed) Next(ctx context.Context) (fr fileop.Frame, i uint64, err error) {
	fr, i, err = f.q.Next()
	if errors.Is(err, io.EOF) {
		<-ctx.Done()
		return fr, 0, context.Cause(ctx)
	}
	if err == nil {
		fr, err = fr.Until(f.end.Applied)
	}
	return fr, i, err
}

// NextMirror is the next mirror frame. Records that are not in the log never came: once
// those before them are applied, the applier need not wait for them.
func (f *pastFeed) NextMirror(ctx context.Context) (fr fileop.Frame, err error) {
	fr, _, err = f.m.Next()
	over := errors.Is(err, io.EOF)
	if err != nil && !over {
		return fr, err
	}
	if next := fr.First; over || next > f.given+1 {
		if over {
			next = history.All
		}
		for f.app.Position().MirrorApplied < f.given {
			select {
			case <-ctx.Done():
				return fr, context.Cause(ctx)
			case <-time.After(time.Millisecond):
			}
		}
		f.app.GiveUpMirror(ctx, next-1)
	}
	if over {
		<-ctx.Done()
		return fr, context.Cause(ctx)
	}
	f.given = fr.Last()
	return fr.Until(f.end.Mirror)
}
