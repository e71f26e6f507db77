//go:build compare

package failover

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"understudy/internal/testnode"
)

// TestCompareKeepalived measures, with `task failover-compare`, how long a client at an
// address waits from the last answer of a machine that dies to the first of the one that
// takes over: keepalived's VRRP and this program, in the same kind of namespaces, one after
// the other, at times to fail of about 3 s and 0.6 s. It only measures. Of the two, VRRP's
// standby listens for three advertisements that do not come and knows of no data; a monitor
// asks the source, then whether somebody else has the address (0.6 s).
func TestCompareKeepalived(t *testing.T) {
	if _, err := exec.LookPath("keepalived"); err != nil {
		t.Fatalf("%v; install it: apt-get install keepalived", err)
	}
	for _, c := range []struct {
		interval time.Duration
		missed   int
	}{{time.Second, 3}, {200 * time.Millisecond, 3}} {
		var vrrp, ours []time.Duration
		for range 5 {
			vrrp = append(vrrp, vrrpGap(t, c.interval))
			ours = append(ours, ourGap(t, c.interval, c.missed))
		}
		for name, gaps := range map[string][]time.Duration{"keepalived": vrrp, "understudy": ours} {
			slices.Sort(gaps)
			t.Logf("every %v, %d missed: %s: median %v, all %v", c.interval, c.missed, name, gaps[len(gaps)/2], gaps)
		}
	}
}

// ourGap is the time without an answer when a monitored source dies.
func ourGap(t *testing.T, interval time.Duration, missed int) (gap time.Duration) {
	t.Helper()
	t.Run("understudy", func(t *testing.T) {
		s := newStage(t)
		s.serve(hostSource, "indy")
		s.serve(hostTarget, "jersey")
		c := s.client(s.source4())
		s.monitor(nil, s.address(s.source4(), interval, missed, "ping"))
		s.watching()
		waitFor(t, "the source to answer the client", func() bool { return c.last.Load() != 0 })
		s.b.Die(hostSource)
		gap = s.gap(c).Round(time.Millisecond)
	})
	return gap
}

// vrrpGap is the same of a virtual address of two keepalived.
func vrrpGap(t *testing.T, interval time.Duration) (gap time.Duration) {
	t.Helper()
	const shared = "192.0.2.100"
	t.Run("keepalived", func(t *testing.T) {
		s := &stage{t: t, b: testnode.NewBridge(t, 3), base: testnode.Memory(t)}
		s.serve(hostSource, "indy")
		s.serve(hostTarget, "jersey")
		s.keepalived(hostSource, "MASTER", 150, shared, interval)
		waitFor(t, "the first to have the address", func() bool { return s.has(hostSource, shared) })
		s.keepalived(hostTarget, "BACKUP", 100, shared, interval)
		c := s.client(shared)
		waitFor(t, "the first to answer", func() bool { return c.last.Load() != 0 })
		time.Sleep(4 * interval) // the standby hears it: keepalived tells nobody that it does
		s.b.Die(hostSource)
		gap = s.gap(c).Round(time.Millisecond)
	})
	return gap
}

// keepalived runs one on a host until the test ends.
func (s *stage) keepalived(host int, state string, priority int, shared string, interval time.Duration) {
	s.t.Helper()
	dir := filepath.Join(s.base, state)
	must(s.t, os.Mkdir(dir, 0o755))
	conf := filepath.Join(dir, "conf")
	must(s.t, os.WriteFile(conf, fmt.Appendf(nil, `global_defs {
  vrrp_version 3
}
vrrp_instance one {
  state %s
  interface %s
  virtual_router_id 51
  priority %d
  advert_int %.2f
  virtual_ipaddress {
    %s/24
  }
}
`, state, s.b.Card(), priority, interval.Seconds(), shared), 0o644))
	cmd := exec.Command("keepalived", "--vrrp", "--dont-fork", "--log-console", "--use-file", conf, "--pid", filepath.Join(dir, "pid"), "--vrrp_pid", filepath.Join(dir, "vrrp.pid"))
	log, err := os.Create(filepath.Join(dir, "log"))
	must(s.t, err)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Setpgid: true}
	must(s.t, s.b.Hosts[host].Do(cmd.Start))
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if raw, err := os.ReadFile(log.Name()); err == nil && s.t.Failed() {
			s.t.Logf("keepalived %s:\n%s", state, raw)
		}
		_ = log.Close()
	})
}
