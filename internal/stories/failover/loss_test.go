package failover

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"understudy/control"
)

// bad is a stretch of a bad network, or of a busy machine.
type bad struct {
	name string
	do   func(s *stage, watch func(time.Duration))
}

// stretches come one after the other: loss, silence of the cable and of the source's daemon
// for well over half of the time to fail, and a target that is stopped for longer than that.
var stretches = []bad{
	{"30 % loss each way", func(s *stage, watch func(time.Duration)) {
		s.b.Lose(hostSource, 30)
		watch(10 * time.Second)
		s.b.Mend(hostSource)
	}},
	{"cable silent", func(s *stage, watch func(time.Duration)) {
		s.b.CutFor(hostSource, 2500*time.Millisecond)
		watch(2500 * time.Millisecond)
		s.b.Mend(hostSource)
		watch(1500 * time.Millisecond)
	}},
	{"source stopped", func(s *stage, watch func(time.Duration)) {
		s.halted(s.source, 3*time.Second, watch)
		watch(1500 * time.Millisecond)
	}},
	{"target stopped", func(s *stage, watch func(time.Duration)) {
		s.halted(s.target, 6*time.Second, func(d time.Duration) { time.Sleep(d) }) // it answers nobody meanwhile
		watch(time.Second)
	}},
}

// halted stops a daemon for a while, as a machine that is too busy. It ends on time, also
// when a look takes long.
func (s *stage) halted(m *machine, d time.Duration, watch func(time.Duration)) {
	s.t.Helper()
	goOn := func() { _ = syscall.Kill(m.D.PID(), syscall.SIGCONT) }
	must(s.t, syscall.Kill(m.D.PID(), syscall.SIGSTOP))
	timer := time.AfterFunc(d, goOn)
	defer goOn()
	defer timer.Stop()
	watch(d)
}

// TestLossIsNoDeath: loss, stalls of the line and of either daemon, for two minutes, 30 in
// the long form: nobody takes over, and the source gives no address up. Its real death is
// noticed then.
func TestLossIsNoDeath(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.monitor(func(m *control.MonitorConfig) { m.Witnesses = []string{s.b.Addr(hostWitness)} },
		s.address(s.source4(), time.Second, 4, "ping"), s.address(s.b.Addr6(hostSource), time.Second, 4, "both"))
	s.watching()
	lowest, looks := s.sees().LeftMS, 0
	watch := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			st := s.sees()
			looks++
			lowest = min(lowest, slices.MinFunc(st.Watched, func(a, b control.WatchedAddressStatus) int { return int(a.LeftMS - b.LeftMS) }).LeftMS)
			if st.State == "failed over" || st.State == "failing over" {
				t.Fatalf("taken over from a living source: %+v", st.Watched)
			}
			if !s.has(hostSource, s.source4()) || !s.has(hostSource, s.b.Addr6(hostSource)) {
				t.Fatalf("the source gave up an address: it has %v", s.addresses(hostSource))
			}
		}
	}
	rounds := 0
	for end := time.Now().Add(time.Duration(scaled(120, 1800)) * time.Second); time.Now().Before(end); rounds++ {
		stretches[rounds%len(stretches)].do(s, watch)
	}
	t.Logf("%d stretches, looked %d times; least time to fail of an address: %d of 4000 ms", rounds, looks, lowest)
	s.await("online")
	s.b.Die(hostSource)
	s.await("failed over")
}
