package node

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/internal/testnode"
)

// resumeWithin is how soon after the healing of a line changes arrive again.
const resumeWithin = 5 * time.Second

// lineFault is one way a network fails; it returns when the line is good again.
type lineFault struct {
	name string
	do   func(p *testnode.Proxy, rng *rand.Rand)
}

// hold keeps a state of the line for a random while, then heals it.
func hold(f testnode.Fault, limit time.Duration) func(*testnode.Proxy, *rand.Rand) {
	return func(p *testnode.Proxy, rng *rand.Rand) {
		p.Set(f)
		instant(rng, limit)
		p.Set(testnode.Fault{})
	}
}

var lineFaults = []lineFault{
	{"cut", func(p *testnode.Proxy, _ *rand.Rand) { p.Cut() }},
	{"cut for a while", func(p *testnode.Proxy, rng *rand.Rand) {
		p.Set(testnode.Fault{Refuse: true})
		p.Cut()
		instant(rng, time.Second)
		p.Set(testnode.Fault{})
	}},
	{"flapping", func(p *testnode.Proxy, rng *rand.Rand) {
		for range 10 {
			p.Cut()
			instant(rng, 100*time.Millisecond)
		}
	}},
	{"half open", hold(testnode.Fault{Hold: [2]bool{true, true}}, 2*time.Second)},
	{"one way forth", hold(testnode.Fault{Hold: [2]bool{testnode.Back: true}}, 2*time.Second)},
	{"one way back", hold(testnode.Fault{Hold: [2]bool{testnode.Forth: true}}, 2*time.Second)},
	{"slow", hold(testnode.Fault{Rate: 100_000}, 2*time.Second)},
}

// proxiedRig is a protected rig whose source reaches the target over a line that fails.
func proxiedRig(t testing.TB, seed uint64) (*rig, *testnode.Proxy) {
	t.Helper()
	r := newRig(t, nil)
	p := testnode.NewProxy(t, r.target.d.Addr(), seed)
	r.via = p.Addr()
	r.mount()
	r.connect()
	r.usable()
	return r, p
}

// resumed measures how long it takes until what is captured now is applied.
func (r *rig) resumed() time.Duration {
	r.t.Helper()
	want := r.connection().CapturedOp
	began := time.Now()
	waitFor(r.t, "changes to arrive again", func() bool { return r.connection().AppliedOp >= want })
	return time.Since(began)
}

// TestFailingLineLosesNothing: the line between source and target is cut, flaps, stays
// half open, passes one way only or is slow, under load. What was captured until it
// healed arrives within 5 s; nothing is lost or done twice, and no new epoch begins.
func TestFailingLineLosesNothing(t *testing.T) {
	t.Parallel()
	r, p := proxiedRig(t, 51)
	r.settled("before")
	before := r.connection()
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(51, 52))
	var slowest time.Duration
	n := scaled(21, 700)
	for i := range n {
		f := lineFaults[i%len(lineFaults)]
		stop := r.load(exercise.Job{Kind: "rate", Seed: int64(i), Ops: 1000}, false)
		instant(rng, 200*time.Millisecond)
		f.do(p, rng)
		took := r.resumed()
		slowest = max(slowest, took)
		t.Logf("%s: resumed after %v", f.name, took.Round(time.Millisecond))
		if took > resumeWithin {
			t.Errorf("%s: changes arrived only %v after the line healed", f.name, took)
		}
		stop()
		r.settled("after fault " + strconv.Itoa(i) + ", " + f.name)
	}
	if now := r.connection(); now.Epoch != before.Epoch {
		t.Errorf("epoch %s was %s: %s", now.Epoch, before.Epoch, now.LastError)
	}
	t.Logf("%d faults, slowest resume %v", n, slowest.Round(time.Millisecond))
}

