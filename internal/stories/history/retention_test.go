package history

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/control"
)

// fill writes so many MiB that no file system shares or compresses.
func (p *pair) fill(name string, mib int) {
	p.T.Helper()
	f, err := os.OpenFile(filepath.Join(p.Dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	must(p.T, err)
	defer f.Close()
	buf := make([]byte, 1<<20)
	for i := range mib {
		_, _ = rand.Read(buf)
		_, err := f.WriteAt(buf, int64(i)<<20)
		must(p.T, err)
	}
}

// TestRetentionNeverBreaksARebuild (G91): the log is kept below its limit by bringing the
// base forward, through kills of the target at that work, across a mirror too; what is
// listed can be rebuilt, and what is gone is refused.
func TestRetentionNeverBreaksARebuild(t *testing.T) {
	p := unconnected(t)
	p.Target.Cfg.History = "40MiB"
	p.Target.Restart()
	p.begin()
	var points []point
	for i := range scaled(7, 20) {
		p.fill(fmt.Sprintf("data-%d", i%3), 20)
		p.Write("now", fmt.Sprint(i))
		points = append(points, point{p.mark(fmt.Sprint(i)), p.snapshot(fmt.Sprint(i))})
		p.Settle()
		if i == 3 {
			p.Source.Ask("mirror", control.MirrorRequest{ID: p.Con, Action: "start", Mode: "full"}, nil)
			p.Settle()
		}
		if i%2 == 1 { // while the base is on its way, or just after
			p.Target.Kill()
			p.Target.Start()
			p.keeps()
			p.Settle() // what the cut left in doubt is compared now: no moment to rebuild
		}
	}
	waitFor(t, "a log within its limit", func() bool { return p.history().Bytes <= 60<<20 })
	listed := map[string]bool{}
	for _, m := range p.history().Marks {
		listed[m.Label] = true
	}
	if len(listed) == 0 || len(listed) == len(points) {
		t.Errorf("%d of %d marks are left", len(listed), len(points))
	}
	for _, pt := range points {
		if !listed[pt.mark.Label] {
			var rep control.Replay
			err := p.Target.Try("replay", control.ReplayRequest{Action: "start", Label: pt.mark.Label, To: filepath.Join(p.Base, "gone")}, &rep)
			if err == nil || !strings.Contains(err.Error(), "no such moment") {
				t.Errorf("mark %s is not listed; its replay: %+v, %v", pt.mark.Label, rep, err)
			}
			continue
		}
		dir := filepath.Join(p.Base, "rebuilt-"+pt.mark.Label)
		rep := p.replayed(control.ReplayRequest{Label: pt.mark.Label, To: dir})
		if strings.Contains(rep.Error, "trimmed meanwhile") && !p.lists(pt.mark.Label) {
			continue
		}
		if rep.State != "done" {
			t.Fatalf("replay of %s: %s: %s", pt.mark.Label, rep.State, rep.Error)
		}
		same(t, pt.tree, dir)
	}
}

// lists reports whether a mark can be rebuilt now.
func (p *pair) lists(label string) bool {
	p.T.Helper()
	return slices.ContainsFunc(p.history().Marks, func(m control.Mark) bool { return m.Label == label })
}

// TestKilledReplayIsRepeated (G91): a replay that a kill of the target ended leaves nothing
// that hinders the next one, with OVERWRITE into the same directory.
func TestKilledReplayIsRepeated(t *testing.T) {
	p := newPair(t)
	p.fill("data", 60)
	m := p.mark("then")
	was := p.snapshot("then")
	p.fill("data", 20)
	p.Settle()
	to := filepath.Join(p.Base, "rebuilt")
	var rep control.Replay
	p.Target.Ask("replay", control.ReplayRequest{Action: "start", Label: "then", To: to}, &rep)
	waitFor(t, "the replay to write", func() bool {
		_, err := os.Stat(filepath.Join(to, "data"))
		return err == nil
	})
	p.Target.Kill()
	p.Target.Start()
	if err := p.Target.Try("replay", control.ReplayRequest{Action: "start", Label: "then", To: to}, nil); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a directory that is not empty: %v", err)
	}
	rep = p.replayed(control.ReplayRequest{Op: m.Op, Epoch: m.Epoch, To: to, Overwrite: true})
	if rep.State != "done" {
		t.Fatalf("second replay: %+v", rep)
	}
	same(t, was, to)
	left, err := filepath.Glob(filepath.Join(p.Target.Cfg.Data, "history", "*", "replay-*"))
	must(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReplayStaysInItsPlace: directories in use are refused, and a stopped replay says so.
func TestReplayStaysInItsPlace(t *testing.T) {
	p := newPair(t)
	p.Write("a", "one")
	p.mark("m")
	p.Settle()
	for what, to := range map[string]string{"the replica": p.Replica, "below the replica": filepath.Join(p.Replica, "x"), "above everything": p.Base,
		"the data directory": filepath.Join(p.Target.Cfg.Data, "x"), "a relative path": "x", "the root": "/"} {
		if err := p.Target.Try("replay", control.ReplayRequest{Action: "start", To: to, Overwrite: true}, nil); err == nil {
			t.Errorf("%s (%s) was taken", what, to)
		}
	}
	if err := p.Target.Try("replay", control.ReplayRequest{Action: "start", To: filepath.Join(p.Base, "r"), At: time.Now().Add(-time.Hour)}, nil); err == nil {
		t.Error("a moment before the history was taken")
	}
	same(t, p.Dir, p.Replica)
}
