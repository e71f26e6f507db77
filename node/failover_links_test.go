package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"understudy/control"
)

// TestCutLinksNeverMakeTwo: every subset of the cables of source, target and witness is
// cut (the short form leaves some out), with the source alive and dead. Nobody takes over from a living source that can be
// heard; a target that is cut off itself never takes over; a real death is always taken
// over once a witness answers; a source that lost only its own cable is taken over once,
// and its coming back is told.
func TestCutLinksNeverMakeTwo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, dead := range []bool{false, true} {
		for cut := range 8 {
			if !long() && (dead && cut&1 != 0 || cut == 3 || cut == 5 || cut == 7) {
				continue // of the short form: a dead source's cable, and what two others show
			}
			t.Run(fmt.Sprintf("source dead %v, cut %03b", dead, cut), func(t *testing.T) {
				before := s.addresses(hostTarget)
				s.t = t
				s.links(dead, cut)
				s.over(before)
			})
		}
	}
}

// links cuts the cables of the source (1), the target (2) and the witness (4).
func (s *stage) links(dead bool, cut int) {
	s.monitor(func(m *control.MonitorConfig) { m.Witnesses = []string{s.b.Addr(hostWitness)} }, s.fast(s.source4()), s.fast(s.b.Addr6(hostSource)))
	s.watching()
	hosts := []int{hostSource, hostTarget, hostWitness}
	for i, h := range hosts {
		if cut&(1<<i) != 0 {
			s.b.Cut(h)
		}
	}
	if dead {
		s.b.Die(hostSource)
	}
	silent := dead || cut&3 != 0
	heard := cut&6 == 0 // the target hears the witness
	switch {
	case silent && heard:
		s.await("failed over")
		if !s.has(hostTarget, s.source4()) || !s.has(hostTarget, s.b.Addr6(hostSource)) {
			s.t.Errorf("taken over: %v", s.addresses(hostTarget))
		}
	case silent:
		waitFor(s.t, "the target to see that it may be cut off", func() bool { return s.sees().Pending != "" })
		s.quiet(1500 * time.Millisecond)
	default:
		s.quiet(time.Second)
	}
	for _, h := range hosts {
		s.b.Mend(h)
	}
	switch {
	case dead:
		s.await("failed over") // the witness answers by now
	case !heard || !silent:
		s.await("online")
		s.quiet(time.Second)
	}
}

// quiet watches that the source's addresses are not taken over.
func (s *stage) quiet(d time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if st := s.sees(); st.State == "failed over" || st.State == "failing over" {
			s.t.Fatalf("taken over: %s; %+v", st.Line, st.Watched)
		}
		if s.has(hostTarget, s.source4()) || s.has(hostTarget, s.b.Addr6(hostSource)) {
			s.t.Fatalf("two machines have an address: %v", s.addresses(hostTarget))
		}
	}
}

// TestLossIsNoDeath: 30 % of the packets of the source are lost, each way, for ten
// seconds, 30 minutes in the long form: nobody takes over. The source's real death is noticed then.
func TestLossIsNoDeath(t *testing.T) {
	t.Parallel()
	if !long() {
		t.Log("short form: 10 s")
	}
	s := newStage(t)
	s.monitor(nil, s.address(s.source4(), time.Second, 4, "ping"), s.address(s.b.Addr6(hostSource), time.Second, 4, "service"))
	s.watching()
	s.b.Lose(hostSource, 30)
	lowest := s.sees().LeftMS
	for end := time.Now().Add(time.Duration(scaled(10, 1800)) * time.Second); time.Now().Before(end); {
		st := s.sees()
		lowest = min(lowest, slices.MinFunc(st.Watched, func(a, b control.WatchedAddressStatus) int { return int(a.LeftMS - b.LeftMS) }).LeftMS)
		if st.State == "failed over" || st.State == "failing over" {
			t.Fatalf("taken over from a living source: %+v", st.Watched)
		}
	}
	t.Logf("least time to fail of an address: %d of 4000 ms", lowest)
	s.b.Die(hostSource)
	s.await("failed over")
}
