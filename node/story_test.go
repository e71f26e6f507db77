package node

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
)

// parallelTests is how many of those with daemons of their own run at once, unless the
// command line says it: they mostly wait, two cores are well used by four.
const parallelTests = "4"

func TestMain(m *testing.M) {
	exercise.Child() // does a job and ends, if this is a child
	compareChild()
	storeChild()
	sequenceChild()
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", parallelTests) // a number: it is accepted
	}
	os.Exit(m.Run())
}

// order asks for a mirror and waits until it has ended.
func (p *pair) order(mode string) {
	p.t.Helper()
	if err := p.source.Mirror(context.Background(), control.MirrorRequest{ID: p.id, Action: "start", Mode: mode, Checksum: mode == "diff"}); err != nil {
		p.t.Fatal(err)
	}
	s, err := p.source.live(p.id)
	if err != nil {
		p.t.Fatal(err)
	}
	waitFor(p.t, "the mirror", s.mirrorIdle)
	if p := s.mirror.Progress(); p.State.String() != "done" {
		s.c.n.log.Error("mirror ended badly", "state", p.State.String())
	}
}

// exercised runs a job on the protected directory to its end.
func (p *pair) exercised(j exercise.Job) {
	p.t.Helper()
	j.Dir = p.dir
	stats, err := j.RunChild(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Logf("%s, seed %d: %d operations", j.Kind, j.Seed, stats.Ops)
}

// inBackground runs a job until the returned function stops it.
func (p *pair) inBackground(j exercise.Job) (stop func() exercise.Stats) {
	p.t.Helper()
	j.Dir = p.dir
	ctx, cancel := context.WithCancel(p.t.Context()) // it ends before the mount does
	type result struct {
		stats exercise.Stats
		err   error
	}
	done := make(chan result, 1)
	go func() {
		s, err := j.RunChild(ctx)
		done <- result{s, err}
	}()
	return func() exercise.Stats {
		cancel()
		r := <-done
		if r.err != nil && !errors.Is(r.err, context.Canceled) {
			p.t.Errorf("%s: %v", j.Kind, r.err)
		}
		return r.stats
	}
}

// TestRandomFileOperationsArriveIdentically (G2): an fsx-like exerciser on one file,
// with mapped stores and all fallocate modes, replayed to an identical tree.
func TestRandomFileOperationsArriveIdentically(t *testing.T) {
	needRoot(t)
	p := protected(t)
	for seed := range int64(scaled(2, 20)) {
		p.exercised(exercise.Job{Kind: "fsx", Seed: seed, Ops: 30_000, FSX: exercise.FSXOptions{Name: fmt.Sprintf("fsx-%d", seed)}})
	}
	p.settle()
	p.same()
}

// TestRandomTreeOperationsArriveIdentically (G2): concurrent workers do everything a
// file system offers.
func TestRandomTreeOperationsArriveIdentically(t *testing.T) {
	needRoot(t)
	p := protected(t)
	for seed := range int64(scaled(2, 20)) {
		p.exercised(exercise.Job{Kind: "stress", Seed: seed, Workers: 4, Ops: 70_000, Stress: exercise.StressOptions{UID: 65534}})
	}
	p.settle()
	p.same()
}

// TestMirrorUnderChanges (G3): 1,000 changes a second while mirrors run; all end equal
// (B7.19).
func TestMirrorUnderChanges(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 1, Workers: 2, Ops: 6000}, t, false)
	p.mount()
	stop := p.inBackground(exercise.Job{Kind: "rate", Seed: 7, Ops: 1000})
	p.connect()
	waitFor(t, "the first mirror", func() bool { return p.applier().Position().Usable() })
	rounds := scaled(30, 300)
	for i := range rounds {
		p.order([]string{"diff", "full"}[i%2])
		if i%10 == 9 {
			stats := stop()
			t.Logf("%d mirrors, %d changes", i+1, stats.Ops)
			p.settle()
			p.same()
			stop = p.inBackground(exercise.Job{Kind: "rate", Seed: int64(i), Ops: 1000})
		}
	}
	stop()
	p.settle()
	p.same()
}

