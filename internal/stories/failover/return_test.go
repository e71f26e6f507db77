package failover

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/testfuse"
)

// protect replicates a directory of the source to the target.
func (s *stage) protect(capture string) (dir, replica string) {
	s.t.Helper()
	dir, replica = filepath.Join(s.base, "tree"), filepath.Join(s.base, "replica")
	must(s.t, os.Mkdir(dir, 0o755))
	if capture == "stacked" {
		testfuse.Watchdog(s.t, dir, 5*time.Minute)
		s.source.Ask("mount", control.DirRequest{Dir: dir}, nil)
	}
	s.source.Ask("connect", control.ConnectRequest{Set: "tree", Rules: []string{dir + " inc, rec"}, Target: "jersey",
		Address: s.b.Addr(hostTarget) + ":6320", Map: map[string]string{dir: replica}, Capture: capture}, nil)
	waitFor(s.t, "the replica to be usable", func() bool {
		r := s.target.Status().Replicas
		return len(r) == 1 && r[0].Usable
	})
	return dir, replica
}

func (s *stage) arrived(path, want string) {
	s.t.Helper()
	waitFor(s.t, path+" to hold "+want, func() bool { raw, _ := os.ReadFile(path); return string(raw) == want })
}

// refusedBy waits until the source knows that it was replaced.
func (s *stage) refused() {
	s.t.Helper()
	waitFor(s.t, "the source to be refused", func() bool {
		c := s.source.Status().Connections
		return len(c) == 1 && c[0].TargetState == "Restore required"
	})
}

// TestReturningSourceIsRefused: the source dies and is replaced; the data on the target
// changes; the source comes back, alive all the time or after a restart. It does not
// replicate: neither while the target stands in nor after failback, until an operator says
// that the target's changes may go.
func TestReturningSourceIsRefused(t *testing.T) {
	t.Parallel()
	for _, reboot := range []bool{false, true} {
		t.Run(map[bool]string{false: "was alive", true: "restarted"}[reboot], func(t *testing.T) {
			s := newStage(t)
			dir, replica := s.protect("inotify")
			must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("old"), 0o600))
			s.arrived(filepath.Join(replica, "a"), "old")
			s.monitor(nil, s.fast(s.source4()))
			s.watching()
			if reboot {
				s.source.Kill()
			}
			s.b.Die(hostSource)
			s.await("failed over")
			must(t, os.WriteFile(filepath.Join(replica, "a"), []byte("newer, by users of the target"), 0o600))
			s.b.Hosts[hostSource].Run(t, "ip", "addr", "del", s.source4()+"/24", "dev", s.b.Card())
			s.b.Hosts[hostSource].Run(t, "ip", "addr", "add", "192.0.2.50/24", "dev", s.b.Card()) // for the way back
			s.b.Revive(hostSource)
			if reboot {
				s.source.Start()
			}
			must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("old source"), 0o600))
			s.refused()
			s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
			s.refused()
			s.target.Kill() // it remembers
			s.target.Start()
			s.refused()
			if st := s.sees(); !st.Restore {
				t.Errorf("no restore is required: %+v", st)
			}
			if raw, err := os.ReadFile(filepath.Join(replica, "a")); err != nil || !strings.HasPrefix(string(raw), "newer") {
				t.Fatalf("older data overwrote newer: %q, %v", raw, err)
			}
			s.target.Ask("failover.restored", control.MonitorRequest{Source: "indy"}, nil)
			s.arrived(filepath.Join(replica, "a"), "old source")
		})
	}
}

// TestTakeoverAppliesTheQueueFirst: what the target has received and not applied is
// applied before the addresses are added.
func TestTakeoverAppliesTheQueueFirst(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir, replica := s.protect("stacked")
	s.monitor(nil, s.address(s.source4(), time.Second, 4, "both"))
	s.watching()
	s.target.Ask("target", control.PauseRequest{Source: "indy", Pause: true}, nil)
	must(t, os.WriteFile(filepath.Join(dir, "late"), []byte("received, not applied"), 0o600))
	waitFor(t, "the target to have received it", func() bool { return s.target.Status().Replicas[0].QueuedOps > 0 })
	waitFor(t, "the source to have sent all", func() bool {
		c, r := s.source.Status().Connections[0], s.target.Status().Replicas[0]
		return r.AppliedOp+r.QueuedOps >= c.CapturedOp
	})
	if _, err := os.Stat(filepath.Join(replica, "late")); err == nil {
		t.Fatal("it was applied while applying was paused")
	}
	s.b.Die(hostSource)
	s.await("failed over")
	if raw, err := os.ReadFile(filepath.Join(replica, "late")); err != nil || string(raw) != "received, not applied" {
		t.Errorf("taken over without what was received: %q, %v", raw, err)
	}
}

// TestUnusableDataNeedsForce: while the first mirror runs, nothing is taken over without
// a person who forces it.
func TestUnusableDataNeedsForce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir := filepath.Join(s.base, "tree")
	must(t, os.Mkdir(dir, 0o755))
	for i := range 5000 {
		must(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte("x"), 0o600))
	}
	s.source.Ask("connect", control.ConnectRequest{Set: "tree", Rules: []string{dir + " inc, rec"}, Target: "jersey",
		Address: s.b.Addr(hostTarget) + ":6320", Map: map[string]string{dir: filepath.Join(s.base, "replica")}, Capture: "inotify"}, nil)
	s.source.Kill()
	if r := s.target.Status().Replicas; len(r) != 1 || r[0].Usable {
		t.Fatalf("the mirror ended too soon for this test: %+v", r)
	}
	s.monitor(nil, s.fast(s.source4()))
	s.watching()
	s.b.Die(hostSource)
	waitFor(t, "a prompt", func() bool { return strings.Contains(s.sees().Pending, "not usable") })
	if err := s.target.Try("failover", control.FailoverRequest{Source: "indy", Action: "start"}, nil); err == nil {
		t.Error("taken over with unusable data, unforced")
	}
	if s.has(hostTarget, s.source4()) {
		t.Error("the address was taken over")
	}
	s.target.Ask("failover", control.FailoverRequest{Source: "indy", Action: "start", Force: true}, nil)
	if !s.has(hostTarget, s.source4()) {
		t.Error("forced, and the address was not taken over")
	}
}
