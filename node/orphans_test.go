package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
)

// searched looks for orphans to the end.
func (p *pair) searched(req control.OrphansRequest) control.VerifyReport {
	p.t.Helper()
	req.ID, req.Action = p.id, "start"
	if _, err := p.source.orphans(context.Background(), req); err != nil {
		p.t.Fatal(err)
	}
	return p.waitVerified()
}

// litter puts things on the replica that the source does not have: files, directories with
// something in them, links that lead out.
func litter(t testing.TB, replica, outside string, n int) {
	t.Helper()
	dirs := []string{replica}
	must(t, filepath.WalkDir(replica, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && len(dirs) < 50 {
			dirs = append(dirs, path)
		}
		return nil
	}))
	for i := range n {
		err := kept(func(at string) error {
			switch i % 3 {
			case 0:
				return os.WriteFile(at, []byte("orphan"), 0o644)
			case 1:
				return os.Symlink(outside, at)
			}
			if err := os.MkdirAll(filepath.Join(at, "in", "side"), 0o755); err != nil {
				return err
			}
			return os.Symlink(outside, filepath.Join(at, "in", "link"))
		})(filepath.Join(dirs[i%len(dirs)], fmt.Sprintf("orphan-%d", i)))
		if err != nil && !os.IsNotExist(err) { // its directory is going
			t.Fatal(err)
		}
	}
}

// TestOrphansAreOnlyWhatTheSourceLacks (G37): orphans are removed while the source
// changes, and while the search is stopped, the line is held and either machine is
// restarted. Never is anything of the source's removed, nor anything outside the target
// path.
func TestOrphansAreOnlyWhatTheSourceLacks(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	outside := filepath.Join(p.base, "outside")
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("x"), 0o644))
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 4, Workers: 2, Ops: 3000}, t, false)
	p.mount()
	p.connect()
	p.settle()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range scaled(12, 200) {
		litter(t, p.replica, outside, 60)
		stop := p.inBackground(exercise.Job{Kind: "rate", Seed: int64(round), Ops: 500})
		_, err := p.source.orphans(context.Background(), control.OrphansRequest{ID: p.id, Action: "start"})
		must(t, err)
		moment := time.Duration(rng.IntN(30)) * time.Millisecond
		time.Sleep(moment) // the faults come at any moment; nothing is waited for
		switch round % 4 {
		case 1:
			p.source.stopVerifyOf(t, p.id)
		case 2:
			p.restartTarget()
		case 3:
			for _, action := range []string{"pause", "resume"} {
				_, err := p.source.transmit(context.Background(), control.TransmissionRequest{ID: p.id, Action: action})
				must(t, err)
				time.Sleep(moment)
			}
		}
		rep := p.waitVerified()
		stop()
		p.settle()
		if round%4 != 0 && rep.State != "done" {
			t.Logf("round %d: %s %s after %d", round, rep.State, rep.Error, rep.Totals.Treated)
		}
		if rep = p.searched(control.OrphansRequest{}); rep.State != "done" || rep.Totals.Spared > 0 {
			t.Fatalf("round %d: %+v", round, rep)
		}
		p.settle()
		p.same() // nothing is left, nothing is missing
		if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func (n *Node) stopVerifyOf(t testing.TB, id int) {
	t.Helper()
	_, err := n.orphans(context.Background(), control.OrphansRequest{ID: id, Action: "stop"})
	must(t, err)
}

// TestOrphansAreMoved (G37): with their paths, only those old enough, and what the rules
// exclude stays.
func TestOrphansAreMoved(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	aside := filepath.Join(p.base, "aside")
	p.stops[0]()
	p.target = p.startWith("jersey", func(c *Config) { c.OrphansDir = aside })
	p.stops[0], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
	must(t, os.MkdirAll(filepath.Join(p.dir, "a/b"), 0o755))
	p.mount()
	p.connect(p.dir+" inc, rec", p.dir+"/*.keep exc, rec")
	p.settle()
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range []string{"a/b/old", "a/old", "young", "own.keep"} {
		must(t, os.WriteFile(filepath.Join(p.replica, name), []byte(name), 0o644))
		if name != "young" {
			must(t, os.Chtimes(filepath.Join(p.replica, name), old, old))
		}
	}
	if rep := p.searched(control.OrphansRequest{Report: true}); rep.Totals.Orphans != 3 || rep.Totals.Treated != 0 || rep.Totals.Excluded != 1 {
		t.Fatalf("report: %+v", rep)
	}
	rep := p.searched(control.OrphansRequest{MinAgeMS: (24 * time.Hour).Milliseconds()})
	if rep.Totals.Treated != 2 || rep.Totals.Spared != 1 {
		t.Fatalf("moved: %+v", rep)
	}
	for _, name := range []string{"a/b/old", "a/old"} {
		if b, err := os.ReadFile(filepath.Join(aside, name)); err != nil || string(b) != name {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"young", "own.keep"} {
		if _, err := os.Stat(filepath.Join(p.replica, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestOrphansNeedTheSourceDirectory (G37): where the source's directory is missing, or
// another one has its place, nothing is compared and nothing removed.
func TestOrphansNeedTheSourceDirectory(t *testing.T) {
	p := newPair(t, false)
	must(t, os.WriteFile(filepath.Join(p.dir, "file"), []byte("x"), 0o644))
	p.connect()
	p.settle()
	must(t, os.WriteFile(filepath.Join(p.replica, "orphan"), nil, 0o644))
	must(t, os.Rename(p.dir, p.dir+".away"))
	must(t, os.Mkdir(p.dir, 0o755))
	rep, err := p.source.orphans(context.Background(), control.OrphansRequest{ID: p.id, Action: "start"})
	if err == nil {
		if rep := p.waitVerified(); rep.State == "done" {
			t.Errorf("an empty directory was taken for the source: %+v", rep)
		}
	}
	t.Logf("%v, %v", rep, err)
	for _, name := range []string{"file", "orphan"} {
		if _, err := os.Stat(filepath.Join(p.replica, name)); err != nil {
			t.Error(err)
		}
	}
	must(t, os.Remove(p.dir))
	must(t, os.Rename(p.dir+".away", p.dir))
}
