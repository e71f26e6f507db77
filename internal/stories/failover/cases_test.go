package failover

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/failpoint"
)

// The acceptance tests of the original's description (failover.md, T1 to T10), on one
// stage, one after the other. Each ends with the target's addresses as they were.

// fast is a timing that keeps tests short: 0.8 s to fail.
const (
	fastInterval = 200 * time.Millisecond
	fastMissed   = 4
)

func (s *stage) fast(ip string) control.MonitorAddress {
	return s.address(ip, fastInterval, fastMissed, "ping")
}

// over ends a case: failed back, monitor gone, source alive.
func (s *stage) over(before []string) {
	s.t.Helper()
	if s.sees().State == "failed over" {
		s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
	}
	s.target.Ask("monitor.stop", control.MonitorRequest{Source: "indy"}, nil)
	s.target.Ask("failover.restored", control.MonitorRequest{Source: "indy"}, nil)
	s.target.Ask("monitor.delete", control.MonitorRequest{Source: "indy"}, nil)
	s.b.Revive(hostSource)
	if now := s.addresses(hostTarget); !slices.Equal(before, now) {
		s.t.Errorf("the target has %v, had %v", now, before)
	}
}

func TestFailoverCases(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	second, third := "192.0.2.101", "198.51.100.10"
	s.b.Hosts[hostSource].Run(t, "ip", "addr", "add", second+"/24", "dev", s.b.Card())
	for _, c := range []struct {
		name string
		run  func(s *stage, second, third string)
	}{
		{"T1 yellow after a quarter, takeover at the end", (*stage).caseTimes}, {"T2 an answer restarts the countdown", (*stage).caseAnswer},
		{"T3 one of two addresses dies", (*stage).caseAll}, {"T4 own addresses survive two subnets on one card", (*stage).caseSubnets},
		{"T5 the prompt is pending", (*stage).casePrompt}, {"T6 the pre script is waited for, or not", (*stage).caseScripts},
		{"T7 addresses stay", (*stage).caseKeep}, {"T8 restarted while failed over", (*stage).caseRestart},
		{"T9 unwatched and taken over", (*stage).caseUnwatched}, {"T10 neighbours learn the new place", (*stage).caseNeighbours},
		{"an address that answers stops the takeover", (*stage).caseConflict}, {"a fence that does not hold stops it", (*stage).caseFence},
		{"two sources at once", (*stage).caseTwo},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := s.addresses(hostTarget)
			s.t = t
			c.run(s, second, third)
			s.over(before)
		})
	}
}

func (s *stage) source4() string { return s.b.Addr(hostSource) }

func (s *stage) caseTimes(string, string) {
	s.monitor(nil, s.address(s.source4(), 500*time.Millisecond, 4, "ping"))
	s.watching()
	s.b.Die(hostSource)
	died := time.Now()
	s.await("caution")
	yellow := time.Since(died)
	waitFor(s.t, "the takeover to begin", func() bool { st := s.sees(); return st.State == "failing over" || st.State == "failed over" })
	red := time.Since(died)
	s.t.Logf("2 s to fail: yellow after %v, takeover after %v", yellow.Round(time.Millisecond), red.Round(time.Millisecond))
	if yellow < 400*time.Millisecond || red < 1900*time.Millisecond || red > 2*time.Second+500*time.Millisecond+time.Second { // a second for a busy machine
		s.t.Errorf("yellow after %v, takeover after %v; want 0.5 s and 2 s, within an interval", yellow, red)
	}
	s.await("failed over")
}

func (s *stage) caseAnswer(string, string) {
	s.monitor(nil, s.address(s.source4(), 500*time.Millisecond, 4, "ping"))
	s.watching()
	s.b.Die(hostSource)
	waitFor(s.t, "three quarters of the time to fail", func() bool { return s.sees().LeftMS <= 800 })
	s.b.Revive(hostSource)
	s.await("online")
	if st := s.sees(); st.LeftMS < st.TimeoutMS*3/4 {
		s.t.Errorf("the countdown is at %d of %d ms", st.LeftMS, st.TimeoutMS)
	}
}

