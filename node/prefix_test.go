package node

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/applier"
	"understudy/fileop"
	"understudy/internal/exercise"
	"understudy/internal/model"
	"understudy/internal/sametree"
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

// freezeWithin runs a job and freezes the applier at one of the next operations, or at
// the last one if the job makes fewer. It returns where.
func (p *pair) freezeWithin(rng *rand.Rand, ahead int, j exercise.Job) fileop.Seq {
	p.t.Helper()
	a := p.applier()
	a.StopAfter(a.Position().Applied + 1 + fileop.Seq(rng.IntN(ahead)))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- a.WaitStopped(ctx) }()
	do(j, p.t, true)
	select {
	case err := <-stopped:
		must(p.t, err)
	default:
		must(p.t, a.Pause(ctx))
	}
	return a.Position().Applied
}

// TestPrefixTruth (G1): the applier is frozen at random operations; each time the
// replica equals a model that executed exactly the operations up to there, and at the
// end the model equals the source (B1.11).
func TestPrefixTruth(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	p.mount()
	tap := newTap()
	p.target.wrapFeed = tap.wrap
	p.connect()
	waitFor(t, "the mirror's end", func() bool { return p.applier().Position().Usable() })
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range scaled(200, 2000) {
		if i%50 == 0 && i > 0 {
			p.settle()
		}
		at := p.freezeWithin(rng, 300, exercise.Job{Kind: "stress", Dir: p.dir, Seed: int64(i), Workers: 2, Ops: 400})
		tap.runTo(t, at)
		replica, err := sametree.Snapshot(p.replica)
		if err != nil {
			t.Fatal(err)
		}
		if diffs := sametree.DiffTrees(tap.model.Snapshot(), replica, sametree.Options{}); len(diffs) > 0 {
			t.Fatalf("point %d: after operation %d model and replica differ in %d places:\n%s", i, at, len(diffs), strings.Join(first(diffs, 20), "\n"))
		}
		p.thaw()
	}
	p.settle()
	p.same()
	tap.runTo(t, p.applier().Position().Applied)
	source, err := sametree.Snapshot(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	if diffs := sametree.DiffTrees(tap.model.Snapshot(), source, sametree.Options{}); len(diffs) > 0 {
		t.Fatalf("model and source differ in %d places:\n%s", len(diffs), strings.Join(first(diffs, 20), "\n"))
	}
}
