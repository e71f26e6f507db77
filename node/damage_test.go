package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/internal/testdamage"
)

// dataFiles are groups of a daemon's files, by where they are below its data directory.
var dataFiles = map[string]func(rel string) bool{
	"store":   func(rel string) bool { return strings.HasPrefix(rel, "queue/nats/") },
	"catalog": func(rel string) bool { return strings.HasPrefix(rel, "replicas/") },
	"state": func(rel string) bool {
		return !strings.Contains(rel, "/") && (strings.HasPrefix(rel, "state") || strings.Contains(rel, "clean") || rel == control.LocalFile) ||
			strings.HasPrefix(rel, "clean/")
	},
}

// damageOne damages one file of a daemon's data while it runs, is stopped or was killed,
// under load, and waits until source and target are equal again.
func (r *rig) damageOne(i int, rng *rand.Rand) {
	r.t.Helper()
	m, groups := r.source, []string{"store", "store", "state"}
	if i%2 == 1 {
		m, groups = r.target, []string{"store", "catalog", "catalog", "state"}
	}
	group := groups[rng.IntN(len(groups))]
	how := []string{"live", "stopped", "killed"}[i/2%3]
	kind := testdamage.Kinds[rng.IntN(len(testdamage.Kinds))]
	older := filepath.Join(filepath.Dir(r.dir), "older")
	must(r.t, os.RemoveAll(older))
	must(r.t, testdamage.Copy(m.cfg.Data, older))
	stop := r.load(exercise.Job{Kind: "stress", Seed: int64(i), Workers: 2, Ops: 1 << 30}, false)
	backlog := rng.IntN(3)
	switch backlog {
	case 0:
		r.source.mustAsk("transmission", control.PauseRequest{ID: r.id, Pause: true}, nil)
	case 1:
		r.target.mustAsk("target", control.PauseRequest{Pause: true}, nil)
	}
	captured := r.connection().CapturedOp
	waitFor(r.t, "some operations", func() bool { return r.connection().CapturedOp > captured+200 })
	if m == r.source && how != "live" {
		stop() // the directory is no mount for a while
		stop = func() exercise.Stats { return exercise.Stats{} }
	}
	switch how {
	case "stopped":
		m.closeControl()
		m.d.Stop()
	case "killed":
		m.kill()
	}
	what, err := testdamage.Do(rng, kind, m.cfg.Data, older, func(path string) bool {
		rel, err := filepath.Rel(m.cfg.Data, path)
		return err != nil || !dataFiles[group](rel)
	})
	must(r.t, err)
	when := fmt.Sprintf("damage %d: %s %s %s, %s, backlog %d", i, m.cfg.Name, group, what, how, backlog)
	if how != "live" {
		m.start()
		waitFor(r.t, "the connection", func() bool { return len(r.source.status().Connections) == 1 })
		r.id = r.connection().ID
	}
	stop()
	_ = r.source.ask("transmission", control.PauseRequest{ID: r.id}, nil) // in a new session it is not paused
	_ = r.target.ask("target", control.PauseRequest{}, nil)
	began := time.Now()
	r.settled(when)
	if how == "live" && group != "store" { // seen only by the next start
		m.closeControl()
		m.d.Stop()
		m.start()
		r.settled(when + ", started again")
	}
	r.t.Logf("%s: settled after %v", when, time.Since(began).Round(time.Millisecond))
}

// TestDamagedFilesHeal: files of either daemon are damaged (queue store, catalog,
// position, state) while it runs, is stopped or was killed. The pair heals by itself:
// nobody intervenes, the daemons start, and source and target are equal afterwards.
func TestDamagedFilesHeal(t *testing.T) {
	t.Parallel()
	r := protectedRig(t)
	r.settled("before")
	defer r.asleep(r.levels())
	seed := uint64(411)
	rng := rand.New(rand.NewPCG(seed, 1))
	n := scaled(42, 2000)
	for i := range n {
		r.damageOne(i, rng)
	}
	t.Logf("seed %d: %d damages", seed, n)
}

// TestDamagedStateIsNotBelieved: each byte of the state file is damaged; the second
// copy is used then. Where both are damaged the node does not start, and says why.
func TestDamagedStateIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	st, err := openState(dir, testLog(t))
	must(t, err)
	must(t, st.update(func(d *stateData) { d.Name, d.Mounts = "indy", []string{"/srv/tree"} }))
	want := st.data
	for n, path := range statePaths(dir) {
		raw, err := os.ReadFile(path)
		must(t, err)
		for i := range raw {
			bad := slices.Clone(raw)
			bad[i] ^= 1 << (i % 8)
			must(t, os.WriteFile(path, bad, 0o600))
			if d, err := parseState(path); err == nil && fmt.Sprint(d) != fmt.Sprint(want) {
				t.Fatalf("copy %d, byte %d: %+v is believed", n, i, d)
			}
		}
		must(t, os.WriteFile(path, raw, 0o600))
	}
	for _, path := range statePaths(dir) {
		must(t, os.WriteFile(path, []byte("{}"), 0o600))
		got, err := openState(dir, testLog(t))
		if path == statePaths(dir)[1] {
			if err == nil {
				t.Fatal("two damaged copies are no error")
			}
			break
		}
		must(t, err)
		if got.data.Name != "indy" {
			t.Fatalf("%+v", got.data)
		}
		must(t, got.update(func(*stateData) {})) // mends the first copy
		must(t, os.WriteFile(path, []byte("{}"), 0o600))
	}
}
