package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture/fanotify"
	"understudy/control"
	"understudy/event"
	"understudy/internal/exercise"
)

// fanned is a pair whose directory is captured by fanotify and mirrored. prepare, which
// may be nil, is called before.
func fanned(t testing.TB, prepare func(p *pair)) *pair {
	t.Helper()
	p := newPair(t, false)
	if prepare != nil {
		prepare(p)
	}
	if err := fanotify.Possible(p.dir); errors.Is(err, fanotify.ErrUnsupported) {
		t.Skipf("fanotify capture: %v", err)
	}
	must(t, p.connectBy("fanotify"))
	p.settle()
	return p
}

// connectBy joins the directory to the replica, captured as told.
func (p *pair) connectBy(kind string) (err error) {
	p.t.Helper()
	req := control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{p.dir: p.replica}, Capture: kind}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.id, err = p.source.Connect(ctx, req)
	return err
}

// image mounts a new file system at dir until the test ends.
func image(t testing.TB, kind, dir string) {
	t.Helper()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	switch kind {
	case "tmpfs", "ramfs":
		must(t, unix.Mount("none", dir, kind, 0, ""))
	default:
		file := filepath.Join(t.TempDir(), "image")
		must(t, os.WriteFile(file, nil, 0o600))
		must(t, os.Truncate(file, 512<<20))
		run("mkfs."+kind, "-q", file)
		run("mount", "-o", "loop", file, dir)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	must(t, os.Chmod(dir, 0o755))
}

// backend is the running capture of the pair's directory.
func (p *pair) backend() *fanotify.Backend {
	p.t.Helper()
	s, err := p.source.live(p.id)
	must(p.t, err)
	return s.captures[0].backend.(*fanotify.Backend)
}

// follow waits until the replica has what the events told. Unlike settle it has nothing
// looked at that no event called for.
func (p *pair) follow() {
	p.t.Helper()
	s, err := p.source.live(p.id)
	must(p.t, err)
	for _, c := range s.captures {
		must(p.t, c.sync())
	}
	p.rested(s)
}

func (p *pair) rested(s *session) {
	p.t.Helper()
	waitFor(p.t, "the replica to follow", func() bool {
		seq, k := s.journal.Last()
		a := s.lastAck()
		return s.mirrorIdle() && a.Applied >= seq && a.MirrorApplied >= k
	})
}

// sent is the number of bytes sent so far.
func (p *pair) sent() int64 {
	p.t.Helper()
	return p.source.Status().Connections[0].SentBytes
}

// TestDirtyObjectsConverge (G16): captured by fanotify the replica follows by what the
// events tell alone, with no look at everything.
func TestDirtyObjectsConverge(t *testing.T) {
	p := fanned(t, nil)
	for seed := range int64(scaled(2, 40)) {
		do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 100 + seed, Workers: 2, Ops: 1500}, t, true)
		p.follow()
		p.same()
	}
	st := p.source.Status().Connections[0]
	if st.OrderKept || st.Fidelity != "dirty objects" || st.Capture != "fanotify" {
		t.Errorf("a capture of dirty objects says %q, %q, order kept %v", st.Capture, st.Fidelity, st.OrderKept)
	}
}

// TestRenamesAreRenames (G16): a renamed directory of 10,000 files is moved on the
// target, and so is a file.
func TestRenamesAreRenames(t *testing.T) {
	p := fanned(t, func(p *pair) {
		for d := range 10 {
			dir := filepath.Join(p.dir, "big", fmt.Sprint(d))
			must(t, os.MkdirAll(dir, 0o755))
			for i := range 1000 {
				must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fill(2048, uint64(d*1000+i)), 0o644))
			}
		}
		must(t, os.WriteFile(filepath.Join(p.dir, "file"), fill(60000, 7), 0o644))
	})
	before := p.sent()
	if before < 20<<20 {
		t.Fatalf("the mirror sent %d bytes: this test counts the wrong thing", before)
	}
	must(t, os.Mkdir(filepath.Join(p.dir, "sub"), 0o755))
	must(t, os.Rename(filepath.Join(p.dir, "big"), filepath.Join(p.dir, "sub", "large")))
	p.follow()
	t.Logf("%d bytes sent for the directory", p.sent()-before)
	must(t, os.Rename(filepath.Join(p.dir, "file"), filepath.Join(p.dir, "sub", "other")))
	p.follow()
	p.same()
	if n := p.sent() - before; n > 100<<10 {
		t.Errorf("%d bytes sent for renames", n)
	} else {
		t.Logf("%d bytes sent for the renames of a directory of 10,000 files and of a file", n)
	}
}

func fill(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

// TestChangedBlocks (G16): of a large file only changed blocks are sent.
func TestChangedBlocks(t *testing.T) {
	const size = 100 << 20
	name := ""
	p := fanned(t, func(p *pair) {
		name = filepath.Join(p.dir, "large")
		must(t, os.WriteFile(name, fill(size, 1), 0o644))
	})
	before := p.sent()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("changed"), size/2+17)
	must(t, errors.Join(err, f.Close()))
	p.follow()
	p.same()
	if n := p.sent() - before; n > 64<<10 {
		t.Errorf("%d bytes sent for one changed block", n)
	} else {
		t.Logf("%d bytes sent for one changed block of 100 MiB", n)
	}
}

