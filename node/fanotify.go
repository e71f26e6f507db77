package node

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/capture/fanotify"
	"understudy/capture/lower"
	"understudy/control"
	"understudy/event"
	"understudy/fileop"
)

// chooseCapture finds or starts the capture of root as the connection asks: stacked where
// a stacked mount covers it, else by fanotify, else by inotify. n.mu is held.
func (n *Node) chooseCapture(root, wanted string) (*captured, error) {
	mounted := n.findStacked(root)
	if mounted != nil && mounted.lost {
		return nil, fmt.Errorf("capture %s: %w", root, errMountLost)
	}
	switch wanted {
	case "inotify":
		return n.startInotify(root)
	case "fanotify":
		if mounted != nil {
			return nil, control.Errorf(control.Refused, "use capture auto, or: understudy umount "+mounted.dir,
				"capture %s: it is captured in write order by the mount at %s", root, mounted.dir)
		}
		return n.startFanotify(root)
	case "stacked":
		if mounted == nil {
			return nil, fmt.Errorf("%s: %w; run: understudy mount %s", root, errNoMount, root)
		}
	}
	if mounted != nil {
		return mounted, nil
	}
	c, err := n.startFanotify(root)
	if errors.Is(err, fanotify.ErrUnsupported) {
		n.log.Info("captured by inotify", "dir", root, "err", err)
		return n.startInotify(root)
	}
	return c, err
}

// fanHub is the node's hub, made at its first use. n.mu is held.
func (n *Node) fanHub() *fanotify.Hub {
	if n.hub == nil {
		n.hub = fanotify.NewHub(n.log)
	}
	return n.hub
}

// startFanotify captures dir by the changed objects of its file system, or shares a
// capture that runs. n.mu is held.
func (n *Node) startFanotify(dir string) (*captured, error) {
	if c := n.captures[dir]; c != nil {
		if c.name == "inotify" {
			return nil, fmt.Errorf("capture %s by fanotify: %w by inotify for another connection", dir, capture.ErrBusy)
		}
		return c, nil
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", dir, err)
	}
	tree := lower.New(fd, nil)
	fan := newHintFan()
	b, err := n.fanHub().Open(dir, fd, n.fanConfig(dir), fan, n.log.With("dir", dir))
	if err != nil {
		tree.Close()
		return nil, err
	}
	c := &captured{dir: dir, name: "fanotify", backend: b, tree: treeAdapter{tree}, hints: fan, done: make(chan struct{})}
	c.sync = b.Sync
	n.serve(c)
	return c, nil
}

func (n *Node) fanConfig(dir string) fanotify.Config {
	cfg := fanotify.Config{RescanEvery: n.cfg.RescanEvery, Overflow: n.overflowed(dir)}
	if n.setFan != nil {
		n.setFan(&cfg)
	}
	return cfg
}

// watchBypass has what lies beneath a stacked mount watched for changes that did not come
// through it: the objects are compared, so that the target converges, and the operator is
// told. Where that is not possible the capture works without. n.mu is held.
func (n *Node) watchBypass(c *captured, tree *lower.Tree) {
	fd, err := tree.Dup()
	if err != nil {
		n.log.Warn("changes past the mount are not watched", "dir", c.dir, "err", err)
		return
	}
	fan := newHintFan()
	cfg := fanotify.Config{Bypass: true, RescanEvery: -1, Overflow: n.overflowed(c.dir), Foreign: func(path string, pid int) { n.bypassed(c.dir, path, pid) }}
	b, err := n.fanHub().Open(c.dir, fd, cfg, fan, n.log.With("dir", c.dir))
	if err != nil {
		n.log.Warn("changes past the mount are not watched", "dir", c.dir, "err", err)
		return
	}
	c.hints, c.sync = fan, b.Sync
	n.wait.Add(1)
	go func() {
		defer n.wait.Done()
		if err := b.Run(c.ctx); err != nil {
			n.log.Error("changes past the mount are no longer watched", "dir", c.dir, "err", err)
		}
	}()
}

// bypassed tells of a change that did not come through a stacked mount.
func (n *Node) bypassed(dir, path string, pid int) {
	by := "a process of another namespace changed " + path
	if pid != 0 {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // it may have ended
		by = fmt.Sprintf("process %d (%s) changed %s", pid, strings.TrimSpace(string(comm)), path)
	}
	n.events.Raise(event.CaptureBypassed, event.About{}, dir, by)
}

// Moved and Object give every connection what a backend knows beyond hints.

func (h *hintFan) Moved(path string, deep bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sinks {
		if m, ok := s.(capture.MoveSink); ok {
			m.Moved(path, deep)
		} else {
			s.Dirty(path, deep)
		}
	}
}

func (h *hintFan) Object(handle []byte, content bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sinks {
		if o, ok := s.(capture.ObjectSink); ok {
			o.Object(handle, content)
		} else {
			s.Dirty("", true)
		}
	}
}

func newHintFan() *hintFan { return &hintFan{sinks: map[hintKey]capture.HintSink{}} }

func (h hintSink) Moved(path string, deep bool) {
	if path, deep, ok := h.within(path, deep); ok {
		h.m.Moved(h.root, path, deep)
	}
}

func (h hintSink) Object(handle []byte, content bool) { h.m.Object(h.root, handle, content) }

var (
	_ capture.MoveSink   = hintSink{}
	_ capture.ObjectSink = hintSink{}
)

// Object lets the mirror find files by handle.
func (t treeAdapter) Object(handle []byte) (e fileop.Entry, err error) {
	e, err = t.Tree.Object(handle)
	return e, goneError(err)
}
