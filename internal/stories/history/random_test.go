package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
)

// point is a moment at which the source stood still.
type point struct {
	mark control.Mark
	tree string
}

// burst changes the source's tree at random, from a child process.
func (p *pair) burst(rng *rand.Rand, i int) {
	p.T.Helper()
	sub := filepath.Join(p.Dir, fmt.Sprintf("b%d", i))
	must(p.T, os.Mkdir(sub, 0o755))
	job := exercise.Job{Kind: "stress", Dir: sub, Seed: rng.Int64(), Ops: 300 + rng.IntN(500), Workers: 2}
	if _, err := job.RunChild(context.Background()); err != nil {
		p.T.Fatal(err)
	}
	if i < 2 {
		return
	}
	older := filepath.Join(p.Dir, fmt.Sprintf("b%d", rng.IntN(i)))
	switch rng.IntN(3) {
	case 0:
		_ = os.Rename(older, filepath.Join(p.Dir, fmt.Sprintf("moved-%d", i))) // it may be gone already
	case 1:
		must(p.T, os.RemoveAll(older))
	default:
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if _, err := (exercise.Job{Kind: "rate", Dir: p.Dir, Seed: rng.Int64(), Ops: 300}).RunChild(ctx); err != nil {
			p.T.Fatal(err)
		}
	}
}

// disturb does something to the machines that a history must outlive.
func (p *pair) disturb(rng *rand.Rand) string {
	p.T.Helper()
	switch rng.IntN(5) {
	case 0:
		p.Target.Kill()
		p.Target.Start()
		return "target killed"
	case 1:
		p.Target.Restart()
		return "target restarted"
	case 2:
		p.Source.Ask("mirror", control.MirrorRequest{ID: p.Con, Action: "start", Mode: "diff", Checksum: true}, nil)
		return "remirror begun"
	case 3:
		p.Source.Restart()
		return "source restarted"
	}
	return "nothing"
}

// TestRandomMomentsAreRebuilt (G90): what the source's tree was at a moment is what REPLAY
// makes of that moment, over kills and restarts of the target, new epochs and mirrors.
func TestRandomMomentsAreRebuilt(t *testing.T) {
	for seed := range uint64(scaled(1, 10)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := newPair(t)
			rng := rand.New(rand.NewPCG(seed, 5))
			var points []point
			for i := range scaled(8, 30) {
				p.burst(rng, i)
				m := p.mark(fmt.Sprintf("point %d", i))
				points = append(points, point{m, p.snapshot(fmt.Sprint(i))})
				what := p.disturb(rng)
				p.Settle()
				p.keeps()
				t.Logf("point %d: operation %d of epoch %s; then: %s", i, m.Op, m.Epoch, what)
			}
			same(t, p.Dir, p.Replica)
			for _, pt := range points {
				req := control.ReplayRequest{Op: pt.mark.Op, Epoch: pt.mark.Epoch}
				if rng.IntN(2) == 0 {
					req = control.ReplayRequest{Label: pt.mark.Label}
				}
				dir, _ := p.replay(req)
				same(t, pt.tree, dir)
				must(t, os.RemoveAll(dir))
			}
		})
	}
}