// TestFailingLineWhileMirroring: a mirror under way is healed by comparing.
func TestFailingLineWhileMirroring(t *testing.T) {
	t.Parallel()
	r, p := proxiedRig(t, 61)
	if _, err := (exercise.Job{Kind: "stress", Dir: r.dir, Seed: 61, Workers: 2, Ops: 4000}).RunChild(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.settled("before")
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(61, 62))
	for i := range scaled(7, 350) {
		f := lineFaults[i%len(lineFaults)]
		r.source.mustAsk("mirror", control.MirrorRequest{ID: r.id, Action: "start", Mode: "full"}, nil)
		instant(rng, 100*time.Millisecond)
		f.do(p, rng)
		r.settled("after fault " + strconv.Itoa(i) + ", " + f.name)
	}
	r.usable()
}

// TestDamagedBytesAreNeverApplied: bits flip on the line, both ways. Checksums and the
// protocol catch them; the pair heals by itself, at worst in a new epoch.
func TestDamagedBytesAreNeverApplied(t *testing.T) {
	t.Parallel()
	r, p := proxiedRig(t, 71)
	r.settled("before")
	defer r.asleep(r.levels())
	rng := rand.New(rand.NewPCG(71, 72))
	for i := range scaled(8, 400) {
		stop := r.load(exercise.Job{Kind: "rate", Seed: int64(i), Ops: 1000}, false)
		instant(rng, 150*time.Millisecond)
		p.Corrupt(testnode.Direction(i%2), 1+rng.IntN(3))
		instant(rng, 300*time.Millisecond)
		stop()
		p.Corrupt(testnode.Direction(i%2), 0)
		r.settled("after damage " + strconv.Itoa(i))
	}
	t.Logf("%d bytes damaged", p.Damaged())
}

// TestFullQueueNeverStopsApplications: transmission is paused until the source's queue
// is full. The connection gives the queue up and begins a new epoch; the application
// sees no error and waits for nothing (B6.33, B6.35); afterwards the pair converges.
func TestFullQueueNeverStopsApplications(t *testing.T) {
	r := newRig(t, func(source, _ *Config) { source.QueueLimit, source.MemoryLimit = 32<<20, 32<<20 })
	r.mount()
	r.connect()
	r.usable()
	r.settled("before")
	before := r.connection()
	defer r.asleep(r.levels())
	quiet := r.writeTimes(2000)
	r.source.mustAsk("transmission", control.PauseRequest{ID: r.id, Pause: true}, nil)
	full := r.writeTimes(30_000) // 117 MiB into 32
	waitFor(t, "the new epoch", func() bool { return r.connection().Epoch != before.Epoch })
	r.source.mustAsk("transmission", control.PauseRequest{ID: r.id}, nil)
	r.settled("after the queue was full")
	added := quantile(full, 0.999) - quantile(quiet, 0.5)
	t.Logf("4 KiB writes: usual median %v, p99.9 %v; while the queue fills and is given up: median %v, p99.9 %v, longest %v",
		quantile(quiet, 0.5), quantile(quiet, 0.999), quantile(full, 0.5), quantile(full, 0.999), full[len(full)-1])
	if added > 100*time.Millisecond { // ten times the goal: the machine may be busy
		t.Errorf("added latency %v at p99.9", added)
	}
}

// writeTimes writes n blocks of 4 KiB and returns how long each took, shortest first.
func (r *rig) writeTimes(n int) []time.Duration {
	r.t.Helper()
	f, err := os.Create(filepath.Join(r.dir, "writes"))
	must(r.t, err)
	defer f.Close()
	block := make([]byte, 4096)
	times := make([]time.Duration, n)
	for i := range times {
		block[0] = byte(i)
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			r.t.Fatalf("the application saw an error: %v", err)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Microsecond)
}

// TestBackToSleep: after cuts under load the pair converges, and goroutines, descriptors
// and memory of both daemons are back to what they were, within 60 s.
func TestBackToSleep(t *testing.T) {
	t.Parallel()
	r, p := proxiedRig(t, 81)
	rng := rand.New(rand.NewPCG(81, 82))
	round := func(cuts int) {
		stop := r.load(exercise.Job{Kind: "rate", Seed: 81, Ops: 500}, false)
		for range cuts {
			instant(rng, 400*time.Millisecond) // mostly the line is up again
			p.Cut()
		}
		stop()
		r.settled("after a round")
	}
	round(1)
	before := r.levels()
	round(20)
	r.asleep(before)
	t.Logf("before %v; after %v", before, r.levels())
}
