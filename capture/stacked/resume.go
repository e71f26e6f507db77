package stacked

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/capture/holder"
	"understudy/capture/lower"
	"understudy/internal/mounts"
)

// Resume takes over the session of dir that a process before this one left with
// cfg.Keeper. That process has ended. Nothing is served yet: whoever uses dir waits
// until Run, before which the sinks are attached again. On an error the session is
// ended, and the native directory is back.
func Resume(dir string, cfg Config, log *slog.Logger) (*Capture, error) {
	cfg = cfg.withDefaults()
	c := &Capture{root: dir, cfg: cfg, log: log.With("path", dir), ready: make(chan struct{}), resumed: true}
	meta, files, err := cfg.Keeper.Take(holder.MountPrefix + dir)
	if err != nil {
		return nil, fmt.Errorf("resume capture of %s: %w", dir, err)
	}
	if err = c.adopt(meta, files); err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, fmt.Errorf("resume capture of %s: %w", dir, errors.Join(err, c.abandon()))
	}
	return c, nil
}

func (c *Capture) adopt(meta []byte, files []*os.File) error {
	var k kept
	if err := json.Unmarshal(meta, &k); err != nil {
		return fmt.Errorf("session of an unknown kind: %w", err)
	}
	c.dev = k.Minor
	if len(files) != keptFiles || k.Version != keptVersion || k.Root != c.root {
		return fmt.Errorf("session of version %d with %d descriptors at %s", k.Version, len(files), k.Root)
	}
	tab, err := mapShared(files[3])
	if err != nil {
		return err
	}
	low, err := lowerFrom(files[1], files[2])
	if err == nil {
		c.fs, err = newFileSystem(low, c.cfg, c.log)
	}
	if err != nil {
		return err
	}
	c.device = newDevice(files[0], c.fs, c.options(), c.log)
	if answer, err := c.device.agree(k.Hello); err != nil || !bytes.Equal(answer, k.Answer) {
		return fmt.Errorf("the kernel was promised something else: %w", err)
	}
	left, err := tab.read()
	if err != nil {
		return err
	}
	c.connect(tab)
	if err := c.fs.rebuild(left); err != nil {
		return err
	}
	p := c.device.progress
	p.Taken.Store(0)
	p.Answered.Store(0)
	p.Full.Store(0)
	c.tree = lower.New(low.root, c.fs.locks)
	return nil
}

// lowerFrom is a directory below whose descriptors another process opened.
func lowerFrom(mount, root *os.File) (*lowerDir, error) {
	var fds [2]int
	for i, f := range []*os.File{mount, root} {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("directory below: %w", err)
		}
		fds[i] = fd
	}
	var st unix.Stat_t
	if err := unix.Fstat(fds[1], &st); err != nil {
		return nil, fmt.Errorf("directory below: %w", err)
	}
	return &lowerDir{mount: fds[0], root: fds[1], dev: st.Dev}, nil
}

// abandon ends a session that cannot go on: the native directory is back, and what is
// open gives errors. The connection ends with its last descriptor; by the number of its
// device it could be another one by now.
func (c *Capture) abandon() error {
	for _, name := range orphans(c.cfg.Keeper, c.dev) {
		_ = c.cfg.Keeper.Discard(name)
	}
	err := c.cfg.Keeper.Drop(holder.MountPrefix + c.root)
	if c.device != nil {
		c.device.file.Close()
	}
	return errors.Join(err, mounts.Detach(c.root, c.dev))
}

// rebuild makes the tables from what was left.
func (f *fileSystem) rebuild(l *left) error {
	t := f.nodes
	t.last = max(f.tab.header().lastNode.Load(), t.last)
	for id, n := range l.nodes {
		if other := t.byObj[n.obj]; other != nil || id == fuse.FUSE_ROOT_ID {
			return fmt.Errorf("node %d is noted twice", id)
		}
		t.byID[id], t.byObj[n.obj] = n, n
		t.last = max(t.last, id)
	}
	for id, list := range l.aliases {
		f.renameNode(t.byID[id], list)
	}
	f.adoptOrphans()
	f.files.last, f.dirs.last = f.tab.header().lastFile.Load(), f.tab.header().lastDir.Load()
	for _, o := range l.files {
		f.reopenFile(o)
	}
	for _, o := range l.dirs {
		f.reopenDir(o)
	}
	for unique, list := range l.grants {
		n := f.open.before(unique)
		for _, g := range list {
			n.grants = append(n.grants, g.at)
		}
	}
	for i := range maxIntents {
		if it := f.tab.intent(i); it.state.Load() != intentFree {
			it.slot = i
			f.open.before(it.unique).it = it
		}
	}
	return nil
}

