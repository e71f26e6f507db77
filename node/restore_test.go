package node

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
)

// restored restores the pair's set to the source and waits for the end.
func (p *pair) restored(req control.RestoreRequest) control.Restore {
	p.t.Helper()
	return p.waitRestored(p.restoring(req))
}

func (p *pair) restoring(req control.RestoreRequest) int {
	p.t.Helper()
	req.Action, req.Set, req.Address = "start", "tree", p.source.Addr()
	r, err := p.target.restore(context.Background(), req)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.(control.Restore).ID
}

func (p *pair) waitRestored(id int) control.Restore {
	p.t.Helper()
	for range 8 {
		r, err := p.target.restore(context.Background(), control.RestoreRequest{Action: "status", ID: id, WaitMS: 20_000})
		must(p.t, err)
		if rep := r.(control.Restore); rep.State != "restoring" {
			return rep
		}
	}
	p.t.Fatalf("the restoration does not end\n%+v", p.target.Status())
	return control.Restore{}
}

// replicated is a pair whose connection was ended with a whole replica.
func replicated(t *testing.T) *pair {
	t.Helper()
	p := newPair(t, false)
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 9, Workers: 2, Ops: 4000}, t, false)
	p.connect()
	p.settle()
	p.same()
	p.backedUp()
	must(t, p.source.Disconnect(context.Background(), p.id))
	return p
}

// backedUp waits until the target has its copy of the set.
func (p *pair) backedUp() {
	p.t.Helper()
	waitFor(p.t, "the copy of the set", func() bool {
		_, err := os.Stat(p.target.conf().backupFile("indy", "tree"))
		return err == nil
	})
}

// empty takes everything below dir away.
func empty(t testing.TB, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, n := range names {
		must(t, os.RemoveAll(filepath.Join(dir, n.Name())))
	}
}

// TestRestoreToABlankSource (G38): everything comes back, equal in everything, also when
// either machine is restarted in between.
func TestRestoreToABlankSource(t *testing.T) {
	needRoot(t)
	p := replicated(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range scaled(6, 100) {
		empty(t, p.dir)
		id := p.restoring(control.RestoreRequest{Checksum: round%2 == 0})
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // the fault comes at any moment
		if round%3 == 1 {
			p.restartTarget()
		}
		if round%3 == 2 {
			addr := p.source.Addr()
			p.stops[1]()
			p.source = p.startAt("indy", addr)
			p.stops[1], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
		}
		if p.target.restoring(id) == nil && round%3 == 1 { // it had ended before the restart
			p.same()
			continue
		}
		if rep := p.waitRestored(id); rep.State != "done" {
			t.Fatalf("round %d: %+v", round, rep)
		}
		p.same()
	}
}

// TestRestoreKeepsWhatIsNewer (G38): what is newer on the source stays, unless it is to be
// overwritten; with Missing whatever is there stays; orphans go only where asked for.
func TestRestoreKeepsWhatIsNewer(t *testing.T) {
	needRoot(t)
	p := newPair(t, false)
	names := []string{"newer", "older", "gone", "type"}
	aged := func(n string, by time.Duration) {
		t.Helper()
		at := time.Now().Add(-by)
		must(t, os.Chtimes(filepath.Join(p.dir, n), at, at))
	}
	for _, n := range names {
		must(t, os.WriteFile(filepath.Join(p.dir, n), []byte("replica"), 0o644))
		aged(n, time.Hour)
	}
	p.connect()
	p.settle()
	p.backedUp()
	req := control.RestoreRequest{Action: "start", Set: "tree", Address: p.source.Addr()}
	if _, err := p.target.restore(t.Context(), req); err == nil {
		t.Fatal("restored while the original connection is up")
	}
	must(t, p.source.Disconnect(t.Context(), p.id))
	spoil := func() {
		at := func(n string) string { return filepath.Join(p.dir, n) }
		empty(t, p.dir)
		for _, n := range []string{"newer", "older", "own"} {
			must(t, os.WriteFile(at(n), []byte("source!"), 0o644))
		}
		must(t, os.Mkdir(at("type"), 0o755))
		must(t, os.WriteFile(at("type/in"), nil, 0o644))
		aged("newer", time.Minute)
		aged("type", time.Minute)
		aged("older", 2*time.Hour)
	}
	want := func(what string, files map[string]string) {
		t.Helper()
		for n, content := range files {
			b, err := os.ReadFile(filepath.Join(p.dir, n))
			if content == "" && err == nil || content != "" && string(b) != content {
				t.Errorf("%s: %s holds %q, want %q (%v)", what, n, b, content, err)
			}
		}
	}
	spoil()
	rep := p.restored(control.RestoreRequest{})
	want("newer", map[string]string{"newer": "source!", "older": "replica", "gone": "replica", "own": "source!", "type": ""})
	if _, err := os.Stat(filepath.Join(p.dir, "type/in")); err != nil {
		t.Error(err)
	}
	spoil()
	p.restored(control.RestoreRequest{Missing: true})
	want("missing", map[string]string{"newer": "source!", "older": "source!", "gone": "replica", "own": "source!"})
	spoil()
	p.restored(control.RestoreRequest{Overwrite: true})
	want("overwrite", map[string]string{"newer": "replica", "older": "replica", "gone": "replica", "own": "source!", "type": "replica"})
	spoil()
	rep = p.restored(control.RestoreRequest{Overwrite: true, Orphans: true})
	want("orphans", map[string]string{"own": "", "newer": "replica"})
	if rep.State != "done" || rep.Orphans != 1 {
		t.Errorf("%+v", rep)
	}
	p.same()
}
