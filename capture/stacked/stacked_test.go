package stacked

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/fileop"
	"understudy/internal/fsx"
	"understudy/internal/mounts"
	"understudy/internal/testfuse"
)

// deadline of everything a test waits for.
const deadline = 20 * time.Second

// start captures a new directory until the test ends. lower is the same directory as
// it is below, by a path that does not pass the mount.
func start(t testing.TB, cfg Config) (c *Capture, dir, lower string) {
	t.Helper()
	testfuse.Need(t)
	dir = t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	return startAt(t, dir, cfg)
}

func startAt(t testing.TB, dir string, cfg Config) (*Capture, string, string) {
	t.Helper()
	testfuse.Watchdog(t, dir, 2*time.Minute)
	if cfg.Linger == 0 {
		cfg.Linger = 100 * time.Millisecond
	}
	log := slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := Mount(dir, cfg, log)
	must(t, err)
	lower := fsx.ProcPath(c.fs.low.root)
	run(t, c)
	return c, dir, lower
}

// run serves c and stops it at the end of the test.
func run(t testing.TB, c *Capture) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil && !errors.Is(err, ErrUnmounted) {
					t.Errorf("run: %v", err)
				}
			case <-time.After(deadline):
				t.Errorf("run did not end")
				testfuse.End(c.root)
			}
		})
	}
	t.Cleanup(stop)
	select {
	case <-c.Ready():
	case <-time.After(deadline):
		t.Fatal("capture does not serve")
	}
	return stop
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	fmt.Fprintf(os.Stderr, "%s: %s", l.t.Name(), b)
	return len(b), nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// recorder is a sink that keeps copies.
type recorder struct {
	slow time.Duration // at most this long between the call and its place in the record
	mu   sync.Mutex
	ops  []fileop.Op
}

