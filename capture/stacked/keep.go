package stacked

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/capture/holder"
)

// Keeper holds descriptors that outlive this process; holder.Client is one.
type Keeper interface {
	Keep(name string, meta []byte, files ...*os.File) error
	Hand(name string, fd int) error
	Take(name string) (meta []byte, files []*os.File, err error)
	Names() ([]string, error)
	Drop(name string) error
	Discard(name string) error
}

// kept is the meta of a session. With it go, in this order, the connection to the
// kernel, the copy of the mount below, the directory below, and the shared memory.
type kept struct {
	holder.Mount
	Version int    `json:"version"`
	Hello   []byte `json:"hello"`  // the kernel's greeting
	Answer  []byte `json:"answer"` // what was agreed to
}

const (
	keptVersion = 1
	keptFiles   = 4
)

// canResend reports whether the kernel sends unanswered requests again to another
// process: Linux 6.9 and later.
func canResend(hello []byte) bool {
	const flagsAt = inHeaderSize + 12
	if len(hello) < flagsAt+8 {
		return false
	}
	var flags uint64
	for i := range 8 {
		flags |= uint64(hello[flagsAt+i]) << (8 * i)
	}
	return flags&fuse.CAP_HAS_RESEND != 0
}

// keep gives the session to the keeper, before the kernel knows that anybody serves.
// Where that cannot be, the session ends with this process, as it says.
func (c *Capture) keep(hello, answer []byte) {
	if c.cfg.Keeper == nil {
		return
	}
	var err error
	switch {
	case !canResend(hello):
		err = errors.New("this kernel does not send requests again, Linux 6.9 does")
	case len(c.fs.root.handle.Bytes) == 0:
		err = errors.New("the file system below has no file handles")
	default:
		err = c.handSession(hello, answer)
	}
	if err != nil {
		c.log.Warn("a kill of this process will interrupt applications", "err", err)
	}
}

func (c *Capture) handSession(hello, answer []byte) error {
	tab, err := newShared()
	if err != nil {
		return err
	}
	meta, err := json.Marshal(kept{holder.Mount{Root: c.root, Minor: c.dev}, keptVersion, hello, answer})
	var files []*os.File
	if err == nil {
		files, err = c.fs.low.files()
	}
	if err == nil {
		err = c.cfg.Keeper.Keep(holder.MountPrefix+c.root, meta, c.device.file, files[0], files[1], tab.file)
		files[0].Close()
		files[1].Close()
	}
	if err != nil {
		tab.close()
		return err
	}
	c.connect(tab)
	return nil
}

// connect has everything noted in tab from here on.
func (c *Capture) connect(tab *shared) {
	f := c.fs
	f.tab, f.nodes.tab, f.keeper, f.minor = tab, tab, c.cfg.Keeper, c.dev
	f.open = newUnanswered(tab, c.dev)
	c.device.progress = &tab.header().progress
}

// letGo ends what the keeper has: the mount is gone.
func (c *Capture) letGo() error {
	if c.fs.tab == nil {
		return nil
	}
	defer c.fs.tab.close()
	for _, name := range orphans(c.cfg.Keeper, c.dev) {
		_ = c.cfg.Keeper.Discard(name) // its connection is gone: nothing is held any more
	}
	if err := c.cfg.Keeper.Drop(holder.MountPrefix + c.root); err != nil {
		return fmt.Errorf("capture %s: %w", c.root, err)
	}
	return nil
}

// orphans lists the objects without a name held for a mount.
func orphans(k Keeper, minor uint32) (names []string) {
	all, _ := k.Names()
	for _, name := range all {
		if strings.HasPrefix(name, orphanPrefix(minor)) {
			names = append(names, name)
		}
	}
	return names
}

// handOver makes sure that an object without a name outlives this process. fd is any
// descriptor of it.
func (f *fileSystem) handOver(n *node, fd int) {
	if f.tab == nil {
		return
	}
	n.orphan.Store(true)
	n.handed.Store(true)
	if err := f.keeper.Hand(orphanName(f.minor, n.obj), fd); err != nil {
		f.log.Warn("open file without a name is not held", "obj", n.obj.String(), "err", err)
	}
}

// orphaned is called before an object loses its last name, and held after one was
// opened: whichever comes second sees the other, and hands the object over. What nobody
// has open can be lost: its inode ends with this process.
func (f *fileSystem) orphaned(n *node, fd int) {
	n.orphan.Store(true)
	if n.opens.Load() > 0 {
		f.handOver(n, fd)
	}
}

func (f *fileSystem) held(n *node, fd int) {
	n.opens.Add(1)
	if n.orphan.Load() {
		f.handOver(n, fd)
	}
}

// disown ends that: the object has a name, or nobody knows it any more.
func (f *fileSystem) disown(n *node) {
	n.orphan.Store(false)
	if n.handed.CompareAndSwap(true, false) {
		if err := f.keeper.Discard(orphanName(f.minor, n.obj)); err != nil {
			f.log.Debug("object not given back by the holder", "err", err)
		}
	}
}

// files are duplicates of the descriptors of the directory below.
func (l *lowerDir) files() (out []*os.File, err error) {
	for _, fd := range []int{l.mount, l.root} {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, f := range out {
				f.Close()
			}
			return nil, fmt.Errorf("duplicate descriptor: %w", err)
		}
		out = append(out, os.NewFile(uintptr(d), "below"))
	}
	return out, nil
}

// Held lists the directories whose sessions a keeper has.
func Held(k Keeper) (dirs []string, err error) {
	names, err := k.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if dir, ok := strings.CutPrefix(name, holder.MountPrefix); ok && path.IsAbs(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}
