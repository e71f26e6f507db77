package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/testnode"
)

// soakEnv gives the duration of TestSoak, as in 8h; task soak sets it.
const soakEnv = "UNDERSTUDY_SOAK"

// soakShort is how long it takes in the test run.
const soakShort = 3 * time.Minute

// sample is what the pair holds when it sleeps.
type sample struct {
	at      time.Duration // since the begin
	figures [len(soakFigures)]float64
}

// soakFigures are watched for growth. slack is how much the last third of a run may be
// above the first; perHour as well, for long runs.
var soakFigures = [...]struct {
	name  string
	slack float64
}{
	{"source goroutines", slackCount}, {"target goroutines", slackCount},
	{"source descriptors", 2 * slackCount}, {"target descriptors", 2 * slackCount},
	{"source memory MiB", 64}, {"target memory MiB", 64},
	{"source disk MiB", 64}, {"target disk MiB", 64},
}

func (r *rig) sample(began time.Time) sample {
	r.t.Helper()
	l := r.levels()
	s := sample{at: time.Since(began)}
	for i, m := range []*machine{r.source, r.target} {
		s.figures[i] = float64(l[i].goroutines)
		s.figures[2+i] = float64(l[i].descriptors)
		s.figures[4+i] = float64(l[i].memory >> 20)
		s.figures[6+i] = float64(testnode.DiskUse(r.t, m.cfg.Data) >> 20)
	}
	return s
}

// growth compares the means of the first and the last third, and gives the slope of the
// line through all samples, per hour.
func growth(samples []sample, figure int) (first, last, slope float64) {
	third := max(1, len(samples)/3)
	var n, sx, sy, sxx, sxy float64
	for i, s := range samples {
		x, y := s.at.Hours(), s.figures[figure]
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
		if i < third {
			first += y / float64(third)
		}
		if i >= len(samples)-third {
			last += y / float64(third)
		}
	}
	if d := n*sxx - sx*sx; d > 0 {
		slope = (n*sxy - sx*sy) / d
	}
	return first, last, slope
}

// soakFault is one of everything that can happen to a pair.
type soakFault struct {
	name string
	do   func(s *soaked)
}

type soaked struct {
	*rig
	w      *testnode.Wire
	rng    *rand.Rand
	volume string // file system of the replica, small
}

var soakFaults = []soakFault{
	{"network", func(s *soaked) { wireFaults[s.rng.IntN(len(wireFaults))].do(s.w, s.rng) }},
	{"network", func(s *soaked) { wireFaults[s.rng.IntN(len(wireFaults))].do(s.w, s.rng) }},
	{"kill target", func(s *soaked) { s.target.kill(); instant(s.rng, time.Second); s.target.start() }},
	{"kill source", func(s *soaked) { s.source.kill(); instant(s.rng, time.Second); s.source.start() }},
	{"mirror", func(s *soaked) {
		mode := []string{"full", "diff"}[s.rng.IntN(2)]
		_ = s.source.ask("mirror", control.MirrorRequest{ID: s.rig.id, Action: "start", Mode: mode}, nil) // between sessions it is refused
	}},
	{"target paused", func(s *soaked) {
		s.target.mustAsk("target", control.PauseRequest{Source: "indy", Pause: true}, nil)
		instant(s.rng, time.Second)
		s.target.mustAsk("target", control.PauseRequest{Source: "indy"}, nil)
	}},
	{"transmission paused", func(s *soaked) {
		s.source.mustAsk("transmission", control.PauseRequest{ID: s.rig.id, Pause: true}, nil)
		instant(s.rng, time.Second)
		s.source.mustAsk("transmission", control.PauseRequest{ID: s.rig.id}, nil)
	}},
	{"target disk full", func(s *soaked) { s.fill(s.rng) }},
}

// fill takes the space of the replica's file system for a while.
func (s *soaked) fill(rng *rand.Rand) {
	s.t.Helper()
	filler := filepath.Join(s.volume, "filler")
	f, err := os.Create(filler)
	must(s.t, err)
	defer f.Close()
	for size := int64(64 << 20); size > 4096; size /= 2 {
		var at unix.Stat_t
		must(s.t, unix.Fstat(int(f.Fd()), &at))
		for unix.Fallocate(int(f.Fd()), 0, at.Size, size) == nil {
			at.Size += size
		}
	}
	instant(rng, 2*time.Second)
	must(s.t, os.Remove(filler))
}

// soakedRig is a rig on a wire whose replica has a small file system of its own.
func soakedRig(t testing.TB, seed uint64) *soaked {
	t.Helper()
	w := testnode.NewWire(t)
	r := newRigOn(t, w, nil)
	volume := filepath.Join(filepath.Dir(r.replica), "volume")
	must(t, os.Mkdir(volume, 0o755))
	must(t, unix.Mount("understudy-soak", volume, "tmpfs", 0, "size=512m"))
	t.Cleanup(func() { _ = unix.Unmount(volume, unix.MNT_DETACH) })
	r.replica = filepath.Join(volume, "replica")
	r.mount()
	r.connect()
	r.usable()
	r.settled("before")
	return &soaked{rig: r, w: w, rng: rand.New(rand.NewPCG(seed, 1)), volume: volume}
}

// TestSoak: random faults of every kind under load, one after another. After each the pair
// converges and sleeps; at the end nothing has grown: goroutines, descriptors, memory, the
// disk space of both data directories.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed, limit := uint64(191), soakShort
	if text := os.Getenv(soakEnv); text != "" {
		d, err := time.ParseDuration(text)
		must(t, err)
		seed, limit = uint64(time.Now().UnixNano()), d
	} else if testing.Short() {
		limit = 20 * time.Second
	}
	t.Logf("seed %d, %v", seed, limit)
	s := soakedRig(t, seed)
	began := time.Now()
	var samples []sample
	count := map[string]int{}
	for i := 0; time.Since(began) < limit; i++ {
		stop := s.load(mixedLoad(i), true)
		for range 1 + s.rng.IntN(3) {
			f := soakFaults[s.rng.IntN(len(soakFaults))]
			instant(s.rng, 300*time.Millisecond)
			f.do(s)
			count[f.name]++
		}
		stop()
		quiet := time.Now()
		s.settled(fmt.Sprintf("round %d, %v", i, count))
		if took := time.Since(quiet); took > sleepWithin {
			t.Errorf("round %d: converged only after %v", i, took)
		}
		samples = append(samples, s.sample(began))
	}
	t.Logf("%d rounds: %v", len(samples), count)
	for i, f := range soakFigures {
		first, last, slope := growth(samples, i)
		t.Logf("%-18s first third %7.1f, last third %7.1f, slope %+.1f an hour", f.name, first, last, slope)
		if len(samples) >= 6 && last > first+f.slack {
			t.Errorf("%s grew from %.1f to %.1f", f.name, first, last)
		}
	}
}
