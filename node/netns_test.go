package node

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/internal/testnode"
)

// Faults of a real network: two daemons in namespaces of their own, joined by a pair of
// virtual interfaces. The kernel's TCP meets lost packets, resets, a pulled cable and
// changed addresses; the proxy of network_test.go adds what a kernel hides, damaged bytes.

// wireFault breaks the line, keeps it broken for a while and heals it.
type wireFault struct {
	name string
	do   func(w *testnode.Wire, rng *rand.Rand)
}

// down keeps the line as broken as f makes it for a random while.
func down(limit time.Duration, f func(w *testnode.Wire, rng *rand.Rand)) func(*testnode.Wire, *rand.Rand) {
	return func(w *testnode.Wire, rng *rand.Rand) {
		f(w, rng)
		instant(rng, limit)
		w.Heal()
	}
}

// wireFaults are the ways, the short ones more often than those that outlive timeouts.
var wireFaults = []wireFault{
	{"reset", down(100*time.Millisecond, func(w *testnode.Wire, rng *rand.Rand) { w.Reset(testnode.Side(rng.IntN(2))) })},
	{"half open", down(400*time.Millisecond, func(w *testnode.Wire, _ *rand.Rand) { w.Drop(testnode.SideA, 100); w.Drop(testnode.SideB, 100) })},
	{"one way forth", down(400*time.Millisecond, func(w *testnode.Wire, _ *rand.Rand) { w.Drop(testnode.SideA, 100) })},
	{"one way back", down(400*time.Millisecond, func(w *testnode.Wire, _ *rand.Rand) { w.Drop(testnode.SideB, 100) })},
	{"flapping", func(w *testnode.Wire, rng *rand.Rand) {
		for range 5 {
			w.Pull(testnode.Side(rng.IntN(2)))
			instant(rng, 60*time.Millisecond)
			w.Heal()
			instant(rng, 60*time.Millisecond)
		}
	}},
	{"pulled", down(500*time.Millisecond, func(w *testnode.Wire, rng *rand.Rand) { w.Pull(testnode.Side(rng.IntN(2))) })},
	{"lossy", down(time.Second, func(w *testnode.Wire, rng *rand.Rand) {
		w.Drop(testnode.SideA, 5+rng.IntN(25))
		w.Drop(testnode.SideB, 5+rng.IntN(25))
	})},
	{"slow", func(w *testnode.Wire, rng *rand.Rand) {
		w.Slow(256 + rng.IntN(2000))
		instant(rng, 500*time.Millisecond)
		w.Slow(0)
	}},
}

// longFaults outlive the timers of link_alive.go, or are noticed by them alone.
var longFaults = []wireFault{
	{"source moves", func(w *testnode.Wire, rng *rand.Rand) { w.Readdress(testnode.SideA, byte(10+rng.IntN(200))) }},
	{"long half open", down(9*time.Second, func(w *testnode.Wire, _ *rand.Rand) { w.Drop(testnode.SideA, 100); w.Drop(testnode.SideB, 100) })},
	{"long one way back", down(9*time.Second, func(w *testnode.Wire, _ *rand.Rand) { w.Drop(testnode.SideB, 100) })},
	{"long pulled", down(9*time.Second, func(w *testnode.Wire, rng *rand.Rand) { w.Pull(testnode.Side(rng.IntN(2))) })},
}

// wiredRig is a protected rig on a wire of its own.
func wiredRig(t testing.TB) (*rig, *testnode.Wire) {
	t.Helper()
	w := testnode.NewWire(t)
	r := newRigOn(t, w, nil)
	r.mount()
	r.connect()
	r.usable()
	r.settled("before")
	return r, w
}

// faultAt is the fault of a round: every kind in turn, a long one now and then.
func faultAt(i, longEvery int) wireFault {
	if longEvery > 0 && i%longEvery == longEvery-1 {
		return longFaults[i/longEvery%len(longFaults)]
	}
	return wireFaults[i%len(wireFaults)]
}

