package failover

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/control"
	"understudy/failover"
	"understudy/internal/failpoint"
)

// What the source does while cables are cut.
const (
	alive     = "alive"
	dead      = "dead"
	rebooting = "rebooting"
)

// TestCutLinksNeverMakeTwo: every subset of the cables of source, target and witness is
// cut, with the source alive, dead and rebooting, and mended (the short form leaves some
// out). A host of its own asks all the time who has the addresses: never do two answer.
// Nobody takes over from a source that can be heard; a target that is cut off itself never
// takes over; a real death is always taken over once a witness answers; a source that was
// replaced and comes back keeps off, and has its addresses again after failback.
func TestCutLinksNeverMakeTwo(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	short := map[string][]int{alive: {1, 6}, dead: {0}, rebooting: {1}}
	for _, how := range []string{alive, dead, rebooting} {
		for cut := range 8 {
			if !long() && !slices.Contains(short[how], cut) {
				continue
			}
			t.Run(fmt.Sprintf("source %s, cut %03b", how, cut), func(t *testing.T) {
				s.t = t
				s.links(how, cut)
			})
		}
	}
}

// TestPlantedKeptAddressIsSeen: a source that is cut off and does not give its addresses
// up is seen to answer beside the target.
func TestPlantedKeptAddressIsSeen(t *testing.T) {
	t.Parallel()
	s := newStageWith(t, string(failpoint.PlantKeepAddresses))
	s.leased()
	o := s.observe(s.source4())
	s.b.Cut(hostSource)
	s.await("failed over")
	s.b.Mend(hostSource)
	waitFor(t, "two machines to answer", func() bool { return o.doubles.Load() > 0 })
	waitFor(t, "the source to notice it", func() bool { return !s.has(hostSource, s.source4()) })
}

// leased starts a monitor with a witness and waits until the source has its lease.
func (s *stage) leased() {
	s.t.Helper()
	s.monitor(func(m *control.MonitorConfig) { m.Witnesses = []string{s.b.Addr(hostWitness)} }, s.fast(s.source4()), s.fast(s.b.Addr6(hostSource)))
	s.watching()
	waitFor(s.t, "the source to hold its addresses on lease", func() bool { return strings.Contains(s.sees().Lease, "gives its addresses up") })
}

// links cuts the cables of the source (1), the target (2) and the witness (4).
func (s *stage) links(how string, cut int) {
	before := s.addresses(hostTarget)
	defer func() {
		if s.t.Failed() {
			s.t.Logf("in the end: %+v", s.sees())
		}
	}()
	s.leased()
	o4, o6 := s.observe(s.source4()), s.observe(s.b.Addr6(hostSource))
	hosts := []int{hostSource, hostTarget, hostWitness}
	for i, h := range hosts {
		if cut&(1<<i) != 0 {
			s.b.Cut(h)
		}
	}
	if how != alive {
		s.source.Kill()
		s.b.Die(hostSource)
	}
	silent, heard := how != alive || cut&3 != 0, cut&6 == 0 // heard: the target hears the witness
	switch {
	case silent && heard:
		s.await("failed over")
	case silent:
		waitFor(s.t, "the target to see that it may be cut off", func() bool { return s.sees().Pending != "" })
		s.quiet(time.Second)
	default:
		s.quiet(time.Second)
	}
	if how == rebooting {
		s.bootSource()
	}
	for _, h := range hosts {
		s.b.Mend(h)
	}
	if how == dead || silent && heard {
		s.await("failed over") // the witness answers by now
		s.off()
	} else {
		s.await("online")
		s.quiet(time.Second)
	}
	if s.sees().State == "failed over" {
		s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: how == dead}, nil)
	}
	if how == dead {
		o4.anew(s.t) // a look begun before the failback may end after the boot, which takes no time here
		o6.anew(s.t)
		s.bootSource()
	}
	waitFor(s.t, "the source to have its addresses", func() bool { return s.has(hostSource, s.source4()) && s.has(hostSource, s.b.Addr6(hostSource)) })
	s.over(before)
	for name, o := range map[string]*observer{"IPv4": o4, "IPv6": o6} {
		if n := o.end(); n > 0 {
			s.t.Errorf("%s: two machines answered %d times: %s", name, n, o.who.Load())
		}
	}
}

// off: a source that lives has given its addresses up, and keeps them so.
func (s *stage) off() {
	s.t.Helper()
	if !s.has(hostTarget, s.source4()) || !s.has(hostTarget, s.b.Addr6(hostSource)) {
		s.t.Errorf("taken over: %v", s.addresses(hostTarget))
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s.sees().State != "failed over" {
			s.t.Fatalf("not failed over any more: %s", s.sees().Line)
		}
	}
}

// bootSource starts the source as a machine that was switched on: its daemon comes before
// its network, as ops/understudy.service has it.
func (s *stage) bootSource() {
	s.t.Helper()
	card, h := s.b.Card(), s.b.Hosts[hostSource]
	h.Run(s.t, "ip", "addr", "flush", "dev", card)
	reboot(s.source)
	s.source.Start()
	h.Run(s.t, "ip", "link", "set", card, "up")
	h.Run(s.t, "ip", "addr", "add", s.source4()+"/24", "dev", card)
	h.Run(s.t, "ip", "addr", "add", s.b.Addr6(hostSource)+"/64", "dev", card)
}

// observer asks from the client's host who has an address, ten times a second.
type observer struct {
	cancel  context.CancelFunc
	done    chan struct{}
	looks   atomic.Int64
	doubles atomic.Int64
	who     atomic.Value // of the last double answer
}

func (s *stage) observe(ip string) *observer {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := &observer{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		for ctx.Err() == nil {
			o.looks.Add(1)
			var macs []string
			began := time.Now()
			err := s.b.Hosts[hostClient].Do(func() (err error) {
				macs, err = failover.Kernel{}.Owners(ctx, s.b.Card(), netip.MustParseAddr(ip))
				return err
			})
			// Answers that came later than that may be of two moments: the machine was busy.
			if err == nil && len(macs) > 1 && time.Since(began) < 250*time.Millisecond {
				o.who.Store(strings.Join(macs, " "))
				o.doubles.Add(1)
			}
		}
	}()
	s.t.Cleanup(func() { o.end() })
	return o
}

// anew waits until a new look began.
func (o *observer) anew(t testing.TB) {
	t.Helper()
	before := o.looks.Load()
	waitFor(t, "a new look", func() bool { return o.looks.Load() > before })
}

// end stops it and returns how often two answered.
func (o *observer) end() int64 { o.cancel(); <-o.done; return o.doubles.Load() }

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
