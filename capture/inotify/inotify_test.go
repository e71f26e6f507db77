package inotify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

type hint struct {
	path string
	deep bool
}

// listener is a sink that remembers, and may be made slow.
type listener struct {
	mu    sync.Mutex
	seen  map[hint]int
	onHit func(hint)
	gate  chan struct{} // while not nil, Dirty waits for it to be closed
}

func (l *listener) Dirty(path string, deep bool) {
	l.mu.Lock()
	gate := l.gate
	if l.seen == nil {
		l.seen = map[hint]int{}
	}
	l.seen[hint{path, deep}]++
	if l.onHit != nil {
		l.onHit(hint{path, deep})
	}
	l.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (l *listener) count(path string, deep bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[hint{path, deep}]
}

func (l *listener) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = nil
}

// want waits until the hint has come.
func (l *listener) want(t testing.TB, path string, deep bool) {
	t.Helper()
	l.wantCount(t, path, deep, 1)
}

func (l *listener) wantCount(t testing.TB, path string, deep bool, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("hint %q deep %v", path, deep), func() bool { return l.count(path, deep) >= n })
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// running is a backend at work; end stops it and returns what Run returned.
type running struct {
	*Backend
	*listener
	logs *bytes.Buffer // read after end
	end  func() error
	wait func() error // for Run to end by itself
}

func start(t testing.TB, root string, cfg Config, change ...func(*running)) *running {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	r := &running{listener: &listener{}, logs: &bytes.Buffer{}}
	b, err := New(root, cfg, r.listener, slog.New(slog.NewTextHandler(r.logs, nil)))
	must(t, err)
	r.Backend = b
	for _, c := range change {
		c(r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var result error
	go func() { defer close(done); result = b.Run(ctx) }()
	r.wait = func() error { <-done; return result }
	r.end = func() error {
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		return result
	}
	t.Cleanup(func() { r.end() })
	r.want(t, "", true) // all watches are set
	return r
}

func TestHints(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/dir/sub", 0o755))
	r := start(t, root, Config{})
	steps := []struct {
		what string
		do   func() error
		want []string
	}{
		{"create", func() error { return os.WriteFile(root+"/dir/f", []byte("x"), 0o644) }, []string{"dir", "dir/f"}},
		{"write", func() error { return os.WriteFile(root+"/dir/f", []byte("y"), 0o644) }, []string{"dir/f"}},
		{"chmod", func() error { return os.Chmod(root+"/dir/f", 0o600) }, []string{"dir/f"}},
		{"chmod of a directory", func() error { return os.Chmod(root+"/dir/sub", 0o700) }, []string{"dir/sub"}},
		{"xattr", func() error { return unix.Setxattr(root+"/dir/f", "user.a", []byte("b"), 0) }, []string{"dir/f"}},
		{"symlink", func() error { return os.Symlink("x", root+"/dir/sub/l") }, []string{"dir/sub", "dir/sub/l"}},
		{"rename", func() error { return os.Rename(root+"/dir/f", root+"/dir/sub/g") }, []string{"dir", "dir/sub", "dir/sub/g"}},
		{"link", func() error { return os.Link(root+"/dir/sub/g", root+"/top") }, []string{"", "top"}},
		{"remove", func() error { return os.Remove(root + "/dir/sub/g") }, []string{"dir/sub"}},
		{"strange name", func() error { return os.Mkdir(root+"/\xff\n", 0o755) }, []string{"", "\xff\n"}},
		{"below strange name", func() error { return os.Mkdir(root+"/\xff\n/...", 0o755) }, []string{"\xff\n", "\xff\n/..."}},
		{"root's mode", func() error { return os.Chmod(root, 0o700) }, []string{""}},
	}
	for _, s := range steps {
		r.forget()
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.what, err)
		}
		for _, want := range s.want {
			t.Log(s.what, want)
			r.want(t, want, false)
		}
	}
	must(t, r.end())
	if s := r.Stats(); s.Ops == 0 || s.Overflows != 0 || s.Unwatched != 0 {
		t.Errorf("stats %+v", s)
	}
}

// Measured without the list after the watch: 115 of 301 files are never reported.
func TestFreshDirectories(t *testing.T) {
	root := t.TempDir()
	full := map[string]bool{} // files whose whole content was there at some hint
	r := start(t, root, Config{}, func(r *running) {
		r.onHit = func(h hint) {
			var st unix.Stat_t
			if unix.Stat(filepath.Join(root, h.path), &st) == nil && st.Size == 4 {
				full[h.path] = true
			}
		}
	})
	const n = 300
	for i := range n {
		dir := fmt.Sprintf("%s/%d/b/c", root, i)
		must(t, os.MkdirAll(dir, 0o755))
		write(t, dir+"/f", "full")
	}
	waitFor(t, "hints for all files", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		found := 0
		for i := range n {
			if full[fmt.Sprintf("%d/b/c/f", i)] {
				found++
			}
		}
		return found == n
	})
	if r.Stats().Overflows > 0 {
		t.Error("an overflow helped")
	}
}