// before gives the notes of an earlier process on a request. Nobody else uses them yet.
func (u *unanswered) before(unique uint64) *notes {
	n := u.former[unique]
	if n == nil {
		n = &notes{}
		u.former[unique] = n
	}
	return n
}

// renameNode gives a node its names. Present ones make former ones meaningless, which a
// death between two stores leaves; a name in a directory the kernel has forgotten is one
// below the root.
func (f *fileSystem) renameNode(n *node, list []leftAlias) {
	named := slices.ContainsFunc(list, func(a leftAlias) bool { return !a.last })
	slices.SortStableFunc(list, func(a, b leftAlias) int { return int(a.order) - int(b.order) })
	for _, a := range list {
		parent := f.nodes.byID[a.parent]
		if n == nil || named && a.last || len(n.names) == maxAliases {
			f.tab.free(a.at)
			continue
		}
		if parent == nil {
			parent = f.root
		}
		n.names = append(n.names, alias{parent, a.name, a.at})
	}
	if n != nil {
		n.named = named
		f.tab.setNames(n)
	}
}

// adoptOrphans takes the objects without a name from the keeper. One handed over that
// is noted with a name may have lost it in the last moment: settle tells.
func (f *fileSystem) adoptOrphans() {
	byName := map[string]*node{}
	for _, n := range f.nodes.byObj {
		byName[orphanName(f.minor, n.obj)] = n
	}
	for _, name := range orphans(f.keeper, f.minor) {
		n := byName[name]
		if n == nil {
			_ = f.keeper.Discard(name)
			continue
		}
		_, files, err := f.keeper.Take(name)
		var fd int
		if err == nil && len(files) == 1 {
			fd, err = unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
			files[0].Close()
		}
		if err != nil || len(files) != 1 {
			f.log.Error("open file without a name is lost", "obj", n.obj.String(), "err", err)
			continue
		}
		f.fds.give(n, fd)
		f.fds.pin(n)
		f.fds.release(n)
		n.orphan.Store(true)
		n.handed.Store(true)
	}
}

// disownNamed gives back those that have kept their name.
func (f *fileSystem) disownNamed() {
	for _, n := range f.nodes.byID {
		if n.handed.Load() && n.named {
			f.fds.unpin(n)
			f.disown(n)
		}
	}
}

// reopenFile opens what was open, by its handle or the descriptor held.
func (f *fileSystem) reopenFile(o leftOpen) {
	n := f.nodes.byID[o.node]
	if n == nil {
		f.tab.free(o.at)
		return
	}
	file := &openFile{n: n, fd: -1, at: o.at}
	fd, err := f.fds.hold(n)
	if err == nil {
		file.fd, err = f.fds.reopen(fd, openFlags(o.flags))
		f.fds.release(n)
	}
	if err != nil {
		f.log.Error("file not opened again", "file", f.nodes.path(n), "err", err)
	}
	n.opens.Add(1)
	f.files.m = put(f.files.m, o.fh, file)
	f.files.last = max(f.files.last, o.fh)
	b := f.open.before(o.unique)
	b.files = append(b.files, o.fh)
}

func (f *fileSystem) reopenDir(o leftOpen) {
	n := f.nodes.byID[o.node]
	if o.node == fuse.FUSE_ROOT_ID {
		n = f.root
	}
	if n == nil {
		f.tab.free(o.at)
		return
	}
	dir := &openDir{n: n, fd: -1, at: o.at}
	fd, err := f.fds.hold(n)
	if err == nil {
		dir.fd, err = f.fds.retry(func() (int, error) {
			return unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		f.fds.release(n)
	}
	if err != nil {
		f.log.Error("directory not opened again", "dir", f.nodes.path(n), "err", err)
	}
	n.opens.Add(1)
	f.dirs.m = put(f.dirs.m, o.fh, dir)
	f.dirs.last = max(f.dirs.last, o.fh)
	b := f.open.before(o.unique)
	b.dirs = append(b.dirs, o.fh)
}

func put[T any](m map[uint64]T, key uint64, v T) map[uint64]T {
	if m == nil {
		m = map[uint64]T{}
	}
	m[key] = v
	return m
}

// resentWithin is after how long a request that was going to be sent again has been.
const resentWithin = 30 * time.Second

// goOn settles what was under way when the process before died, and has the kernel send
// again what it did not answer.
func (c *Capture) goOn() error {
	begin := time.Now()
	done, err := c.fs.settle()
	if err != nil {
		return err
	}
	c.fs.disownNamed()
	if err := c.device.resend(); err != nil {
		return err
	}
	time.AfterFunc(resentWithin, c.fs.open.dropFormer)
	c.log.Info("capture goes on", "nodes", len(c.fs.nodes.byID), "files", len(c.fs.files.m),
		"settled", strings.Join(done, " "), "took", time.Since(begin))
	return nil
}
