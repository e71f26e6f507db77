package failover

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/failpoint"
	"understudy/internal/stories"
)

// TestSwitchoverGoesOnAfterKills: a planned switchover is killed in the middle: the source
// while its stop script runs, the source when it is about to give its addresses up, the
// target at each step, so long that the source has its addresses again. Nothing is lost, at
// no moment two machines answer, and it ends well: by itself, or asked again where nothing
// had been switched over yet. The reversal is killed on both sides, too.
func TestSwitchoverGoesOnAfterKills(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir, replica := s.protect("inotify")
	for i := range 200 {
		must(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(strings.Repeat("x", i)), 0o600))
	}
	s.monitor(func(m *control.MonitorConfig) { m.Automatic = false }, s.fast(s.source4()), s.fast(s.b.Addr6(hostSource)))
	s.watching()
	o4, o6 := s.observe(s.source4()), s.observe(s.b.Addr6(hostSource))

	s.killInScript()
	steps := []int{4}
	if long() {
		steps = []int{0, 1, 2, 3, 4, 5, 6}
	}
	for _, step := range steps {
		s.killTargetSwitching(step)
		stories.SameWhen(t, "switched over", dir, replica)
		s.goHome()
	}
	s.killSourceSwitching()
	stories.SameWhen(t, "switched over", dir, replica)
	if n := o4.end() + o6.end(); n > 0 {
		t.Errorf("two machines answered %d times: %v %v", n, o4.who.Load(), o6.who.Load())
	}
	s.killReversing(dir, replica)
}

// killInScript: nothing is switched over when the source ends while its script runs.
func (s *stage) killInScript() {
	s.t.Helper()
	begun, end := filepath.Join(s.base, "begun"), filepath.Join(s.base, "end")
	script := s.scriptFile("hang", "touch "+begun+"; until [ -e "+end+" ]; do sleep 0.1; done\n")
	defer func() { must(s.t, os.WriteFile(end, nil, 0o600)) }()
	failed, source := make(chan error, 1), s.source.Other()
	go func() {
		failed <- source.Try("switchover", control.SwitchoverRequest{Target: "jersey", Script: script}, nil)
	}()
	waitFor(s.t, "the script to run", func() bool { _, err := os.Stat(begun); return err == nil })
	s.source.D.Kill()
	if err := <-failed; err == nil {
		s.t.Error("the source ended in its script, and says that it is at rest")
	}
	s.source.Close()
	s.source.Start()
	s.await("online")
	if !s.has(hostSource, s.source4()) || s.has(hostTarget, s.source4()) {
		s.t.Errorf("the source has %v, the target %v", s.addresses(hostSource), s.addresses(hostTarget))
	}
}

// rest brings the source to rest for a switchover, once its line is up.
func (s *stage) rest() {
	s.t.Helper()
	waitFor(s.t, "the source to be at rest", func() bool {
		return s.source.Try("switchover", control.SwitchoverRequest{Target: "jersey"}, nil) == nil
	})
}

// killTargetSwitching kills the target at a step of the takeover. What the source has given
// up it has again after a while, for nobody answers; then the target is back.
func (s *stage) killTargetSwitching(step int) {
	s.t.Helper()
	s.target.Kill()
	s.target.StartArmed(failpoint.At(failpoint.TakeoverBefore, step))
	s.await("online")
	s.rest()
	_ = s.target.Try("failover", control.FailoverRequest{Source: "indy", Action: "start", Switch: true}, nil)
	if !s.target.D.AwaitEnd(time.Minute) {
		s.t.Fatalf("step %d was not reached:\n%s", step, s.target.D.Log())
	}
	if !s.has(hostTarget, s.source4()) { // else it went on to have them
		s.sourceIsBack()
		for end := time.Now().Add(time.Second); time.Now().Before(end) && !s.t.Failed(); { // it keeps them
			if !s.has(hostSource, s.source4()) {
				s.t.Error("the source has given its addresses up again")
			}
		}
	}
	s.target.Close()
	s.target.Start()
	s.switched()
}

