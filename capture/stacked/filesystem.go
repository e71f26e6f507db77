package stacked

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/fileop"
	"understudy/internal/fsx"
)

// fileSystem answers the kernel's requests. Its methods run at the same time, one
// goroutine per request.
type fileSystem struct {
	fuse.RawFileSystem // ENOSYS for what is not served here

	low     *lowerDir
	log     *slog.Logger
	timeout time.Duration
	notify  func([]byte) // writes a notice to the kernel
	tab     *shared      // what outlives this process; nil: nothing does
	keeper  Keeper       // of tab and of open objects without a name; nil with tab
	minor   uint32       // of the mount's device
	open    *unanswered

	root  *node
	nodes *nodes
	fds   *descriptors
	files handles[*openFile]
	dirs  handles[*openDir]
	locks *lockTable
	sinks sinks
	caps  capabilities

	mirrors  atomic.Int32 // mirrors reading the tree
	requests atomic.Uint64
}

func newFileSystem(low *lowerDir, cfg Config, log *slog.Logger) (*fileSystem, error) {
	obj, handle, _, err := fsx.Identify(low.root, "")
	if err != nil {
		return nil, fmt.Errorf("identify directory: %w", err)
	}
	caps, err := ownCapabilities()
	if err != nil {
		return nil, err
	}
	root := &node{obj: obj, handle: compact(handle), isDir: true, fd: low.root, pinned: true}
	return &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		low:           low, log: log, timeout: cfg.Timeout, caps: caps,
		root: root, nodes: newNodes(root), locks: newLockTable(),
		fds: newDescriptors(low, cfg.MaxDescriptors), open: newUnanswered(nil, 0),
	}, nil
}

func (f *fileSystem) String() string { return "understudy" }

// close releases everything; no request is being served any more.
func (f *fileSystem) close() {
	for _, o := range f.files.all() {
		o.close()
	}
	for _, o := range f.dirs.all() {
		o.close()
	}
	for _, n := range f.nodes.all() {
		if n != f.root {
			f.fds.forget(n)
		}
	}
	f.low.close()
}

func (f *fileSystem) stats() capture.Stats {
	return capture.Stats{Ops: f.sinks.ops.Load(), WriteBytes: f.sinks.bytes.Load(), Requests: f.requests.Load()}
}

// panicked answers a request whose handler broke. Its locks were released on the way.
func (f *fileSystem) panicked(v any) fuse.Status {
	f.log.Error("request handler broke", "err", fmt.Sprint(v), "stack", string(debug.Stack()))
	return fuse.EIO
}

// hold finds the node a request names and a descriptor of it, to be released.
func (f *fileSystem) hold(id uint64) (*node, int, error) {
	f.requests.Add(1)
	n := f.nodes.get(id)
	if n == nil {
		return nil, -1, unix.ESTALE
	}
	fd, err := f.fds.hold(n)
	return n, fd, err
}

// status turns an error of a system call into the answer to a request. What is no
// errno is a fault of ours.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fuse.Status(errno)
	}
	return fuse.EIO
}

// entry fills the answer to whatever gives the kernel a node.
func (f *fileSystem) entry(n *node, st *unix.Stat_t, out *fuse.EntryOut) {
	out.NodeId = n.id
	out.Generation = 1 // node numbers are not reused
	out.SetEntryTimeout(f.timeout)
	out.SetAttrTimeout(f.timeout)
	fillAttr(&out.Attr, st)
}

func (f *fileSystem) attrOut(st *unix.Stat_t, out *fuse.AttrOut) {
	out.SetTimeout(f.timeout)
	fillAttr(&out.Attr, st)
}

func fillAttr(a *fuse.Attr, st *unix.Stat_t) {
	*a = fuse.Attr{
		Ino: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks),
		Atime: uint64(st.Atim.Sec), Atimensec: uint32(st.Atim.Nsec),
		Mtime: uint64(st.Mtim.Sec), Mtimensec: uint32(st.Mtim.Nsec),
		Ctime: uint64(st.Ctim.Sec), Ctimensec: uint32(st.Ctim.Nsec),
		Mode: st.Mode, Nlink: uint32(st.Nlink), Owner: fuse.Owner{Uid: st.Uid, Gid: st.Gid},
		Rdev: uint32(st.Rdev), Blksize: uint32(st.Blksize),
	}
}

func isDir(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }

// mtime is the modification time of what fd holds, zero if it cannot be told.
func mtime(fd int) fileop.Time {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fileop.Time{}
	}
	return fsx.TimeOf(st.Mtim)
}
