package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/capture/inotify"
	"understudy/capture/lower"
	"understudy/capture/stacked"
	"understudy/control"
	"understudy/event"
	"understudy/fileop"
	"understudy/mirror"
	"understudy/repset"
)

// captured is one captured directory and those who listen to it.
type captured struct {
	dir     string
	name    string // of the backend
	backend capture.Backend
	tree    mirror.Tree
	stacked *stacked.Capture // nil for other backends
	forward *forwarded       // a replica that is sent on; nil for other backends
	hints   *hintFan         // of stacked: what went past the mount; nil where that is not watched
	sync    func() error     // hands on what happened before the call; nil: it cannot
	ctx     context.Context  // of the capture
	cancel  context.CancelFunc
	resumed bool        // adopted, and not served yet; guarded by Node.mu
	lost    bool        // taken away, and being made again; guarded by Node.mu
	losses  []time.Time // when its mount was taken away lately; guarded by Node.mu
	done    chan struct{}
	err     error // why it stopped; set before done is closed
	users   int   // connections; others than stacked ones end with the last
}

// stops waits until the capture stops, which is an error, or ctx ends.
func (c *captured) stops(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-c.done:
		return fmt.Errorf("capture of %s stopped", c.dir)
	}
}

// treeAdapter gives the mirror its interfaces: lower's methods return its own types.
type treeAdapter struct{ *lower.Tree }

func (t treeAdapter) Dir(e fileop.Entry) (mirror.Dir, error) {
	d, err := t.Tree.Dir(e)
	if err != nil {
		return nil, goneError(err)
	}
	return dirAdapter{d}, nil
}

func (t treeAdapter) File(e fileop.Entry) (mirror.File, error) {
	f, err := t.Tree.File(e)
	if err != nil {
		return nil, goneError(err)
	}
	return f, nil
}

func (t treeAdapter) Lookup(path string) (fileop.Entry, error) {
	e, err := t.Tree.Lookup(path)
	return e, goneError(err)
}

type dirAdapter struct{ *lower.Dir }

func (d dirAdapter) Entry(name string) (fileop.Entry, error) {
	e, err := d.Dir.Entry(name)
	return e, goneError(err)
}

// OpenEntry saves the mirror a second open of a small file.
func (d dirAdapter) OpenEntry(name string) (fileop.Entry, mirror.File, error) {
	e, f, err := d.Dir.OpenEntry(name)
	if f == nil {
		return e, nil, goneError(err)
	}
	return e, f, goneError(err)
}

func goneError(err error) error {
	if err != nil && errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", mirror.ErrGone, err)
	}
	return err
}

// hintFan gives every connection the hints of one backend.
type hintFan struct {
	mu    sync.Mutex
	sinks map[hintKey]capture.HintSink
}

// hintKey is a root of a session.
type hintKey struct {
	s    *session
	root int
}

func (h *hintFan) Dirty(path string, deep bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sinks {
		s.Dirty(path, deep)
	}
}

func (h *hintFan) add(s *session, root int, sink capture.HintSink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sinks[hintKey{s, root}] = sink
}

func (h *hintFan) remove(s *session, root int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sinks, hintKey{s, root})
}

// errNoMount: stacked capture was asked for where none is.
var errNoMount = errors.New("directory is not captured in write order")

// findStacked returns the stacked capture that covers dir, the deepest if several do.
// n.mu is held.
func (n *Node) findStacked(dir string) *captured {
	var best *captured
	for _, c := range n.captures {
		if c.stacked != nil && repset.Within(c.dir, dir) && (best == nil || len(c.dir) > len(best.dir)) {
			best = c
		}
	}
	return best
}

// startStacked is mountStacked, and returns once requests are served: a program that
// opens files of its own mount before the kernel knows that they cannot be polled waits
// for itself.
func (n *Node) startStacked(dir string) (*captured, error) {
	c, err := n.mountStacked(dir)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.stacked.Ready():
	case <-c.done:
	}
	return c, nil
}