// killSourceSwitching kills the source after it was brought to rest; it is back while the
// target waits for it to give its addresses up.
func (s *stage) killSourceSwitching() {
	s.t.Helper()
	s.rest()
	s.source.Kill()
	done, target := make(chan error, 1), s.target.Other()
	go func() {
		done <- target.Try("failover", control.FailoverRequest{Source: "indy", Action: "start", Switch: true}, nil)
	}()
	waitFor(s.t, "the target to wait for the source", func() bool { return s.sees().Step == "probe" })
	s.source.Start()
	must(s.t, <-done)
	s.switched()
}

// switched waits for the end of a switchover: the addresses are the target's alone.
func (s *stage) switched() {
	s.t.Helper()
	s.await("failed over")
	if st := s.sees(); len(st.Errors) > 0 || len(st.Taken) != 2 {
		s.t.Errorf("taken over %v with errors %q", st.Taken, st.Errors)
	}
	for _, ip := range []string{s.source4(), s.b.Addr6(hostSource)} {
		if s.has(hostSource, ip) || !s.has(hostTarget, ip) {
			s.t.Errorf("%s: the source has %v, the target %v", ip, s.addresses(hostSource), s.addresses(hostTarget))
		}
	}
}

func (s *stage) sourceIsBack() {
	s.t.Helper()
	waitFor(s.t, "the source to have its addresses again", func() bool { return s.has(hostSource, s.source4()) && s.has(hostSource, s.b.Addr6(hostSource)) })
}

// goHome gives the source its addresses back and lets it replicate again.
func (s *stage) goHome() {
	s.t.Helper()
	s.target.Ask("failback", control.FailbackRequest{Source: "indy"}, nil)
	s.target.Ask("failover.restored", control.MonitorRequest{Source: "indy"}, nil)
	s.sourceIsBack()
	s.watching()
}

// killReversing: the target is killed when it has just become the source, and the machine
// that gets the difference in the middle of that. Asked again, it is no error; all arrives.
func (s *stage) killReversing(dir, replica string) {
	s.t.Helper()
	const spare = "192.0.2.50"
	s.b.Hosts[hostSource].Run(s.t, "ip", "addr", "add", spare+"/24", "dev", s.b.Card())
	for i := range 300 {
		must(s.t, os.WriteFile(filepath.Join(replica, "new"+strconv.Itoa(i)), []byte("by users of the target"), 0o600))
	}
	must(s.t, os.Remove(filepath.Join(replica, "7")))
	for _, c := range s.source.Status().Connections {
		s.source.Ask("disconnect", control.IDRequest{ID: c.ID}, nil)
	}
	s.source.Kill()
	s.source.StartArmed(failpoint.At(failpoint.MirrorBefore, 50))
	reverse := control.FailoverRequest{Source: "indy", Action: "reverse", Address: spare + ":6320"}
	s.target.Ask("failover", reverse, nil)
	s.target.Kill()
	s.target.Start()
	s.sourceEndsThere("")
	s.target.Ask("failover", reverse, nil)
	s.arrived(filepath.Join(dir, "new299"), "by users of the target")
	must(s.t, os.WriteFile(filepath.Join(replica, "later"), []byte("too"), 0o600))
	s.arrived(filepath.Join(dir, "later"), "too")
	c := s.target.Status().Connections
	if len(c) != 1 || c[0].Target != "indy" {
		s.t.Fatalf("the target's connections: %+v", c)
	}
	if _, err := os.Stat(filepath.Join(dir, "7")); err != nil {
		s.t.Errorf("what only the old source has is left there until somebody says otherwise: %v", err)
	}
	waitFor(s.t, "a search for orphans to begin", func() bool {
		return s.target.Try("orphans", control.OrphansRequest{ID: c[0].ID, Action: "start"}, nil) == nil
	})
	waitFor(s.t, "the orphan to go", func() bool { _, err := os.Stat(filepath.Join(dir, "7")); return err != nil })
	stories.SameWhen(s.t, "reversed", replica, dir)
}
