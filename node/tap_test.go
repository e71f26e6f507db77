package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"

	"understudy/applier"
	"understudy/fileop"
	"understudy/internal/exercise"
	"understudy/internal/model"
)

// tap records what is fed to the applier, and executes it on a model in the same
// order, up to any operation.
type tap struct {
	model *model.Model

	mu     sync.Mutex
	queue  []fileop.Op
	mirror []fileop.Op
	seq, k fileop.Seq // executed on the model
}

func newTap() *tap { return &tap{} }

type tappedFeed struct {
	applier.Feed
	t *tap
}

func (t *tap) wrap(info *joinInfo, f applier.Feed) applier.Feed {
	var roots []fileop.ObjID
	for _, r := range info.Roots {
		roots = append(roots, r.Obj)
	}
	t.model = model.New(roots...)
	return tappedFeed{f, t}
}

func (f tappedFeed) Next(ctx context.Context) (fileop.Frame, uint64, error) {
	fr, i, err := f.Feed.Next(ctx)
	f.t.record(&f.t.queue, fr, err)
	return fr, i, err
}

func (f tappedFeed) NextMirror(ctx context.Context) (fileop.Frame, error) {
	fr, err := f.Feed.NextMirror(ctx)
	f.t.record(&f.t.mirror, fr, err)
	return fr, err
}

func (t *tap) record(into *[]fileop.Op, fr fileop.Frame, err error) {
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := fr.Records()
	for {
		var op fileop.Op
		if ok, err := r.Next(&op); err != nil || !ok {
			return
		}
		*into = append(*into, op)
	}
}

// runTo executes everything up to operation at, in the one order of both lanes.
func (t *tap) runTo(tb testing.TB, at fileop.Seq) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.seq < at {
		var op *fileop.Op
		switch {
		case len(t.queue) > 0 && t.queue[0].Other <= t.k:
			op, t.queue, t.seq = &t.queue[0], t.queue[1:], t.queue[0].Seq
		case len(t.mirror) > 0 && t.mirror[0].Other <= t.seq:
			op, t.mirror, t.k = &t.mirror[0], t.mirror[1:], t.mirror[0].Seq
		default:
			tb.Fatalf("operation %d is not recorded: at %d of the queue, %d of the mirror", at, t.seq, t.k)
		}
		if err := t.model.Apply(op); err != nil {
			tb.Fatalf("model refuses %v: %v", op.LogValue(), err)
		}
	}
}

// freezeWithin freezes at one of the next operations while a job runs; a job that ends
// first freezes it at its last one.
func (p *pair) freezeWithin(rng *rand.Rand, ahead int, stop func() exercise.Stats) fileop.Seq {
	p.t.Helper()
	a := p.applier()
	a.StopAfter(a.Position().Applied + 1 + fileop.Seq(rng.IntN(ahead)))
	waitFor(p.t, "the applier to stop", a.Frozen)
	stop()
	return a.Position().Applied
}
