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

// write keeps writing files until the flag file is gone, and says how many it wrote.
func write(dir, flag string) <-chan int {
	done := make(chan int, 1)
	go func() {
		n := 0
		for ; ; n++ {
			if _, err := os.Stat(flag); err != nil {
				done <- n
				return
			}
			if os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), []byte(strings.Repeat("x", n%5000)), 0o600) != nil {
				done <- -1
				return
			}
		}
	}()
	return done
}

// TestPlannedSwitchoverLosesNothing: while an application writes on the source, the work is
// moved to the target: the script stops the application, everything is applied, the source
// gives its addresses up, the target answers for them; not one file is missing, and never
// do two machines answer. Then the target becomes the source of the machine that it
// replaced, with one command.
func TestPlannedSwitchoverLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir, replica := s.protect("inotify")
	s.monitor(nil, s.fast(s.source4()), s.fast(s.b.Addr6(hostSource)))
	s.watching()
	o4, o6 := s.observe(s.source4()), s.observe(s.b.Addr6(hostSource))
	flag, stopped := filepath.Join(s.base, "running"), filepath.Join(s.base, "stopped")
	must(t, os.WriteFile(flag, nil, 0o600))
	wrote := write(dir, flag)
	waitFor(t, "files to arrive", func() bool { names, _ := os.ReadDir(replica); return len(names) > 20 })
	refusing := s.scriptFile("refusing", "echo not now; exit 1\n")
	if err := s.source.Try("switchover", control.SwitchoverRequest{Target: "jersey", Script: refusing}, nil); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("a stop script that fails: %v", err)
	}
	stop := s.scriptFile("stop", "rm "+flag+"; until [ -e "+stopped+" ]; do sleep 0.02; done\n")
	n := make(chan int, 1)
	go func() {
		n <- <-wrote
		_ = os.WriteFile(stopped, nil, 0o600)
	}()
	var reply control.SwitchoverReply
	s.source.Ask("switchover", control.SwitchoverRequest{Target: "jersey", Script: stop}, &reply)
	s.target.Ask("failover", control.FailoverRequest{Source: "indy", Action: "start", Switch: true}, nil)
	s.await("failed over")
	files := <-n
	stories.SameWhen(s.t, "after the switchover", dir, replica)
	if names, err := os.ReadDir(replica); err != nil || len(names) != files || files < 20 {
		t.Errorf("%d files were written, %d arrived: %v", files, len(names), err)
	}
	t.Logf("%d files, operation %d applied; none lost", files, reply.Applied["tree"])
	if s.has(hostSource, s.source4()) || !s.has(hostTarget, s.source4()) || !s.has(hostTarget, s.b.Addr6(hostSource)) {
		t.Errorf("source has %v, target %v", s.addresses(hostSource), s.addresses(hostTarget))
	}
	if st := s.sees(); len(st.Errors) > 0 {
		t.Errorf("errors: %q", st.Errors)
	}
	if n := o4.end() + o6.end(); n > 0 {
		t.Errorf("two machines answered %d times", n)
	}
	s.reverse(dir, replica)
}

// reverse makes the target the source, and checks that it is.
func (s *stage) reverse(dir, replica string) {
	s.t.Helper()
	const spare = "192.0.2.50"
	s.b.Hosts[hostSource].Run(s.t, "ip", "addr", "add", spare+"/24", "dev", s.b.Card())
	must(s.t, os.WriteFile(filepath.Join(replica, "new"), []byte("by users of the target"), 0o600))
	must(s.t, os.Remove(filepath.Join(replica, "7")))
	s.disconnect()
	for range 2 { // asked again it is no error
		s.target.Ask("failover", control.FailoverRequest{Source: "indy", Action: "reverse", Address: spare + ":6320"}, nil)
	}
	s.arrived(filepath.Join(dir, "new"), "by users of the target")
	must(s.t, os.WriteFile(filepath.Join(replica, "later"), []byte("too"), 0o600))
	s.arrived(filepath.Join(dir, "later"), "too")
	if c := s.target.Status().Connections; len(c) != 1 || c[0].Target != "indy" {
		s.t.Errorf("the target's connections: %+v", c)
	}
}

// replaced has the target stand in for a source that died, with a file "a" in its replica
// and a copy of its set.
func (s *stage) replaced() (dir, replica string) {
	s.t.Helper()
	dir, replica = s.protect("inotify")
	must(s.t, os.WriteFile(filepath.Join(dir, "a"), []byte("old"), 0o600))
	s.arrived(filepath.Join(replica, "a"), "old")
	waitFor(s.t, "a copy of the set", func() bool {
		var b control.BackupList
		s.target.Ask("repset.backups", struct{}{}, &b)
		return len(b.Backups) > 0
	})
	s.monitor(nil, s.fast(s.source4()))
	s.watching()
	s.b.Die(hostSource)
	s.await("failed over")
	return dir, replica
}