// TestNetworkFaultsLoseNothing: faults of the network under load: resets, silence in both
// or one direction, a pulled cable, flapping, loss, a slow line, a source that gets
// another address. What was captured until the line healed arrives within 5 s; nothing is
// lost or done twice, and no new epoch begins. With the 36 of network_test.go there are
// 100 faults in a run.
func TestNetworkFaultsLoseNothing(t *testing.T) {
	t.Parallel()
	const seed = 151
	r, w := wiredRig(t)
	before := r.connection()
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(seed, 1))
	n := scaled(64, 2000)
	times := map[string][]time.Duration{}
	var all []time.Duration
	var stop func() exercise.Stats
	for i := range n {
		if i%10 == 0 {
			stop = r.load(exercise.Job{Kind: "rate", Seed: seed + int64(i), Ops: 500}, false)
		}
		f := faultAt(i, scaled(16, 10))
		f.do(w, rng)
		took := r.resumed()
		times[f.name], all = append(times[f.name], took), append(all, took)
		if took > resumeWithin {
			t.Errorf("fault %d, %s: changes arrived only %v after the line healed", i, f.name, took)
		}
		if i%10 == 9 || i == n-1 {
			stop()
			r.settled("after fault " + strconv.Itoa(i) + ", " + f.name)
		}
	}
	if now := r.connection(); now.Epoch != before.Epoch {
		t.Errorf("epoch %s was %s: %s", now.Epoch, before.Epoch, now.LastError)
	}
	printTimes(t, seed, times, all)
}

func printTimes(t testing.TB, seed uint64, times map[string][]time.Duration, all []time.Duration) {
	t.Helper()
	for name, d := range times {
		slices.Sort(d)
		t.Logf("%-18s %3d times: resumed after median %v, longest %v", name, len(d), quantile(d, 0.5), d[len(d)-1].Round(time.Millisecond))
	}
	slices.Sort(all)
	t.Logf("seed %d, %d faults: median %v, p90 %v, p99 %v, longest %v", seed, len(all), quantile(all, 0.5), quantile(all, 0.9), quantile(all, 0.99),
		all[len(all)-1].Round(time.Millisecond))
}

// BenchmarkResume reports how soon changes arrive again after the network healed.
func BenchmarkResume(b *testing.B) {
	const seed = 161
	r, w := wiredRig(b)
	rng := rand.New(rand.NewPCG(seed, 1))
	stop := r.load(exercise.Job{Kind: "rate", Seed: seed, Ops: 500}, false)
	defer stop()
	times := map[string][]time.Duration{}
	var all []time.Duration
	for i := 0; b.Loop(); i++ {
		f := faultAt(i, 4)
		f.do(w, rng)
		took := r.resumed()
		times[f.name], all = append(times[f.name], took), append(all, took)
	}
	printTimes(b, seed, times, all)
	b.ReportMetric(quantile(all, 0.5).Seconds()*1000, "p50-ms")
	b.ReportMetric(quantile(all, 0.99).Seconds()*1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// TestTargetMoves: the target gets another address. The source goes on asking at the
// old one; when the operator tells it the new one, the same epoch goes on: nothing that
// waited is sent again by a mirror.
func TestTargetMoves(t *testing.T) {
	t.Parallel()
	r, w := wiredRig(t)
	before := r.connection()
	defer r.asleep(r.levels())
	stop := r.load(exercise.Job{Kind: "rate", Seed: 171, Ops: 500}, false)
	w.Readdress(testnode.SideB, 77)
	waitFor(t, "the source to miss the target", func() bool { return r.connection().TargetState == "Unreachable" })
	want := r.connection().CapturedOp
	r.source.mustAsk("machine.add", control.Machine{Name: "jersey", Address: w.HostPort(testnode.SideB, r.target.cfg.Listen)}, nil)
	began := time.Now()
	waitFor(t, "changes to arrive again", func() bool { return r.connection().AppliedOp >= want })
	t.Logf("resumed %v after the new address was known", time.Since(began).Round(time.Millisecond))
	stop()
	r.settled("after the move")
	if now := r.connection(); now.Epoch != before.Epoch || now.MirrorFiles != before.MirrorFiles {
		t.Errorf("epoch %s was %s, %d files mirrored, were %d", now.Epoch, before.Epoch, now.MirrorFiles, before.MirrorFiles)
	}
	r.source.closeControl() // and remembered over a restart
	r.source.d.Stop()
	r.source.start()
	r.settled("after a restart")
}
