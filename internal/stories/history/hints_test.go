package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/internal/stories"
	"understudy/node"
)

// TestMarkOfHintsIsAMoment (G90): where changes are only hinted at, what a mark names is the
// source's tree as it was when the mark was set, if the source was at rest: also right after
// the target was restarted, and while everything is compared. What was set right after the
// target was killed is either so or not known.
func TestMarkOfHintsIsAMoment(t *testing.T) {
	for _, capture := range []string{"fanotify", "inotify"} {
		t.Run(capture, func(t *testing.T) {
			t.Parallel()
			p := &pair{stories.HintedPair(t, func(cfg *node.Config) { cfg.History, cfg.Hold, cfg.QueueFree = "72h", false, 64<<20 })}
			p.Capture = capture
			p.Connect(control.ConnectRequest{Rules: p.All()})
			p.Settle()
			p.keeps()
			rng := rand.New(rand.NewPCG(7, 11))
			var points []point
			for i := range scaled(5, 30) {
				sub := filepath.Join(p.Dir, fmt.Sprintf("b%d", i))
				must(t, os.Mkdir(sub, 0o755))
				if _, err := (exercise.Job{Kind: "stress", Dir: sub, Seed: rng.Int64(), Ops: 200 + rng.IntN(300), Workers: 2}).RunChild(t.Context()); err != nil {
					t.Fatal(err)
				}
				[]func(){func() {}, func() { p.Target.Kill(); p.Target.Start() }, p.Target.Restart, func() {
					p.Source.Ask("mirror", control.MirrorRequest{ID: p.Con, Action: "start", Mode: "diff", Checksum: true}, nil)
				}}[i%4]()
				var m control.Mark
				waitFor(t, "mark", func() bool {
					return p.Source.Try("mark", control.MarkRequest{ID: p.Con, Label: fmt.Sprintf("point %d", i)}, &m) == nil
				})
				points = append(points, point{m, p.snapshot(fmt.Sprint(i))})
				p.keeps()
			}
			p.Settle()
			p.keeps()
			same(t, p.Dir, p.Replica)
			replayed := 0
			for _, pt := range points {
				dir, known := p.tryReplay(pt.mark.Label)
				if !known { // after the kill, before the next base
					continue
				}
				replayed++
				same(t, pt.tree, dir)
				must(t, os.RemoveAll(dir))
			}
			if replayed < len(points)/2 {
				t.Errorf("%d of %d marks could be replayed", replayed, len(points))
			}
		})
	}
}

// tryReplay rebuilds what a mark names, if the history has it.
func (p *pair) tryReplay(label string) (dir string, known bool) {
	p.T.Helper()
	for _, m := range p.history().Marks {
		known = known || m.Label == label
	}
	if known {
		dir, _ = p.replay(control.ReplayRequest{Label: label})
	}
	return dir, known
}
