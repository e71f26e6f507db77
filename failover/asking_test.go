package failover

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// TestWatchGoesOnAfterAStall: an answer that comes while this machine stalls, and lies there
// beside the next request's time, ends nothing: requests go on, and the source's death is
// noticed.
func TestWatchGoesOnAfterAStall(t *testing.T) {
	watching(t, nil, func(t *testing.T, s *sentry, n *scripted, _ *told) {
		n.but(func() { n.stall = 300 * time.Millisecond }) // a request is due every 200 ms
		time.Sleep(time.Minute)
		if st := s.status(); st.State != "online" {
			t.Fatalf("stalling: %s: %s", st.State, st.Line)
		}
		n.but(func() { n.stall = 0 })
		n.set("192.0.2.1", true, nil)
		time.Sleep(10 * time.Second)
		if !takingOver(s) {
			t.Errorf("the source is dead: %+v", s.status())
		}
	}, "192.0.2.1")
}

// failing is an error of a socket as package net gives it.
func failing(e error) func() error {
	return func() error {
		return &net.OpError{Op: "write", Net: "ip4", Err: os.NewSyscallError("sendto", e)}
	}
}

var (
	silences = []error{unix.EHOSTUNREACH, unix.EHOSTDOWN, unix.ECONNREFUSED}
	troubles = []error{unix.ENETUNREACH, unix.ENETDOWN, unix.EPERM, unix.EACCES, unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENODEV, unix.ENXIO,
		unix.EAFNOSUPPORT, unix.ENOBUFS, unix.ENOMEM, unix.EAGAIN, unix.EMFILE, os.ErrDeadlineExceeded}
)

// TestDeathIsNoTroubleOfTheTarget: what a dead source makes of a request is silence, and the
// takeover begins.
func TestDeathIsNoTroubleOfTheTarget(t *testing.T) {
	for _, e := range silences {
		t.Run(e.Error(), func(t *testing.T) {
			watching(t, nil, func(t *testing.T, s *sentry, n *scripted, _ *told) {
				n.set("192.0.2.1", true, failing(e))
				time.Sleep(5 * time.Second)
				if !takingOver(s) {
					t.Errorf("no takeover: %+v", s.status())
				}
			}, "192.0.2.1")
		})
	}
}

// TestTargetThatCannotAskTellsSo: a target that cannot send its requests never takes over
// for that, however long; it shows what it is, and raises an alert, until it can ask again.
// A death that comes then is noticed.
func TestTargetThatCannotAskTellsSo(t *testing.T) {
	for _, e := range troubles {
		t.Run(e.Error(), func(t *testing.T) {
			watching(t, nil, func(t *testing.T, s *sentry, n *scripted, h *told) {
				n.set("192.0.2.1", true, failing(e))
				time.Sleep(1500 * time.Millisecond)
				if st := s.status(); st.State != "caution" {
					t.Errorf("after a quarter of the time to fail: %s", st.State)
				}
				time.Sleep(time.Hour)
				st := s.status()
				if st.State != "caution" || takingOver(s) || !strings.Contains(st.Line, "cannot be asked") || !strings.Contains(st.Addresses[0].Err, e.Error()) {
					t.Errorf("after an hour: %+v", st)
				}
				if a := h.alert(Unasked); !strings.Contains(a, "192.0.2.1 ("+e.Error()+")") {
					t.Errorf("alert %q", a)
				}
				n.set("192.0.2.1", false, nil)
				time.Sleep(time.Second)
				if st := s.status(); st.State != "online" || st.Unasked != "" || h.alert(Unasked) != "" || h.alert(SourceSilent) != "" {
					t.Errorf("mended: %+v, alerts %v", st, h.alerts)
				}
				n.set("192.0.2.1", true, nil)
				time.Sleep(5 * time.Second)
				if !takingOver(s) {
					t.Errorf("the source is dead: %+v", s.status())
				}
			}, "192.0.2.1")
		})
	}
}

// TestDeathShowsBesideAnAddressThatCannotBeAsked: of two addresses one cannot be asked, and
// the other falls silent. With a witness that answers the takeover begins; without, a person
// has to decide; with all cards unplugged it is this machine. Nothing hides.
func TestDeathShowsBesideAnAddressThatCannotBeAsked(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Monitor)
		witness bool
		takes   bool
		line    string
	}{
		{"witness", func(m *Monitor) { m.Witnesses = []string{"192.0.2.9"} }, true, true, ""},
		{"silent witness", func(m *Monitor) { m.Witnesses = []string{"192.0.2.9"} }, false, false, "no takeover begins: none of 1 witnesses"},
		{"no witness", nil, false, false, "a person has to decide: this machine cannot ask at 2001:db8::1 (network is unreachable)"},
		{"any", func(m *Monitor) { m.Trigger = TriggerAny }, false, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			watching(t, c.change, func(t *testing.T, s *sentry, n *scripted, _ *told) {
				n.but(func() { n.witness = c.witness })
				n.set("2001:db8::1", false, failing(unix.ENETUNREACH))
				time.Sleep(10 * time.Second)
				if st := s.status(); takingOver(s) || !strings.Contains(st.Line, "cannot be asked at 2001:db8::1") {
					t.Errorf("one address is well: %+v", st)
				}
				n.set("192.0.2.1", true, nil)
				time.Sleep(20 * time.Second)
				if st := s.status(); takingOver(s) != c.takes || !c.takes && !strings.Contains(st.Line, c.line) {
					t.Errorf("taking over: %v; %+v", takingOver(s), st)
				}
			}, "192.0.2.1", "2001:db8::1")
		})
	}
}