// disconnect ends the source's connections.
func (s *stage) disconnect() {
	s.t.Helper()
	for _, c := range s.source.Status().Connections {
		s.source.Ask("disconnect", control.IDRequest{ID: c.ID}, nil)
	}
}

// TestDataComesHome: after a takeover, users work on the target. In either order, failback
// first or a restoration first, what they wrote is on the source in the end, a restoration
// after failback ends *restore required*, and the source replicates again.
func TestDataComesHome(t *testing.T) {
	t.Parallel()
	for _, restoreFirst := range []bool{false, true} {
		t.Run(map[bool]string{false: "failback first", true: "restore first"}[restoreFirst], func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			dir, replica := s.replaced()
			must(t, os.WriteFile(filepath.Join(replica, "a"), []byte("newer, by users of the target"), 0o600))
			h := s.b.Hosts[hostSource]
			h.Run(t, "ip", "addr", "del", s.source4()+"/24", "dev", s.b.Card())
			h.Run(t, "ip", "addr", "add", "192.0.2.50/24", "dev", s.b.Card())
			s.b.Revive(hostSource)
			s.refused()
			s.disconnect()
			if restoreFirst {
				s.bringHome("192.0.2.50")
				s.arrived(filepath.Join(dir, "a"), "newer, by users of the target")
				if !s.sees().Restore {
					t.Error("users go on working on the target, and nothing is to be restored any more")
				}
				must(t, os.WriteFile(filepath.Join(replica, "b"), []byte("meanwhile"), 0o600))
			}
			s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
			s.bringHome("192.0.2.50")
			s.arrived(filepath.Join(dir, "a"), "newer, by users of the target")
			if restoreFirst {
				s.arrived(filepath.Join(dir, "b"), "meanwhile")
			}
			if st := s.sees(); st.Restore {
				t.Errorf("restored, and still required: %+v", st)
			}
			s.source.Ask("connect", control.ConnectRequest{Set: "tree", Rules: []string{dir + " inc, rec"}, Target: "jersey",
				Address: s.b.Addr(hostTarget) + ":6320", Map: map[string]string{dir: replica}, Capture: "inotify", Adopt: true}, nil)
			must(t, os.WriteFile(filepath.Join(dir, "c"), []byte("again"), 0o600))
			s.arrived(filepath.Join(replica, "c"), "again")
		})
	}
}

// TestRestorationGoesOnAfterKills: after a failback, while the data goes home, the machine
// that gets it is killed before and after a record, and the one that sends it in the middle.
// Each time it goes on by itself to the end, the trees are equal, and nothing more is
// required.
func TestRestorationGoesOnAfterKills(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	dir, replica := s.replaced()
	for i := range 1500 {
		must(t, os.WriteFile(filepath.Join(replica, strconv.Itoa(i)), []byte(strings.Repeat("y", i)), 0o600))
	}
	s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
	s.b.Revive(hostSource)
	s.refused()
	s.disconnect()
	s.source.Kill()
	s.source.StartArmed(failpoint.At(failpoint.MirrorBefore, 300))
	s.startRestore(s.source4())
	s.sourceEndsThere(failpoint.At(failpoint.MirrorAfter, 200))
	s.sourceEndsThere("")
	waitFor(t, "a part to be home", func() bool { names, _ := os.ReadDir(dir); return len(names) > 500 })
	s.target.Kill()
	s.target.Start()
	waitFor(t, "the restoration to end and nothing to be required", func() bool { return !s.sees().Restore })
	stories.SameWhen(s.t, "restored", replica, dir)
}

// sourceEndsThere waits until the source ended at the point it was armed with, and starts
// it again.
func (s *stage) sourceEndsThere(next string) {
	s.t.Helper()
	if !s.source.D.AwaitEnd(time.Minute) {
		s.t.Fatalf("the point was not reached:\n%s", s.source.D.Log())
	}
	s.source.Close()
	s.source.StartArmed(next)
}

// startRestore begins a restoration to the source at an address.
func (s *stage) startRestore(address string) int {
	s.t.Helper()
	var r control.Restore
	s.target.Ask("restore", control.RestoreRequest{Action: "start", Set: "tree", Address: address + ":6320"}, &r)
	return r.ID
}

// bringHome restores the set to the source at an address, and waits for its end.
func (s *stage) bringHome(address string) {
	s.t.Helper()
	r := control.Restore{ID: s.startRestore(address)}
	waitFor(s.t, "the restoration to end", func() bool {
		s.target.Ask("restore", control.RestoreRequest{Action: "status", ID: r.ID, WaitMS: 1000}, &r)
		return r.State != "restoring"
	})
	if r.State != "done" {
		s.t.Fatalf("restoration: %+v", r)
	}
}