func (s *stage) caseAll(second, _ string) {
	s.monitor(nil, s.fast(s.source4()), s.fast(second))
	s.watching()
	s.b.Hosts[hostSource].Run(s.t, "ip", "addr", "del", second+"/24", "dev", s.b.Card())
	waitFor(s.t, "one address to fail", func() bool {
		return slices.ContainsFunc(s.sees().Watched, func(a control.WatchedAddressStatus) bool { return a.State == "failed" })
	})
	if st := s.sees(); st.State != "caution" {
		s.t.Errorf("one of two addresses is dead and the machine is %s", st.State)
	}
	s.b.Hosts[hostSource].Run(s.t, "ip", "addr", "add", second+"/24", "dev", s.b.Card())
	s.await("online")
}

func (s *stage) caseSubnets(second, third string) {
	s.monitor(nil, s.fast(s.source4()), control.MonitorAddress{Address: second + "/24", Take: true}, control.MonitorAddress{Address: third + "/25", Take: true},
		control.MonitorAddress{Address: "198.51.100.11/25", Take: true}, control.MonitorAddress{Address: "2001:db8:1::7/64", Take: true})
	s.watching()
	routes := s.routes()
	s.b.Die(hostSource)
	s.await("failed over")
	for _, ip := range []string{s.source4(), second, third, "198.51.100.11", "2001:db8:1::7"} {
		if !s.has(hostTarget, ip) {
			s.t.Errorf("%s was not taken over: %v", ip, s.addresses(hostTarget))
		}
	}
	s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
	if now := s.routes(); now != routes {
		s.t.Errorf("routes are\n%s\nwere\n%s", now, routes)
	}
}

func (s *stage) routes() string {
	s.t.Helper()
	return s.b.Hosts[hostTarget].Output(s.t, "ip", "route") + s.b.Hosts[hostTarget].Output(s.t, "ip", "-6", "route")
}

func (s *stage) casePrompt(string, string) {
	s.monitor(func(m *control.MonitorConfig) { m.Automatic = false }, s.fast(s.source4()))
	s.watching()
	s.b.Die(hostSource)
	s.target.Close() // nobody looks
	waitFor(s.t, "a prompt", func() bool { return s.sees().Pending != "" })
	if st := s.sees(); st.State != "failed" || s.has(hostTarget, s.source4()) {
		s.t.Errorf("state %s, addresses %v", st.State, s.addresses(hostTarget))
	}
	s.target.D.Kill()
	s.target.Start() // it is asked again
	waitFor(s.t, "the prompt after a restart", func() bool { return s.sees().Pending != "" })
	s.target.Ask("failover", control.FailoverRequest{Source: "indy", Action: "decline"}, nil)
	if st := s.sees(); st.Pending != "" || st.State != "failed" {
		s.t.Errorf("declined: state %s, pending %q", st.State, st.Pending)
	}
	s.target.Ask("failover", control.FailoverRequest{Source: "indy", Action: "start"}, nil)
	if !s.has(hostTarget, s.source4()) {
		s.t.Error("taken over by hand, and the address is not there")
	}
}