func (r *recorder) Put(op *fileop.Op) {
	o := *op
	o.Data = bytes.Clone(op.Data)
	if op.Attr != nil {
		a := *op.Attr
		o.Attr = &a
	}
	o.Xattrs = nil
	for _, x := range op.Xattrs {
		o.Xattrs = append(o.Xattrs, fileop.Xattr{Name: x.Name, Value: bytes.Clone(x.Value)})
	}
	if r.slow > 0 {
		time.Sleep(rand.N(r.slow))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

func (r *recorder) Pace() time.Duration { return 0 }

// all returns everything recorded and keeps it.
func (r *recorder) all() []fileop.Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}

// take returns what was recorded since the last take, each checked.
func (r *recorder) take(t testing.TB) []fileop.Op {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := r.ops
	r.ops = nil
	for i := range ops {
		if err := ops[i].Check(); err != nil {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	return ops
}

// want compares what was recorded, written as brief does.
func (r *recorder) want(t testing.TB, what string, want ...string) []fileop.Op {
	t.Helper()
	ops := r.take(t)
	var got []string
	for _, op := range ops {
		got = append(got, brief(op))
	}
	if g, w := strings.Join(got, "\n\t"), strings.Join(want, "\n\t"); g != w {
		t.Errorf("%s gives\n\t%s\nwant\n\t%s", what, g, w)
	}
	return ops
}

// brief is an operation without identities and times.
func brief(op fileop.Op) string {
	s := fmt.Sprintf("%s %s", op.Kind, op.Path)
	if op.Path2 != "" {
		s += " -> " + op.Path2
	}
	if op.Attr != nil {
		s += fmt.Sprintf(" %o %d:%d", op.Attr.Mode, op.Attr.UID, op.Attr.GID)
		if op.Attr.Rdev != 0 {
			s += fmt.Sprintf(" dev %x", op.Attr.Rdev)
		}
		if !op.Attr.Atime.IsZero() {
			s += " atime"
		}
	}
	switch op.Kind {
	case fileop.Write:
		s += fmt.Sprintf(" %d+%d", op.Off, len(op.Data))
	case fileop.Truncate:
		s += fmt.Sprintf(" %d", op.Len)
	case fileop.Fallocate:
		s += fmt.Sprintf(" %d+%d", op.Off, op.Len)
	case fileop.CopyRange:
		s += fmt.Sprintf(" %d to %d+%d", op.Off, op.Off2, op.Len)
	case fileop.Symlink:
		s += " " + string(op.Data)
	}
	if op.Flags != 0 {
		s += fmt.Sprintf(" flags %d", op.Flags)
	}
	if !op.Obj2.IsZero() && op.Kind == fileop.Rename {
		s += " over"
	}
	if op.Last {
		s += " last"
	}
	names := make([]string, 0, len(op.Xattrs))
	for _, x := range op.Xattrs {
		names = append(names, " "+x.Name)
	}
	slices.Sort(names)
	return s + strings.Join(names, "")
}

// identity of a path below.
func identity(t testing.TB, path string) fileop.ObjID {
	t.Helper()
	id, _, _, err := fsx.Identify(unix.AT_FDCWD, path)
	must(t, err)
	return id
}

func stat(t testing.TB, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

var _ capture.Sink = (*recorder)(nil)

func TestMountRefusals(t *testing.T) {
	testfuse.Need(t)
	log := slog.New(slog.DiscardHandler)
	if _, err := Mount("/", Config{}, log); !errors.Is(err, ErrRoot) {
		t.Errorf("root: %v", err)
	}
	if _, err := Mount(filepath.Join(t.TempDir(), "none"), Config{}, log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	_, dir, _ := start(t, Config{})
	must(t, os.Mkdir(dir+"/sub", 0o755))
	for _, d := range []string{dir, dir + "/sub", filepath.Dir(dir)} {
		if _, err := Mount(d, Config{}, log); !errors.Is(err, capture.ErrBusy) {
			t.Errorf("%s: %v", d, err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(dir, link))
	if _, err := Mount(link, Config{}, log); !errors.Is(err, capture.ErrBusy) {
		t.Errorf("symbolic link to it: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o644))
	if _, err := Mount(file, Config{}, log); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("file: %v", err)
	}
	outer := t.TempDir()
	must(t, os.Mkdir(outer+"/in", 0o755))
	must(t, unix.Mount("tmpfs", outer+"/in", "tmpfs", 0, ""))
	defer unix.Unmount(outer+"/in", unix.MNT_DETACH)
	if _, err := Mount(outer, Config{}, log); !errors.Is(err, ErrNested) || !strings.Contains(err.Error(), outer+"/in") {
		t.Errorf("nested: %v", err)
	}
}

func TestMountTableShowsIt(t *testing.T) {
	c, dir, _ := start(t, Config{})
	b, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if want := "understudy " + dir + " fuse.understudy rw,relatime,user_id=0,group_id=0,default_permissions,allow_other"; !bytes.Contains(b, []byte(want)) {
		t.Errorf("no %q in mounts:\n%s", want, b)
	}
	if c.Root() != dir || c.Fidelity() != capture.WriteOrder {
		t.Errorf("root %s, %v", c.Root(), c.Fidelity())
	}
}

// The native directory is back after Run, with what was written through the mount.
func TestRunEnds(t *testing.T) {
	testfuse.Need(t)
	dir := t.TempDir()
	testfuse.Watchdog(t, dir, 0)
	before := testfuse.Descriptors(t)
	c, err := Mount(dir, Config{}, slog.New(slog.DiscardHandler))
	must(t, err)
	stop := run(t, c)
	must(t, os.WriteFile(dir+"/f", []byte("x"), 0o644))
	stop()
	if b, err := os.ReadFile(dir + "/f"); err != nil || string(b) != "x" {
		t.Errorf("after the end: %q, %v", b, err)
	}
	if st := stat(t, dir); uint32(unix.Minor(st.Dev)) == c.dev && unix.Major(st.Dev) == 0 {
		t.Error("still mounted")
	}
	if after := testfuse.Descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// A busy directory is unmounted lazily: the path is native at once, open files work
// for Linger, then they are cut off, and Run returns nil.
func TestRunEndsWhileBusy(t *testing.T) {
	testfuse.Need(t)
	dir := t.TempDir()
	testfuse.Watchdog(t, dir, 0)
	c, err := Mount(dir, Config{Linger: 300 * time.Millisecond}, slog.New(slog.DiscardHandler))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-c.Ready()
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	cancel()
	until(t, "native directory is back", func() bool {
		m, err := mounts.Read()
		return err == nil && m.Containing(dir).Point != dir
	})
	if _, err := f.WriteString("late"); err != nil {
		t.Errorf("write while lingering: %v", err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("run did not end")
	}
	if _, err := f.WriteString("too late"); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("write after the end: %v", err)
	}
	if b, err := os.ReadFile(dir + "/f"); err != nil || string(b) != "late" {
		t.Errorf("native file: %q, %v", b, err)
	}
}

func TestUnmountedByOthers(t *testing.T) {
	testfuse.Need(t)
	dir := t.TempDir()
	testfuse.Watchdog(t, dir, 0)
	c, err := Mount(dir, Config{}, slog.New(slog.DiscardHandler))
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- c.Run(t.Context()) }()
	<-c.Ready()
	must(t, unix.Unmount(dir, unix.MNT_DETACH))
	select {
	case err := <-done:
		if !errors.Is(err, ErrUnmounted) {
			t.Errorf("run: %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("run did not notice")
	}
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestForeignListed(t *testing.T) {
	list := []capture.Foreign{{PID: 1, Command: "x", Path: "f", Write: true}}
	var asked string
	c, dir, _ := start(t, Config{Foreign: func(dir string) ([]capture.Foreign, error) {
		asked = dir
		return list, nil
	}})
	if asked != dir || len(c.Foreign()) != 1 {
		t.Errorf("asked about %q, has %v", asked, c.Foreign())
	}
}
