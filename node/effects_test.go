package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/repset"
)

// TestChecksumAllTakesEffect: what somebody changed on the target behind an equal date and
// size is found by a mirror with checksum, unless ChecksumAll is 0 (B7.6).
func TestChecksumAllTakesEffect(t *testing.T) {
	p := protected(t)
	p.put("file", "right")
	p.settle()
	tampered := filepath.Join(p.replica, "file")
	tamper := func() {
		st, err := os.Stat(tampered)
		if err == nil {
			err = os.WriteFile(tampered, []byte("wrong"), 0o644)
		}
		if err == nil {
			err = os.Chtimes(tampered, time.Time{}, st.ModTime())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ value, want string }{{"0", "wrong"}, {"1", "right"}} {
		tamper()
		p.source.setForTest(t, "ChecksumAll", c.value)
		if err := p.source.Mirror(context.Background(), control.MirrorRequest{ID: p.id, Action: "start", Mode: "diff", Checksum: true}); err != nil {
			t.Fatal(err)
		}
		p.settle()
		if got, err := os.ReadFile(tampered); err != nil || string(got) != c.want {
			t.Errorf("ChecksumAll = %s: %q, %v, want %q", c.value, got, err, c.want)
		}
	}
}

// TestCalculateTakesEffect: the size of a set is known when its connection begins, unless
// CalculateOnConnect is 0; CalculateByVolume asks the volume (B5.54, B5.57).
func TestCalculateTakesEffect(t *testing.T) {
	p := newPair(t, false)
	p.put("file", "content")
	p.source.setForTest(t, "CalculateOnConnect", "0")
	p.connect()
	p.settle()
	size := func() repset.Size {
		c, err := p.source.connection(p.id)
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.size
	}
	if got := size(); got != (repset.Size{}) {
		t.Errorf("measured though CalculateOnConnect is 0: %+v", got)
	}
	if err := p.source.Disconnect(context.Background(), p.id); err != nil {
		t.Fatal(err)
	}
	p.source.setForTest(t, "CalculateOnConnect", "1")
	req := control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{p.dir: p.replica}, Capture: "inotify", Adopt: true}
	var err error
	if p.id, err = p.source.Connect(context.Background(), req); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the set is measured", func() bool { return size().Bytes == int64(len("content")) })
	p.source.setForTest(t, "CalculateByVolume", "1")
	sz, err := p.source.Calculate(context.Background(), control.CalculateRequest{ID: p.id})
	if err != nil || sz.Bytes < 1<<20 {
		t.Errorf("by volume: %+v, %v", sz, err)
	}
}

// TestRetryTakesEffect: a shorter TGRetryLocked ends the wait under way, on every replica.
func TestRetryTakesEffect(t *testing.T) {
	p := newPair(t, false)
	p.connect()
	p.settle()
	p.target.setForTest(t, "TGRetryLocked", "7")
	p.target.setForTest(t, "TGExecutionRetryLimit", "3")
	if every, most := p.applier().Retry(); every != 7*time.Second || most != 3 {
		t.Errorf("the applier waits %v, %d times", every, most)
	}
}

