package node

import (
	"math/rand/v2"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/failpoint"
)

// endsAtPoint restarts the machine whose process reaches p and waits until it ended
// there, under load, and is started again.
func (r *rig) endsAtPoint(p failpoint.Point, hits, i int) {
	r.t.Helper()
	m := r.target
	if p.Side() == failpoint.Source {
		m = r.source
	}
	stop := r.load(mixedLoad(i), m == r.source)
	m.kill()
	if m == r.source {
		stop() // its mount is dead; the load goes on when it is back
	}
	m.startArmed(failpoint.At(p, hits))
	if m == r.source {
		waitFor(r.t, "the source to be up or dead", func() bool { return m.ask("status", nothing{}, nil) == nil || m.d.AwaitEnd(0) })
		stop = r.load(mixedLoad(i), true)
	}
	if p == failpoint.MirrorBefore || p == failpoint.MirrorAfter {
		must(r.t, r.source.ask("mirror", control.MirrorRequest{ID: r.connection().ID, Action: "start", Mode: "full"}, nil))
	}
	if !m.d.AwaitEnd(time.Minute) {
		stop()
		r.t.Fatalf("%s was not reached %d times:\n%s", p, hits+1, m.d.Log())
	}
	m.closeControl()
	m.start()
	stop()
}

// TestKilledAtEveryPoint: whichever daemon reaches a named point is killed there, three
// times, at once and after some hits, and started again: nothing differs afterwards. The
// points of each side have a pair of their own.
func TestKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	for i, side := range []failpoint.Side{failpoint.Source, failpoint.Target} {
		t.Run(string(side), func(t *testing.T) {
			t.Parallel()
			r := protectedRig(t)
			r.killedAtPoints(side, rand.New(rand.NewPCG(51, 52+uint64(i))))
			r.usable()
		})
	}
}

func (r *rig) killedAtPoints(side failpoint.Side, rng *rand.Rand) {
	r.t.Helper()
	i, points := 0, 0
	for _, p := range failpoint.Points() {
		if p.Side() != side { // those of failover: failover_test.go
			continue
		}
		points++
		for round := range scaled(3, 40) {
			i++
			hits := 0
			if round > 0 && often[p] {
				hits = rng.IntN(60 * round)
			}
			r.endsAtPoint(p, hits, i)
			r.settled("after the end at " + failpoint.At(p, hits))
		}
	}
	r.t.Logf("%d kills at %d points", i, points)
}

// often are the points passed many times a second under load.
var often = map[failpoint.Point]bool{
	failpoint.ApplyBefore: true, failpoint.ApplyAfter: true, failpoint.StoreBefore: true, failpoint.StoreAfter: true,
	failpoint.PublishBefore: true, failpoint.PublishAfter: true, failpoint.AckBefore: true, failpoint.AckAfter: true,
}