// TestUnpluggedTargetTakesNothingOver: without a witness, and with nothing to move, a target
// none of whose cards has a carrier waits.
func TestUnpluggedTargetTakesNothingOver(t *testing.T) {
	watching(t, func(m *Monitor) { m.KeepAddresses = true }, func(t *testing.T, s *sentry, n *scripted, h *told) {
		n.set("192.0.2.1", true, nil)
		n.but(func() { n.down = true })
		time.Sleep(time.Minute)
		if st := s.status(); takingOver(s) || !strings.Contains(st.Line, "no carrier") || h.alert(TargetIsolated) == "" {
			t.Errorf("%+v", st)
		}
	}, "192.0.2.1")
}

// TestOneTakeoverAtATime: a takeover that began while a person decided is not begun again.
func TestOneTakeoverAtATime(t *testing.T) {
	watching(t, nil, func(t *testing.T, s *sentry, n *scripted, _ *told) {
		n.set("192.0.2.1", true, nil)
		time.Sleep(5 * time.Second)
		taken := Taken{Prefix: netip.MustParsePrefix("192.0.2.1/24"), NIC: "wire", Ours: true}
		_ = s.change(func(r *record) { r.Step, r.Taken = "announce", []Taken{taken} })
		if s.begin(Order{Manual: true}) || s.current().Step != "announce" || len(s.current().Taken) != 1 {
			t.Errorf("begun twice: %+v", s.current())
		}
	}, "192.0.2.1")
}

// TestNobodyStandsInForWhoNeverWasThere: after monitor start nothing is taken over before
// the source answered once; it shows that it does not. From its first answer on an address
// that never answered counts as silent with the others, so that no death hides behind it;
// with any it alone is no reason.
func TestNobodyStandsInForWhoNeverWasThere(t *testing.T) {
	for _, trigger := range []string{TriggerAll, TriggerAny} {
		t.Run(trigger, func(t *testing.T) {
			watching(t, func(m *Monitor) { m.Trigger = trigger }, func(t *testing.T, s *sentry, n *scripted, _ *told) {
				n.set("192.0.2.1", true, nil)
				n.set("192.0.2.5", true, nil)
				s.anew(t)
				time.Sleep(time.Hour)
				if st := s.status(); takingOver(s) || st.State != "caution" || !strings.Contains(st.Line, "has not answered yet") {
					t.Errorf("%+v", st)
				}
				n.set("192.0.2.1", false, nil)
				time.Sleep(time.Minute)
				if st := s.status(); takingOver(s) || !st.Addresses[0].Heard || st.Addresses[1].Heard {
					t.Errorf("one of two answers: %+v", st)
				}
				n.set("192.0.2.1", true, nil)
				time.Sleep(5 * time.Second)
				if !takingOver(s) {
					t.Errorf("the source is dead: %+v", s.status())
				}
			}, "192.0.2.1", "192.0.2.5")
		})
	}
}

// anew begins the watch again as monitor start does.
func (s *sentry) anew(t *testing.T) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.m.Stop("indy"))
	time.Sleep(time.Second)
	must(s.m.Start("indy"))
}

// TestWhatARivalHadIsAddedOnceItIsGone: after a restart of the target somebody answers for an
// address that it stands in for. It is left to that machine, and told; when that is gone
// it is added.
func TestWhatARivalHadIsAddedOnceItIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &scripted{rivals: []string{"192.0.2.1"}}
		h := &told{alerts: map[Kind]string{}}
		m := &Manager{dir: t.TempDir(), host: h, net: n}
		s := m.newSentry(record{Version: recordVersion, Monitor: Monitor{Source: "indy"}, Phase: FailedOver,
			Taken: []Taken{{Prefix: netip.MustParsePrefix("192.0.2.1/24"), NIC: "wire", Ours: true}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.hold(ctx) }()
		defer func() { cancel(); <-done }()
		here := func() (is bool) {
			n.but(func() { is = slices.Contains(n.here, netip.MustParsePrefix("192.0.2.1/24")) })
			return is
		}
		time.Sleep(time.Minute)
		if here() || h.alert(Contested) == "" {
			t.Errorf("added: %v, alerts %v", here(), h.alerts)
		}
		n.but(func() { n.rivals = nil })
		time.Sleep(time.Minute)
		if !here() || h.alert(Contested) != "" {
			t.Errorf("added: %v, alerts %v", here(), h.alerts)
		}
	})
}

// TestLeaseLeavesOutWhatIsNotTaken: an address that a living source keeps is none that it has
// to give up.
func TestLeaseLeavesOutWhatIsNotTaken(t *testing.T) {
	mon := Monitor{Source: "indy", Addresses: []Address{{Address: "192.0.2.1", Watch: true, Take: true}, {Address: "192.0.2.5", Watch: true, Take: true}}}
	mon.Complete()
	m := &Manager{host: &told{}}
	r := record{Monitor: mon, Phase: FailedOver, Skip: []string{"192.0.2.5"}}
	l := &lessor{s: m.newSentry(r)}
	if got := l.lease(&r); !got.Taken || len(got.Addresses) != 1 || got.Addresses[0].IP != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("%+v", got)
	}
}