// TestHeartbeatsTellWhoIsThere: paired machines see each other, and see that one is away
// within HBTTL; HBExternalRate 0 hides a machine.
func TestHeartbeatsTellWhoIsThere(t *testing.T) {
	t.Parallel() // it waits for beats
	p := newPair(t, false)
	for _, n := range []*Node{p.source, p.target} {
		n.setForTest(t, "HBExternalRate", "1")
		n.setForTest(t, "HBTTL", "2")
	}
	sees := func(n *Node, other string) bool {
		reply, err := n.listMachines(context.Background(), nothing{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reply.(control.MachineList).Machines {
			if m.Name == other {
				return m.Online
			}
		}
		return false
	}
	waitFor(t, "both see each other", func() bool { return sees(p.source, "jersey") && sees(p.target, "indy") })
	p.target.setForTest(t, "HBExternalRate", "0")
	waitFor(t, "a machine without heartbeats is away", func() bool { return !sees(p.source, "jersey") })
	p.target.setForTest(t, "HBExternalRate", "1")
	waitFor(t, "it is back", func() bool { return sees(p.source, "jersey") })
	p.stops[0]() // the target
	p.stops = p.stops[1:]
	waitFor(t, "a stopped machine is away", func() bool { return !sees(p.source, "jersey") })
	if _, err := p.source.removePeer(context.Background(), control.NameRequest{Name: "jersey"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "nobody listens to a machine that is not paired", func() bool { return len(p.source.presence.links()) == 0 })
}

// TestTargetsKeepTheSets: the target has a copy of the definition of each set whose data it
// holds, also after the connection (B5.58), where BackupDir says.
func TestTargetsKeepTheSets(t *testing.T) {
	p := newPair(t, false)
	other := filepath.Join(p.base, "backups")
	p.target.setForTest(t, "BackupDir", other)
	set := repset.Set{Name: "tree", Rules: []repset.Rule{{Path: p.dir, Recursive: true}}}
	saved, err := p.source.saveSet(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	p.connect()
	kept := func() (out []control.Backup) {
		reply, err := p.target.backups(context.Background(), control.NameRequest{Name: "INDY"})
		if err != nil {
			t.Fatal(err)
		}
		return reply.(control.BackupList).Backups
	}
	waitFor(t, "the target keeps a copy", func() bool { return len(kept()) == 1 && kept()[0].Set.Generation == 1 })
	set = saved.(control.SavedRepset).Set
	set.Rules = append(set.Rules, repset.Rule{Path: filepath.Join(p.dir, "*.tmp"), Exclude: true, Recursive: true})
	if _, err := p.source.saveSet(context.Background(), set); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the copy follows", func() bool { return kept()[0].Set.Generation == 2 && len(kept()[0].Set.Rules) == 2 })
	p.settle()
	if err := p.source.Disconnect(context.Background(), p.id); err != nil {
		t.Fatal(err)
	}
	if got := kept(); len(got) != 1 || got[0].Source != "indy" {
		t.Errorf("after the disconnect: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(other, "indy", "tree.json")); err != nil {
		t.Error(err)
	}
}

// TestSavedRulesCountAtOnce: from the save on, changes are sent or left out by the new
// rules, and a mirror brings what was there before (B5.43).
func TestSavedRulesCountAtOnce(t *testing.T) {
	p := newPair(t, true)
	if err := os.MkdirAll(filepath.Join(p.dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.put("logs/old", "old")
	p.put("file", "file")
	p.mount()
	set := repset.Set{Name: "tree", Rules: []repset.Rule{{Path: p.dir, Recursive: true}, {Path: filepath.Join(p.dir, "logs"), Exclude: true, Recursive: true}}}
	reply, err := p.source.saveSet(context.Background(), set)
	if err != nil {
		t.Fatal(err)
	}
	saved := reply.(control.SavedRepset).Set
	var rules []string
	for _, r := range saved.Rules {
		rules = append(rules, r.String())
	}
	p.connect(rules...)
	p.settle()
	exists := func(name string, want bool) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(p.replica, name)); (err == nil) != want {
			t.Errorf("%s on the target: %v, want it: %v", name, err, want)
		}
	}
	exists("file", true)
	exists("logs/old", false)
	saved.Rules = saved.Rules[:1]
	if reply, err = p.source.saveSet(context.Background(), saved); err != nil {
		t.Fatal(err)
	}
	if notes := reply.(control.SavedRepset).Notes; len(notes) != 1 {
		t.Errorf("notes %q", notes)
	}
	p.put("logs/new", "new")
	p.settle()
	exists("logs/old", true)
	exists("logs/new", true)
	p.same()

	saved = reply.(control.SavedRepset).Set
	saved.Rules = append(saved.Rules, repset.Rule{Path: filepath.Join(p.dir, "*.tmp"), Exclude: true, Recursive: true})
	if _, err = p.source.saveSet(context.Background(), saved); err != nil {
		t.Fatal(err)
	}
	p.put("x.tmp", "not for the target")
	p.put("y", "for the target")
	p.settle()
	exists("x.tmp", false)
	exists("y", true)
	p.restartSource(func() {})
	p.put("z.tmp", "not after a restart either")
	p.put("z", "for the target")
	p.settle()
	exists("z.tmp", false)
	exists("z", true)
}

// TestShutdown: a daemon that is told to stop ends in good order.
func TestShutdown(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = "indy", t.TempDir(), "127.0.0.1:0"
	n, err := Open(cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(context.Background()) }()
	<-n.Ready()
	for range 2 {
		if _, err := n.shutdown(context.Background(), nothing{}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it runs on")
	}
}
