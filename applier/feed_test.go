package applier

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// script records operations as a journal would, in both lanes, and is their Feed.
type script struct {
	t     testing.TB
	epoch fileop.Epoch
	size  int // records per frame

	mu      sync.Mutex
	q, m    *fileop.Builder
	frames  []fileop.Frame
	mframes []fileop.Frame
	more    chan struct{}
	nextQ   int
	nextM   int
}

func newScript(t testing.TB, epoch fileop.Epoch, perFrame int) *script {
	return &script{t: t, epoch: epoch, size: perFrame, more: make(chan struct{}),
		q: fileop.NewBuilder(fileop.LaneQueue, epoch, 1, 0), m: fileop.NewBuilder(fileop.LaneMirror, epoch, 1, 0)}
}

// add logs operations, each in its lane, and returns the queue's last number.
func (s *script) add(ops ...fileop.Op) fileop.Seq {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ops {
		if err := ops[i].Check(); err != nil {
			s.t.Fatalf("script: %v", err)
		}
		rec := fileop.AppendRecord(nil, &ops[i])
		b, other := s.q, s.m.Next()-1
		if ops[i].Kind.Lane() == fileop.LaneMirror {
			b, other = s.m, s.q.Next()-1
		}
		if !b.Fits(len(rec)) {
			s.flush(b)
		}
		b.Add(rec, other)
		if b.Count() >= s.size {
			s.flush(b)
		}
	}
	return s.q.Next() - 1
}

func (s *script) flush(b *fileop.Builder) {
	_, _, raw := b.Finish()
	if raw == nil {
		return
	}
	f, err := fileop.ParseFrame(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	if f.Lane == fileop.LaneQueue {
		s.frames = append(s.frames, f)
	} else {
		s.mframes = append(s.mframes, f)
	}
	close(s.more)
	s.more = make(chan struct{})
}

// send makes everything added so far available.
func (s *script) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush(s.q)
	s.flush(s.m)
}

func (s *script) Next(ctx context.Context) (fileop.Frame, uint64, error) {
	f, i, err := s.next(ctx, &s.frames, &s.nextQ)
	return f, uint64(i), err
}

func (s *script) NextMirror(ctx context.Context) (fileop.Frame, error) {
	f, _, err := s.next(ctx, &s.mframes, &s.nextM)
	return f, err
}

func (s *script) next(ctx context.Context, frames *[]fileop.Frame, n *int) (fileop.Frame, int, error) {
	for {
		s.mu.Lock()
		if *n < len(*frames) {
			*n++
			f, i := (*frames)[*n-1], *n
			s.mu.Unlock()
			return f, i, nil
		}
		more := s.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return fileop.Frame{}, 0, ctx.Err()
		}
	}
}

var rootID = fileop.ObjID{Ino: 2, Gen: 7}

func id(n uint64) fileop.ObjID { return fileop.ObjID{Ino: n, Gen: n * 31} }

func at(sec int64) fileop.Time { return fileop.Time{Sec: 1_000_000_000 + sec, Nsec: uint32(sec) + 1} }

func fileAttr(mode uint32, sec int64) *fileop.Attr {
	return &fileop.Attr{Mode: unix.S_IFREG | mode, Mtime: at(sec)}
}

func dirAttr(mode uint32, sec int64) *fileop.Attr {
	return &fileop.Attr{Mode: unix.S_IFDIR | mode, Mtime: at(sec)}
}

func testConfig(t testing.TB, dir string) Config {
	return Config{StateDir: filepath.Join(dir, "state"), Epoch: 1, RetryEvery: 5 * time.Millisecond,
		Roots: []Root{{Source: rootID, Path: filepath.Join(dir, "target")}}}
}

func quiet() *slog.Logger {
	if os.Getenv("APPLIER_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// bench is an applier running on a script.
type rig struct {
	*Applier
	t      testing.TB
	dir    string // the target directory
	s      *script
	cancel context.CancelFunc
	result chan error
}

func startRig(t testing.TB, cfg Config, s *script) *rig {
	t.Helper()
	a, err := Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return runRig(t, a, cfg, s)
}

// checkpointAt applies s up to operation from, saves its position there, and stands still.
func checkpointAt(t testing.TB, cfg Config, s *script, from fileop.Seq) *rig {
	t.Helper()
	a, err := Open(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	a.StopAfter(from)
	r := runRig(t, a, cfg, s)
	if err := r.WaitStopped(deadline(t)); err != nil {
		t.Fatal(err)
	}
	saved := make(chan error, 1)
	if err := r.do(deadline(t), func() { saved <- r.checkpointNow(deadline(t)) }); err != nil {
		t.Fatal(err)
	}
	if err := <-saved; err != nil {
		t.Fatal(err)
	}
	return r
}

func runRig(t testing.TB, a *Applier, cfg Config, s *script) *rig {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{Applier: a, t: t, dir: cfg.Roots[0].Path, s: s, cancel: cancel, result: make(chan error, 1)}
	s.nextQ = int(a.Position().Frame)
	go func() { r.result <- a.Run(ctx, s) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends Run and closes cleanly.
func (r *rig) stop() error {
	r.cancel()
	err, ok := <-r.result
	if ok {
		close(r.result)
	}
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

// kill ends Run and drops the applier as a SIGKILL would.
func (r *rig) kill() {
	r.cancel()
	if _, ok := <-r.result; ok {
		close(r.result)
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.release()
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// settled sends what was added and waits until the queue lane is applied and all is at rest.
func (r *rig) settled() {
	r.t.Helper()
	r.s.send()
	r.await(r.s.q.Next()-1, r.s.m.Next()-1)
}

func (r *rig) await(q, m fileop.Seq) {
	r.t.Helper()
	ctx := deadline(r.t)
	err := r.waitFor(ctx, func() bool { return r.shown.Applied >= q && r.shown.MirrorApplied >= m })
	if err == nil {
		if err = r.Pause(ctx); err == nil {
			r.Resume()
		}
	}
	if err != nil {
		select {
		case e := <-r.result:
			r.t.Fatalf("run ended: %v", e)
		default:
		}
		r.t.Fatalf("%v at %+v, %+v", err, r.Position(), r.Stats())
	}
}

// treeText describes a tree: one line for each name, link groups by their first name.
func treeText(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if rel == insideStage {
			return filepath.SkipDir
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		line += fmt.Sprintf(" %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %q", st.Nlink, shorten(b))
			if f := first[st.Ino]; f != "" {
				line += " = " + f
			} else {
				first[st.Ino] = rel
			}
		case unix.S_IFLNK:
			to, _ := os.Readlink(path)
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" dev %d", st.Rdev)
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		xs, err := fsx.Xattrs(fd)
		if err != nil {
			return err
		}
		for _, x := range xs {
			line += fmt.Sprintf(" %s=%x", x.Name, x.Value)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func shorten(b []byte) string {
	if len(b) < 200 {
		return string(b)
	}
	return fmt.Sprintf("%x of %d", fnvSum(b), len(b))
}

func fnvSum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