func TestManyNamesInNewDirectory(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(outside+"/many", 0o755))
	for i := range manyNames + 1 {
		write(t, fmt.Sprintf("%s/many/%d", outside, i), "")
	}
	r := start(t, root, Config{})
	must(t, os.Rename(outside+"/many", root+"/many"))
	r.want(t, "many", true)
}

// A moved directory, and those below it, report under the new name.
func TestMovedDirectory(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(root+"/a/b/c", 0o755))
	must(t, os.Mkdir(root+"/else", 0o755))
	r := start(t, root, Config{})
	must(t, os.Rename(root+"/a", root+"/else/new"))
	r.want(t, "else/new/b/c", false)
	r.forget()
	write(t, root+"/else/new/b/c/f", "x")
	write(t, root+"/else/new/f", "x")
	r.want(t, "else/new/b/c/f", false)
	r.want(t, "else/new/f", false)

	must(t, os.Mkdir(root+"/a", 0o755)) // the old name is free for another
	r.want(t, "a", false)
	write(t, root+"/a/f", "x")
	r.want(t, "a/f", false)

	must(t, os.Rename(root+"/else/new", outside+"/out"))
	r.want(t, "else", false)
	write(t, outside+"/out/b/c/unseen", "x")
	write(t, root+"/else/seen", "x")
	r.want(t, "else/seen", false)
	for _, p := range []string{"else/new/b/c/unseen", "a/b/c/unseen"} {
		if r.count(p, false) > 0 {
			t.Errorf("hint %q for a file outside", p)
		}
	}
}

// After any storm of directory moves, each directory is watched under its own name.
// TestExchangedDirectoriesAreWatched: two directories exchange their names; what changes in
// either from then on is told.
func TestExchangedDirectoriesAreWatched(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/a/x", 0o755))
	must(t, os.MkdirAll(root+"/b/y", 0o755))
	r := start(t, root, Config{})
	for i := range 20 {
		must(t, unix.Renameat2(unix.AT_FDCWD, root+"/a/x", unix.AT_FDCWD, root+"/b/y", unix.RENAME_EXCHANGE))
		must(t, r.Sync())
		r.forget()
		for _, dir := range []string{"a/x", "b/y"} {
			name := fmt.Sprintf("%s/f%d", dir, i)
			must(t, os.WriteFile(filepath.Join(root, name), nil, 0o644))
			r.want(t, name, false)
		}
	}
}

func TestStormOfMoves(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	root := t.TempDir()
	r := start(t, root, Config{})
	dirs := func() (all []string) {
		filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
			if d.IsDir() {
				all = append(all, p)
			}
			return nil
		})
		return all
	}
	for round := range 4 {
		for range 100 {
			all := dirs()
			pick := func() string { return all[rnd.IntN(len(all))] }
			name := string(rune('a' + rnd.IntN(6)))
			switch rnd.IntN(5) {
			case 0, 1:
				os.MkdirAll(pick()+"/"+name+"/"+name, 0o755)
			case 2, 3:
				if from := pick(); from != root { // may fail: into itself, or onto a full one
					os.Rename(from, pick()+"/"+name)
				}
			case 4:
				if p := pick(); p != root && rnd.IntN(3) == 0 {
					os.RemoveAll(p)
				}
			}
		}
		probe := fmt.Sprintf("probe%d", round)
		write(t, root+"/"+probe, "")
		r.want(t, probe, false)
		settled(t, r)
		all := dirs()
		for _, d := range all {
			write(t, d+"/again"+probe, "")
		}
		for _, d := range all {
			rel, _ := filepath.Rel(root, d+"/again"+probe)
			r.want(t, rel, false)
		}
	}
	if s := r.Stats(); s.Overflows+s.Unwatched > 0 {
		t.Errorf("stats %+v", s)
	}
}

// settled waits until the backend has nothing more to say.
func settled(t *testing.T, r *running) {
	t.Helper()
	last, since := r.Stats().Ops, time.Now()
	waitFor(t, "quiet", func() bool {
		if now := r.Stats().Ops; now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 3*flushAfter
	})
}

// More events than the kernel's queue holds: everything is looked at, and directories
// created meanwhile are watched.
func TestOverflow(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/a", "")
	write(t, root+"/b", "")
	gate := make(chan struct{})
	r := start(t, root, Config{})
	r.mu.Lock()
	r.gate = gate
	r.mu.Unlock()
	r.forget()
	write(t, root+"/a", "x")
	r.want(t, "a", false) // the reader stands in the sink now
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	var n int
	fmt.Sscan(string(limit), &n)
	for range n + 8192 { // fsnotify's buffer takes 4,096 too
		must(t, os.Chmod(root+"/a", 0o644))
		must(t, os.Chmod(root+"/b", 0o644))
	}
	must(t, os.MkdirAll(root+"/lost/dir", 0o755))
	r.mu.Lock()
	r.gate = nil
	r.mu.Unlock()
	close(gate)
	r.want(t, "", true)
	write(t, root+"/lost/dir/f", "x")
	r.want(t, "lost/dir/f", false)
	if r.Stats().Overflows == 0 {
		t.Error("no overflow counted")
	}
	must(t, r.end())
	if !strings.Contains(r.logs.String(), "event queue overflowed, rescanning") {
		t.Errorf("logged %s", r.logs)
	}
}