// mountStacked mounts over dir and serves. What a killed daemon left mounted there is
// taken away first.
func (n *Node) mountStacked(dir string) (*captured, error) {
	if _, err := stacked.ClearDead(dir, n.log); err != nil {
		return nil, err
	}
	resolved, err := checkDir(dir)
	if err != nil {
		return nil, err
	}
	if repset.Within(resolved, n.cfg.Data) {
		return nil, control.Errorf(control.Refused, "move it elsewhere (--data)", "mount %s: the data directory %s lies inside", dir, n.cfg.Data)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.captures[resolved]
	if old != nil && !old.lost {
		return nil, fmt.Errorf("mount %s: %w", dir, capture.ErrBusy)
	}
	if err := n.checkReplicaMount(resolved); err != nil {
		return nil, err
	}
	b, err := stacked.Mount(resolved, n.stackedConfig(), n.log.With("dir", resolved))
	if err != nil {
		return nil, err
	}
	c := &captured{dir: resolved, name: "stacked", backend: b, tree: treeAdapter{b.Tree()}, stacked: b, done: make(chan struct{})}
	if old != nil {
		c.losses = old.losses
	}
	n.serve(c)
	n.watchBypass(c, b.Tree())
	return c, nil
}

// startInotify captures dir by hints, or shares a capture that runs. n.mu is held.
func (n *Node) startInotify(dir string) (*captured, error) {
	if c := n.captures[dir]; c != nil {
		return c, nil
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", dir, err)
	}
	fan := &hintFan{sinks: map[hintKey]capture.HintSink{}}
	b, err := inotify.New(dir, inotify.Config{RescanEvery: n.cfg.RescanEvery, Overflow: n.overflowed(dir)}, fan, n.log.With("dir", dir))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	c := &captured{dir: dir, name: "inotify", backend: b, tree: treeAdapter{lower.New(fd, nil)}, hints: fan, done: make(chan struct{})}
	c.sync = b.Sync
	n.serve(c)
	return c, nil
}

// overflowed tells of events that a capture lost.
func (n *Node) overflowed(dir string) func(times uint64) {
	return func(times uint64) { n.events.Raise(event.CaptureOverflow, event.About{Dir: dir}, dir, times) }
}

// serve runs the backend until it is told to stop or fails. n.mu is held.
func (n *Node) serve(c *captured) {
	ctx, cancel := context.WithCancel(n.ctx)
	c.ctx, c.cancel = ctx, cancel
	n.captures[c.dir] = c
	n.events.Clear(event.About{Dir: c.dir}, event.CaptureFailed)
	n.wait.Add(1)
	go func() {
		defer n.wait.Done()
		c.err = c.backend.Run(ctx)
		n.mu.Lock()
		again := n.loses(c)
		if !again && n.captures[c.dir] == c {
			delete(n.captures, c.dir)
		}
		n.mu.Unlock()
		cancel()
		if c.err != nil {
			n.events.Set(event.CaptureFailed, event.About{Dir: c.dir}, c.dir, c.err)
		}
		close(c.done)
		if again {
			n.remount(c)
		}
	}()
}

// exact reports that its locks exclude changes, and that it tells of each with its content.
func (c *captured) exact() bool { return c.stacked != nil || c.forward != nil }

// stop ends a capture and waits for it. One that was taken away has ended.
func (c *captured) stop() error {
	c.cancel()
	<-c.done
	if errors.Is(c.err, stacked.ErrUnmounted) {
		return nil
	}
	return c.err
}

// checkDir resolves a directory that is to be captured and refuses what cannot be.
func checkDir(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("directory %q: give an absolute path", dir)
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("directory %s: %w", dir, err)
	}
	st, err := os.Stat(resolved)
	if err != nil {
		return "", fmt.Errorf("directory %s: %w", dir, err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("directory %s: not a directory", dir)
	}
	if resolved == "/" {
		return "", errors.New("directory /: the root of the file system cannot be captured; choose the directories that matter (B5.20)")
	}
	return resolved, nil
}

// realDir is checkDir for the root of a replication set, which must be named without
// symbolic links: rules, captures and operations compare paths as they are written.
func realDir(dir string) error {
	resolved, err := checkDir(dir)
	if err == nil && resolved != dir {
		err = fmt.Errorf("directory %s: reached through a symbolic link; name %s itself", dir, resolved)
	}
	return err
}

// stackedPossible says why stacked capture cannot work here, or nil.
func stackedPossible() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("it needs /dev/fuse: %w", err)
	}
	return nil
}