func (s *stage) caseScripts(string, string) {
	for _, wait := range []bool{true, false} {
		gate, mark := filepath.Join(s.base, fmt.Sprint("gate", wait)), filepath.Join(s.base, fmt.Sprint("mark", wait))
		pre := s.scriptFile("pre", "until [ -e "+gate+" ]; do sleep 0.05; done; echo $SM_EVENT $SM_SOURCE $SM_TARGET $SM_ADDRESSES $SM_MANUAL > "+mark+"\n")
		s.monitor(func(m *control.MonitorConfig) {
			m.Scripts = map[string]control.MonitorScript{"prefailover": {Path: pre, Wait: wait}, "postfailover": {Path: filepath.Join(s.base, "missing"), Wait: true}}
		}, s.fast(s.source4()))
		s.watching()
		s.b.Die(hostSource)
		if wait {
			waitFor(s.t, "the pre script", func() bool { return s.sees().Step == "prefailover" })
			if s.has(hostTarget, s.source4()) {
				s.t.Error("the address was added before the script's end")
			}
		} else {
			s.await("failed over")
			if !s.has(hostTarget, s.source4()) {
				s.t.Error("the address was not added beside the script")
			}
		}
		must(s.t, os.WriteFile(gate, nil, 0o600))
		s.await("failed over")
		waitFor(s.t, "the script's end", func() bool { _, err := os.Stat(mark); return err == nil })
		raw, err := os.ReadFile(mark)
		must(s.t, err)
		waitFor(s.t, "what it was told", func() bool { raw, _ = os.ReadFile(mark); return len(raw) > 0 })
		if want := "prefailover indy jersey " + s.source4(); !strings.HasPrefix(string(raw), want) {
			s.t.Errorf("the script was told %q, want %q", raw, want)
		}
		if st := s.sees(); !slices.ContainsFunc(st.Errors, func(e string) bool { return strings.HasPrefix(e, "postfailover: ") }) {
			s.t.Errorf("a script that is missing is not told: %q", st.Errors)
		}
		if wait {
			s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
			s.target.Ask("failover.restored", control.MonitorRequest{Source: "indy"}, nil)
			s.target.Ask("monitor.delete", control.MonitorRequest{Source: "indy"}, nil)
			s.b.Revive(hostSource)
		}
	}
}

func (s *stage) caseKeep(string, string) {
	mark := filepath.Join(s.base, "dns")
	post := s.scriptFile("dns-update", "touch "+mark+"\n")
	s.monitor(func(m *control.MonitorConfig) {
		m.KeepAddresses, m.Scripts = true, map[string]control.MonitorScript{"postfailover": {Path: post, Wait: true}}
	}, s.fast(s.source4()))
	s.watching()
	s.b.Die(hostSource)
	s.await("failed over")
	if _, err := os.Stat(mark); err != nil || s.has(hostTarget, s.source4()) {
		s.t.Errorf("script: %v; addresses %v", err, s.addresses(hostTarget))
	}
}

func (s *stage) caseRestart(string, string) {
	s.monitor(nil, s.fast(s.source4()))
	s.watching()
	s.b.Die(hostSource)
	s.await("failed over")
	s.target.Kill()
	s.target.Start()
	if st := s.sees(); st.State != "failed over" || !s.has(hostTarget, s.source4()) {
		s.t.Errorf("after a restart: %s, %v", st.State, s.addresses(hostTarget))
	}
	s.target.Kill() // and the machine too: its addresses are gone
	s.b.Hosts[hostTarget].Run(s.t, "ip", "addr", "del", s.source4()+"/24", "dev", s.b.Card())
	s.target.Start()
	waitFor(s.t, "the address to be back", func() bool { return s.has(hostTarget, s.source4()) })
}

func (s *stage) caseUnwatched(second, _ string) {
	s.monitor(nil, s.fast(s.source4()), control.MonitorAddress{Address: second, Take: true})
	s.watching()
	s.b.Die(hostSource)
	s.await("failed over")
	if !s.has(hostTarget, second) {
		s.t.Errorf("%s was not taken over: %v", second, s.addresses(hostTarget))
	}
}