// Without watches a subtree is polled; when there are some again, it is watched.
func TestWatchLimit(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/poor/sub", 0o755))
	must(t, os.MkdirAll(root+"/poor2", 0o755))
	var mu sync.Mutex
	full := true
	r := start(t, root, Config{PollEvery: 10 * time.Millisecond}, func(r *running) {
		r.addWatch = func(w *fsnotify.Watcher, p string) error {
			mu.Lock()
			defer mu.Unlock()
			if full && strings.HasPrefix(path.Base(p), "poor") {
				return unix.ENOSPC
			}
			return w.Add(p)
		}
	})
	r.wantCount(t, "poor", true, 3)
	waitFor(t, "figure", func() bool { return r.Stats().Unwatched == 2 })
	mu.Lock()
	full = false
	mu.Unlock()
	waitFor(t, "watches", func() bool { return r.Stats().Unwatched == 0 })
	r.want(t, "poor/sub", false)
	write(t, root+"/poor/sub/f", "x")
	r.want(t, "poor/sub/f", false)
	must(t, r.end())
	if got := strings.Count(r.logs.String(), "fs.inotify.max_user_watches"); got != 1 {
		t.Errorf("%d warnings in %s", got, r.logs)
	}
}

// With more unwatched directories than are remembered, everything is polled.
func TestManyUnwatched(t *testing.T) {
	root := t.TempDir()
	for i := range maxPolled + 5 {
		must(t, os.Mkdir(fmt.Sprintf("%s/d%d", root, i), 0o755))
	}
	r := start(t, root, Config{PollEvery: 50 * time.Millisecond}, func(r *running) {
		r.addWatch = func(w *fsnotify.Watcher, p string) error {
			if path.Base(p)[0] == 'd' {
				return unix.ENOSPC
			}
			return w.Add(p)
		}
	})
	r.wantCount(t, "", true, 3)
	if u := r.Stats().Unwatched; u < maxPolled {
		t.Errorf("%d unwatched", u)
	}
}

func TestRescan(t *testing.T) {
	root := t.TempDir()
	must(t, os.Mkdir(root+"/dir", 0o755))
	r := start(t, root, Config{RescanEvery: 20 * time.Millisecond})
	r.wantCount(t, "", true, 4)
	write(t, root+"/dir/f", "x")
	waitFor(t, "any hint", func() bool { return r.count("dir/f", false) > 0 || r.count("", true) > 5 })
}

func TestRootRemovedOrMoved(t *testing.T) {
	for name, do := range map[string]func(root string) error{
		"removed": os.Remove,
		"moved":   func(root string) error { return os.Rename(root, root+"2") },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir() + "/root"
			must(t, os.Mkdir(root, 0o755))
			r := start(t, root, Config{})
			must(t, do(root))
			wantRootGone(t, r)
		})
	}
}

func wantRootGone(t *testing.T, r *running) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- r.wait() }()
	select {
	case err := <-done:
		if !errors.Is(err, ErrRootGone) {
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(patience):
		t.Error("Run goes on")
	}
}

func TestRootUnmounted(t *testing.T) {
	root := t.TempDir()
	mount(t, root)
	must(t, os.Mkdir(root+"/dir", 0o755))
	r := start(t, root, Config{})
	must(t, unix.Unmount(root, 0)) // not busy
	wantRootGone(t, r)
}

func mount(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("mounting is not permitted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestBordersAreNotCrossed(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(outside+"/dir", 0o755))
	must(t, os.Symlink(outside, root+"/old"))
	must(t, os.Mkdir(root+"/mnt", 0o755))
	mount(t, root+"/mnt")
	must(t, os.Mkdir(root+"/mnt/dir", 0o755))
	r := start(t, root, Config{})
	must(t, os.Symlink(outside, root+"/new"))
	r.want(t, "new", false)
	for _, p := range []string{"old/f", "new/f", "old/dir/f", "mnt/f", "mnt/dir/f"} {
		write(t, root+"/"+p, "x")
	}
	write(t, root+"/last", "x")
	r.want(t, "last", false)
	settled(t, r)
	r.mu.Lock()
	defer r.mu.Unlock()
	for h := range r.seen {
		if strings.HasSuffix(h.path, "f") {
			t.Errorf("hint %q", h.path)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	file := t.TempDir() + "/file"
	write(t, file, "")
	for _, root := range []string{file, file + "/x", t.TempDir() + "/none"} {
		if _, err := New(root, Config{}, &listener{}, slog.Default()); err == nil {
			t.Errorf("%s accepted", root)
		}
	}
}