// TestGoSourceTree (G2): a real tree, changed as programmers change it.
func TestGoSourceTree(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	root, err := exec.Command("go", "env", "GOROOT").Output()
	must(t, err)
	src := filepath.Join(strings.TrimSpace(string(root)), "src")
	copyTree(t, src, filepath.Join(p.dir, "src"))
	p.mount()
	p.connect()
	work := func(script string) {
		t.Helper()
		// The child changes into the mount after its exec: between fork and exec the
		// runtime of this process, which serves the mount, would be stopped.
		cmd := exec.Command("bash", "-euc", "cd '"+p.dir+"'; "+script)
		cmd.Env = append(os.Environ(), "HOME="+p.base, "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	work(`cd src && git init -q . && git add net os && git commit -qm one`)
	work(`sed -i 's/package os/package  os/' src/os/*.go && mv src/net src/network && rm -r src/testing`)
	work(`cd src && git add -A network os && git commit -qm two && git checkout -q HEAD~1 2>/dev/null || true; git gc -q`)
	p.settle()
	p.same()
}

// TestBorderOfTheSet (G4): what crosses the border of the rules by rename is created
// or removed on the target (B5.26), files and directories, both ways.
func TestBorderOfTheSet(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	in, out := filepath.Join(p.dir, "in"), filepath.Join(p.dir, "out")
	for _, d := range []string{in, filepath.Join(in, "sub"), out, filepath.Join(out, "sub", "deep")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	must(t, os.WriteFile(filepath.Join(out, "big"), big, 0o600))
	must(t, os.WriteFile(filepath.Join(out, "small"), []byte("small"), 0o600))
	must(t, os.WriteFile(filepath.Join(out, "sub", "deep", "file"), []byte("deep"), 0o600))
	must(t, os.WriteFile(filepath.Join(in, "sub", "leaves"), []byte("goes away"), 0o600))
	p.mount()
	p.connect(p.dir+" inc, rec", out+" exc, rec")
	p.settle()
	if _, err := os.Lstat(filepath.Join(p.replica, "out", "small")); err == nil {
		t.Error("an excluded file was mirrored")
	}
	for _, mv := range [][2]string{{"out/big", "in/big"}, {"out/small", "in/small"}, {"out/sub", "in/came"}, {"in/sub", "out/went"}} {
		must(t, exec.Command("mv", filepath.Join(p.dir, mv[0]), filepath.Join(p.dir, mv[1])).Run())
	}
	p.settle()
	same(t, in, filepath.Join(p.replica, "in"))
	if names, _ := os.ReadDir(filepath.Join(p.replica, "out")); len(names) > 0 {
		t.Errorf("names outside the set on the target: %v", names)
	}
}

// TestHintsConverge (G5): without root the replica follows by hints.
func TestHintsConverge(t *testing.T) {
	p := newPair(t, false)
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 1, Workers: 2, Ops: 3000}, t, false)
	p.connect()
	p.settle()
	p.same()
	do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 2, Workers: 2, Ops: 3000}, t, false)
	p.settle()
	p.same()
	st := p.source.Status().Connections[0]
	if st.OrderKept || st.Fidelity != "hints" {
		t.Errorf("a capture by hints claims too much: %+v", st)
	}
}

// TestRestartOfEitherNode: a clean stop and start of the target goes on without a
// mirror; one of the source heals by differences (B6.37, B6.38).
func TestRestartOfEitherNode(t *testing.T) {
	needRoot(t)
	p := protected(t)
	do(exercise.Job{Kind: "stress", Seed: 3, Workers: 2, Ops: 2000, Dir: p.dir}, t, true)
	p.settle()
	epoch := p.source.Status().Connections[0].Epoch
	p.restartTarget()
	do(exercise.Job{Kind: "stress", Seed: 4, Workers: 2, Ops: 2000, Dir: p.dir}, t, true)
	p.settle()
	p.same()
	if now := p.source.Status().Connections[0].Epoch; now != epoch {
		t.Errorf("a restart of the target began a new epoch")
	}
	p.restartSource(func() { // not captured: the mirror finds it
		do(exercise.Job{Kind: "stress", Seed: 5, Workers: 2, Ops: 2000, Dir: p.dir}, t, false)
	})
	p.settle()
	p.same()
}

// TestSeveralConnections: one set on two targets, the second paused; the first is not
// held up (B2.15, B2.19).
func TestSeveralConnections(t *testing.T) {
	needRoot(t)
	p := protected(t)
	third := p.start("oslo")
	second := filepath.Join(p.base, "second")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id, err := p.source.Connect(ctx, control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "oslo", Address: third.Addr(),
		Map: map[string]string{p.dir: second}, Capture: "stacked"})
	must(t, err)
	must(t, p.source.Settle(ctx, id))
	p.transmission(id, "pause")
	do(exercise.Job{Kind: "stress", Seed: 6, Workers: 2, Ops: 3000, Dir: p.dir}, t, true)
	p.settle()
	p.same()
	p.transmission(id, "resume")
	must(t, p.source.Settle(ctx, id))
	same(t, p.dir, second)
}

// do runs a job to its end: in a child where the directory is a mount of this process.
func do(j exercise.Job, t testing.TB, child bool) {
	t.Helper()
	run := func() (exercise.Stats, error) { return j.Run(nil) }
	if child {
		run = func() (exercise.Stats, error) { return j.RunChild(context.Background()) }
	}
	if _, err := run(); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