func (s *stage) caseNeighbours(string, string) {
	for _, ip := range []string{s.source4(), s.b.Addr6(hostSource)} { // the client learns where they are now
		must(s.t, s.b.Hosts[hostClient].Do(func() error {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "6320"), 5*time.Second)
			if err == nil {
				_ = conn.Close()
			}
			return err
		}))
	}
	s.monitor(nil, s.fast(s.source4()), s.fast(s.b.Addr6(hostSource)))
	s.watching()
	s.b.Die(hostSource)
	s.await("failed over")
	mac := ""
	for _, line := range strings.Split(s.b.Hosts[hostTarget].Output(s.t, "ip", "link", "show", s.b.Card()), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "link/ether" {
			mac = f[1]
		}
	}
	for _, ip := range []string{s.source4(), s.b.Addr6(hostSource)} {
		waitFor(s.t, "the neighbour table to name the target for "+ip, func() bool {
			return mac != "" && strings.Contains(s.b.Hosts[hostClient].Output(s.t, "ip", "neigh", "show", ip), mac)
		})
	}
}

// caseConflict: the source's kernel does not answer pings, yet it lives.
func (s *stage) caseConflict(string, string) {
	s.monitor(nil, s.fast(s.source4()))
	s.watching()
	s.b.Hosts[hostSource].Run(s.t, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	waitFor(s.t, "the takeover to be stopped", func() bool { return strings.Contains(s.sees().Pending, "answers for") })
	if s.has(hostTarget, s.source4()) {
		s.t.Errorf("two machines have %s", s.source4())
	}
	s.b.Hosts[hostSource].Run(s.t, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")
	s.await("online")
	waitFor(s.t, "the prompt to go", func() bool { return s.sees().Pending == "" })
}

// TestFailoverSettingsCount: a monitor has what it does not say from the settings of the
// original's names.
func TestFailoverSettingsCount(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for name, value := range map[string]string{"PingFrequency": "7", "MissedPackets": "9", "MissedHeartbeats": "11", "UserIntervention": "0", "IPFailover": "0",
		"AllMustFail": "0", "PreFailoverScript": "/opt/pre", "PreFailoverScriptArgs": "a b", "PreFailoverWait": "1", "PostFailbackScript": "/opt/home"} {
		s.target.Ask("setting.set", control.SettingRequest{Name: name, Value: value}, nil)
	}
	s.target.Ask("monitor.save", control.MonitorConfig{Source: "indy", Addresses: []control.MonitorAddress{
		{Address: s.source4(), Watch: true}, {Address: "192.0.2.101", Watch: true, Probe: "service"}, {Address: "192.0.2.102", IntervalMS: 100, Missed: 2}}}, nil)
	st := s.sees()
	for i, want := range []string{"7000 9", "1000 11", "100 2"} {
		if got := fmt.Sprint(st.Addresses[i].IntervalMS, " ", st.Addresses[i].Missed); got != want {
			t.Errorf("address %d: every %s ms and missed, want %s", i, got, want)
		}
	}
	if pre := st.Scripts["prefailover"]; !st.Automatic || !st.KeepAddresses || st.Trigger != "any" || pre.Path != "/opt/pre" || len(pre.Args) != 2 || !pre.Wait ||
		st.Scripts["postfailback"].Path != "/opt/home" {
		t.Errorf("%+v", st.MonitorConfig)
	}
}

func (s *stage) caseFence(string, string) {
	held := filepath.Join(s.base, "held")
	fence := s.scriptFile("fence", "test -e "+held+"\n")
	s.monitor(func(m *control.MonitorConfig) {
		m.Scripts = map[string]control.MonitorScript{"fence": {Path: fence, Wait: true}}
	}, s.fast(s.source4()))
	s.watching()
	s.b.Die(hostSource)
	waitFor(s.t, "the takeover to be stopped", func() bool { return strings.Contains(s.sees().Pending, "fence") })
	if s.has(hostTarget, s.source4()) {
		s.t.Error("taken over though the fence did not hold")
	}
	must(s.t, os.WriteFile(held, nil, 0o600))
	s.target.Ask("failover", control.FailoverRequest{Source: "indy", Action: "start"}, nil)
	if !s.has(hostTarget, s.source4()) {
		s.t.Error("not taken over")
	}
}

// caseTwo: a target stands in for two sources at once, and gives one of them back (F18).
func (s *stage) caseTwo(string, string) {
	other := s.b.Addr(hostClient)
	ohio := control.MonitorRequest{Source: "ohio"}
	state := func() (st control.MonitorStatus) { s.target.Ask("monitor.get", ohio, &st); return st }
	s.monitor(nil, s.fast(s.source4()))
	s.target.Ask("monitor.save", control.MonitorConfig{Source: "ohio", Automatic: true, Addresses: []control.MonitorAddress{s.fast(other)}}, nil)
	s.target.Ask("monitor.start", ohio, nil)
	s.watching()
	waitFor(s.t, "the other source to be watched", func() bool { st := state(); return len(st.Watched) == 1 && st.Watched[0].Heard })
	s.b.Die(hostSource)
	s.b.Die(hostClient)
	s.await("failed over")
	waitFor(s.t, "the other takeover", func() bool { return state().State == "failed over" })
	if !s.has(hostTarget, s.source4()) || !s.has(hostTarget, other) {
		s.t.Errorf("taken over: %v", s.addresses(hostTarget))
	}
	s.target.Ask("failback", control.FailbackRequest{Source: "ohio", Stop: true}, nil)
	if !s.has(hostTarget, s.source4()) || s.has(hostTarget, other) || s.sees().State != "failed over" {
		s.t.Errorf("one was given back, and the target has %v", s.addresses(hostTarget))
	}
	s.target.Ask("monitor.delete", ohio, nil)
	s.b.Revive(hostClient)
}

// TestTakeoverGoesOnAtEveryStep: the target is killed before and after each step of a
// takeover and of a failback, and around the adding of each address; the next start goes
// on to the end, and nothing but what was added is removed.
func TestTakeoverGoesOnAtEveryStep(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	second := "192.0.2.101"
	before := s.addresses(hostTarget)
	kills := 0
	for _, c := range []struct {
		point failpoint.Point
		times int
	}{{failpoint.TakeoverBefore, 7}, {failpoint.TakeoverAfter, scaled(0, 7)}, {failpoint.AddressBefore, scaled(1, 2)}, {failpoint.AddressAfter, scaled(1, 2)}} {
		for i := range c.times {
			s.target.Kill()
			s.target.StartArmed(failpoint.At(c.point, i))
			s.monitor(nil, s.fast(s.source4()), control.MonitorAddress{Address: second, Take: true})
			s.watching()
			s.b.Die(hostSource)
			s.endsThere(c.point, i)
			kills++
			s.await("failed over")
			if !s.has(hostTarget, s.source4()) || !s.has(hostTarget, second) || len(s.sees().Errors) > 0 {
				t.Errorf("killed at %s: %v, errors %q", failpoint.At(c.point, i), s.addresses(hostTarget), s.sees().Errors)
			}
			s.over(before)
		}
	}
	for _, p := range []failpoint.Point{failpoint.FailbackBefore, failpoint.FailbackAfter} {
		for i := range 3 {
			if p == failpoint.FailbackAfter && i != 1 && !long() {
				continue // of the short form
			}
			s.target.Kill()
			s.target.StartArmed(failpoint.At(p, i))
			s.monitor(nil, s.fast(s.source4()), control.MonitorAddress{Address: second, Take: true})
			s.watching()
			s.b.Die(hostSource)
			s.await("failed over")
			_ = s.target.Try("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
			s.endsThere(p, i)
			kills++
			s.await("stopped")
			s.over(before)
		}
	}
	t.Logf("killed %d times", kills)
}

// endsThere waits until the target ended at a point and starts it again.
func (s *stage) endsThere(p failpoint.Point, i int) {
	s.t.Helper()
	if !s.target.D.AwaitEnd(time.Minute) {
		s.t.Fatalf("%s was not reached %d times:\n%s", p, i+1, s.target.D.Log())
	}
	s.target.Close()
	s.target.Start()
}
