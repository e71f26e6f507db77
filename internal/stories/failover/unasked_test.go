package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/event"
)

// tools are commands to run on a host.
type tools [][]string

func (s *stage) run(host int, list tools) {
	s.t.Helper()
	for _, c := range list {
		s.b.Hosts[host].Run(s.t, c...)
	}
}

// TestTargetThatCannotAsk: a target that cannot send its requests (no route, its own packet
// filter, its card down, nothing of that mended when its daemon starts) takes nothing over,
// shows and tells why, and goes on by itself when it can ask again.
func TestTargetThatCannotAsk(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	card, own4, own6 := s.b.Card(), s.b.Addr(hostTarget)+"/24", s.b.Addr6(hostTarget)+"/64"
	routes := tools{{"ip", "route", "del", "192.0.2.0/24", "dev", card}, {"ip", "-6", "route", "del", "2001:db8::/64", "dev", card}}
	back := tools{{"ip", "route", "add", "192.0.2.0/24", "dev", card}, {"ip", "-6", "route", "add", "2001:db8::/64", "dev", card}}
	s.monitor(nil, s.fast(s.source4()), s.fast(s.b.Addr6(hostSource)))
	s.watching()
	for _, c := range []struct {
		name, why  string
		begin, end tools
	}{
		{"no route", "network is unreachable", routes, back},
		{"own filter", "operation not permitted", tools{{"nft", "add table inet own; add chain inet own out { type filter hook output priority 0; }; " +
			"add rule inet own out icmp type echo-request drop; add rule inet own out icmpv6 type echo-request drop"}}, tools{{"nft", "delete table inet own"}}},
		{"card down", "network is unreachable", tools{{"ip", "link", "set", card, "down"}},
			tools{{"ip", "link", "set", card, "up"}, {"ip", "addr", "replace", own4, "dev", card}, {"ip", "addr", "replace", own6, "dev", card, "nodad"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			s.run(hostTarget, c.begin)
			s.cannotAsk(c.why)
			s.run(hostTarget, c.end)
			s.askedAgain()
		})
	}
	t.Run("daemon starts without a route", func(t *testing.T) {
		s.t = t
		s.target.Kill()
		s.run(hostTarget, routes)
		s.target.Start()
		s.cannotAsk("network is unreachable")
		s.run(hostTarget, back)
		s.askedAgain()
	})
}

// cannotAsk waits until the target says so, and checks that it does nothing more.
func (s *stage) cannotAsk(why string) {
	s.t.Helper()
	waitFor(s.t, "the target to say that it cannot ask", func() bool {
		st := s.sees()
		return st.State == "caution" && strings.Contains(st.Line, "cannot be asked at "+s.source4()+" (") && strings.Contains(st.Line, s.b.Addr6(hostSource)+" (")
	})
	s.quiet(time.Second) // more than its time to fail
	st := s.sees()
	if st.State != "caution" || !strings.Contains(st.Line, why) {
		s.t.Errorf("%s: %s, want %s", st.State, st.Line, why)
	}
	if !s.alerted(event.AddressUnasked) {
		s.t.Error("no alert says that the target cannot ask")
	}
}

func (s *stage) askedAgain() {
	s.t.Helper()
	s.await("online")
	s.watching()
	waitFor(s.t, "the alert to go", func() bool { return !s.alerted(event.AddressUnasked) })
}

// alerted reports whether an alert of that kind holds on the target.
func (s *stage) alerted(id event.ID) bool {
	return slices.ContainsFunc(s.target.Status().Alerts, func(a control.Alert) bool { return a.ID == int(id) })
}

// TestTargetWithAnotherAddressOfItsOwn: the address that the target asks from goes, and it
// has another one. It asks from that: the source is online, nothing is taken over, and its
// death is noticed.
func TestTargetWithAnotherAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	card := s.b.Card()
	s.monitor(nil, s.address(s.source4(), time.Second, 4, "ping"), s.address(s.b.Addr6(hostSource), time.Second, 4, "both"))
	s.watching()
	s.run(hostTarget, tools{{"ip", "addr", "del", s.b.Addr(hostTarget) + "/24", "dev", card}, {"ip", "addr", "add", "192.0.2.77/24", "dev", card},
		{"ip", "addr", "add", "2001:db8::77/64", "dev", card, "nodad"}, {"ip", "addr", "del", s.b.Addr6(hostTarget) + "/64", "dev", card}})
	s.quiet(5 * time.Second)
	s.await("online")
	s.b.Die(hostSource)
	s.await("failed over")
}
