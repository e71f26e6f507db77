package fanotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listener is a sink that remembers.
type listener struct {
	mu      sync.Mutex
	seen    []string // guarded by mu
	objects int      // guarded by mu
}

func (l *listener) note(what string, path string, deep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if deep {
		what += " all of"
	}
	l.seen = append(l.seen, fmt.Sprintf("%s %s", what, path))
}

func (l *listener) Dirty(path string, deep bool) { l.note("dirty", path, deep) }
func (l *listener) Moved(path string, deep bool) { l.note("moved", path, deep) }
func (l *listener) Object([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects++
}

// take returns what came since the last call, sorted.
func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.seen
	l.seen = nil
	slices.Sort(out)
	return slices.Compact(out)
}

// open captures a new directory, without Run: the tests read events by Sync.
func open(t testing.TB, h *Hub, root string, cfg Config) (*Backend, *listener) {
	t.Helper()
	l := &listener{}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	b, err := h.Open(root, fd, cfg, l, nil)
	if errors.Is(err, ErrUnsupported) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(b.Close)
	return b, l
}

func expect(t testing.TB, b *Backend, l *listener, what string, want ...string) {
	t.Helper()
	must(t, b.Sync())
	slices.Sort(want)
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

// TestHints (G16): what the sink is told of each kind of change.
func TestHints(t *testing.T) {
	base := t.TempDir()
	root, out := filepath.Join(base, "root"), filepath.Join(base, "out")
	must(t, os.MkdirAll(filepath.Join(root, "d/e"), 0o755))
	must(t, os.Mkdir(out, 0o755))
	must(t, os.WriteFile(filepath.Join(out, "linked"), nil, 0o644))
	must(t, os.Link(filepath.Join(out, "linked"), filepath.Join(root, "inside")))
	b, l := open(t, NewHub(nil), root, Config{})
	in := func(p string) string { return filepath.Join(root, p) }
	must(t, os.WriteFile(in("d/f"), []byte("x"), 0o644))
	expect(t, b, l, "create", "dirty d/f")
	must(t, os.Chmod(in("d"), 0o700))
	expect(t, b, l, "chmod", "dirty d")
	must(t, os.Rename(in("d/f"), in("g")))
	expect(t, b, l, "rename of a file", "dirty d/f", "moved g")
	must(t, os.WriteFile(in("d/e/h"), nil, 0o644))
	expect(t, b, l, "deep file", "dirty d/e/h")
	must(t, os.Rename(in("d"), in("c")))
	expect(t, b, l, "rename of a directory", "dirty d", "moved all of c")
	must(t, os.WriteFile(in("c/e/h"), []byte("y"), 0o644))
	expect(t, b, l, "write below a renamed directory", "dirty c/e/h")
	must(t, os.Remove(in("c/e/h")))
	must(t, os.Remove(in("c/e")))
	expect(t, b, l, "removal", "dirty c/e", "dirty c/e/h")
	must(t, os.Rename(in("c"), filepath.Join(out, "c")))
	expect(t, b, l, "leaves", "dirty c")
	must(t, os.WriteFile(filepath.Join(out, "c/x"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(out, "y"), nil, 0o644))
	expect(t, b, l, "outside")
	must(t, os.Rename(filepath.Join(out, "c"), in("back")))
	expect(t, b, l, "comes", "dirty all of back")
	must(t, os.WriteFile(filepath.Join(out, "linked"), []byte("z"), 0o644))
	expect(t, b, l, "linked file outside")
	if l.objects == 0 {
		t.Error("a file of two names, changed by the one outside, was not told")
	}
	if n := b.Stats().Overflows; n != 0 {
		t.Errorf("%d times events lost", n)
	}
}

// TestOneMark: captures of one file system share a group, which ends with the last; each
// is told of its own.
func TestOneMark(t *testing.T) {
	h, base := NewHub(nil), t.TempDir()
	one, two := filepath.Join(base, "one"), filepath.Join(base, "two")
	must(t, errors.Join(os.Mkdir(one, 0o755), os.Mkdir(two, 0o755)))
	b1, l1 := open(t, h, one, Config{})
	b2, l2 := open(t, h, two, Config{})
	if b1.group != b2.group || len(h.groups) != 1 {
		t.Fatal("two marks")
	}
	must(t, os.WriteFile(filepath.Join(one, "f"), nil, 0o644))
	must(t, os.Rename(filepath.Join(one, "f"), filepath.Join(two, "f")))
	expect(t, b1, l1, "first", "dirty f")
	expect(t, b2, l2, "second", "dirty all of f")
	b1.Close()
	must(t, os.WriteFile(filepath.Join(two, "f"), []byte("x"), 0o644))
	expect(t, b2, l2, "after the other ended", "dirty f")
	b2.Close()
	if len(h.groups) != 0 {
		t.Error("the mark stayed")
	}
}

// TestOverflow (G17): when the kernel drops events everything is dirty, once.
func TestOverflow(t *testing.T) {
	root := t.TempDir()
	b, l := open(t, NewHub(nil), root, Config{QueueLimit: 1 << 20}) // the kernel's own bound
	b.group.mu.Lock()
	for i := range 17000 { // max_queued_events is 16384
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), nil, 0o644))
	}
	b.group.mu.Unlock()
	must(t, b.group.sync())
	l.take()
	if !b.Behind() || b.Stats().Overflows == 0 {
		t.Fatal("no events lost: raise the number of files of this test")
	}
	expect(t, b, l, "loss", "dirty all of ")
	expect(t, b, l, "afterwards")
}

// TestRunRescans (G17): a loss is followed by a look at everything without anybody
// asking, and so does time passing.
func TestRunRescans(t *testing.T) {
	for _, cfg := range []Config{{Quiet: time.Millisecond, RescanEvery: -1}, {RescanEvery: time.Millisecond}} {
		b, l := open(t, NewHub(nil), t.TempDir(), cfg)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		if cfg.RescanEvery < 0 {
			b.group.mu.Lock()
			b.group.lose(errOverflow)
			b.group.mu.Unlock()
		}
		await(t, "a look at everything", func() bool { return slices.Contains(l.take(), "dirty all of ") })
		cancel()
		must(t, <-done)
	}
}

// TestRootGone: a root that was moved away ends the capture.
func TestRootGone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	must(t, os.Mkdir(root, 0o755))
	b, _ := open(t, NewHub(nil), root, Config{})
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	must(t, os.Rename(root, root+"2"))
	if err := <-done; !errors.Is(err, ErrRootGone) {
		t.Errorf("ended with %v", err)
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

var _ capture.MoveSink = &listener{}