// TestDirtyObjectsOnFileSystems (G16): what is special, on each file system.
func TestDirtyObjectsOnFileSystems(t *testing.T) {
	needRoot(t)
	for _, kind := range []string{"ext4", "xfs", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
			base := t.TempDir()
			image(t, kind, base)
			p := fanned(t, func(p *pair) {
				p.dir = filepath.Join(base, "tree")
				must(t, os.Mkdir(p.dir, 0o755))
			})
			t.Cleanup(p.stop) // before the file system goes
			for _, c := range corners {
				must(t, os.MkdirAll(filepath.Join(p.dir, c.name), 0o755))
				c.do(t, filepath.Join(base, "outside-"+c.name), filepath.Join(p.dir, c.name), p.follow)
				p.follow()
				if same(t, p.dir, p.replica); t.Failed() {
					t.Fatalf("after %s", c.name)
				}
			}
			do(exercise.Job{Kind: "stress", Dir: p.dir, Seed: 7, Workers: 2, Ops: scaled(500, 5000)}, t, true)
			p.follow()
			p.same()
			waitFor(t, "what was removed to go on the target, too", func() bool { return parked(t, p.replica) == 0 })
		})
	}
}

// parked counts what the target set aside.
func parked(t testing.TB, replica string) (n int) {
	t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(replica, ".understudy*"))
	for _, d := range dirs {
		names, err := os.ReadDir(d)
		must(t, err)
		for _, e := range names {
			if strings.HasPrefix(e.Name(), "p-") {
				n++
			}
		}
	}
	return n
}

// TestNoSilentMiss (G17): whatever events are lost, the replica follows; with a queue of
// 16 and as many changes as the machine can do.
func TestNoSilentMiss(t *testing.T) {
	p := fanned(t, func(p *pair) {
		p.source.setFan = func(c *fanotify.Config) { c.QueueLimit, c.Quiet = 16, 200*time.Millisecond }
	})
	b := p.backend()
	s, err := p.source.live(p.id)
	must(t, err)
	rounds, changes, took := scaled(6, 50), 0, time.Duration(0)
	for round := range rounds {
		lost := b.Stats().Overflows
		began := time.Now()
		changes += hammer(t, p.dir, uint64(round), scaled(60_000, 200_000))
		took += time.Since(began)
		if round%2 == 0 {
			p.follow()
		} else { // by itself
			waitFor(t, "a look at everything", func() bool { return !b.Behind() })
			must(t, b.Sync())
			p.rested(s)
		}
		if b.Stats().Overflows == lost {
			t.Errorf("round %d lost no events", round)
		}
		p.same()
	}
	if len(p.told(event.CaptureOverflow)) == 0 {
		t.Error("the operator was not told of lost events")
	}
	t.Logf("%d rounds, %.0f changes a second, %d times events lost", rounds, float64(changes)/took.Seconds(), b.Stats().Overflows)
}

// hammer changes files below dir as fast as two goroutines can.
func hammer(t testing.TB, dir string, seed uint64, n int) (done int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			k, err := hammerOne(filepath.Join(dir, fmt.Sprint("w", w)), rand.New(rand.NewPCG(seed, uint64(w))), n/2)
			mu.Lock()
			defer mu.Unlock()
			if done += k; err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return done
}

// hammerOne mostly writes one byte somewhere, and now and then changes names.
func hammerOne(dir string, r *rand.Rand, n int) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	path := func() string { return filepath.Join(dir, fmt.Sprint("d", r.IntN(8)), fmt.Sprint("f", r.IntN(16))) }
	for i := 0; i < n; {
		at := path()
		_ = os.Mkdir(filepath.Dir(at), 0o755)
		f, err := os.OpenFile(at, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return i, err
		}
		for range 200 {
			if _, err := f.WriteAt([]byte{byte(r.Uint32())}, int64(r.IntN(20000))); err != nil {
				return i, err
			}
			i++
		}
		if err := f.Close(); err != nil {
			return i, err
		}
		switch r.IntN(8) {
		case 0:
			_ = os.Remove(at)
		case 1:
			_ = os.Rename(at, path()) // the directory may not be there
		case 2:
			_ = os.Rename(filepath.Dir(at), filepath.Dir(path()))
		}
		i++
	}
	return n, nil
}

// TestAutoChoosesTheCapture: stacked where mounted, else fanotify, else inotify; what
// cannot be is refused with its reason.
func TestAutoChoosesTheCapture(t *testing.T) {
	needRoot(t)
	for _, c := range []struct{ name, wanted, fs, got, err string }{
		{"plain", "auto", "", "fanotify", ""},
		{"default", "", "", "fanotify", ""},
		{"no handles", "auto", "ramfs", "inotify", ""},
		{"no handles wanted", "fanotify", "ramfs", "", "file handles"},
		{"inotify wanted", "inotify", "", "inotify", ""},
		{"not mounted", "stacked", "", "", "understudy mount"},
		{"mounted", "auto", "mount", "stacked", ""},
		{"mounted, fanotify wanted", "fanotify", "mount", "", "write order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, false)
			switch c.fs {
			case "":
			case "mount":
				p.mount()
			default:
				image(t, c.fs, p.dir)
				t.Cleanup(p.stop)
			}
			err := p.connectBy(c.wanted)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			must(t, err)
			st := p.source.Status().Connections[0]
			if st.Capture != c.got || st.OrderKept != (c.got == "stacked") {
				t.Errorf("capture %s, order kept %v, want %s", st.Capture, st.OrderKept, c.got)
			}
		})
	}
}
