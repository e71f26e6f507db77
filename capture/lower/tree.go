package lower

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// ErrOtherFS: the name belongs to another file system mounted below the root.
var ErrOtherFS = errors.New("on another file system")

// Locks are those a capture takes for its own operations. Unlock functions are called
// once. Shifts counts the operations that moved or cut the content of id.
type Locks interface {
	LockDir(id fileop.ObjID) (unlock func())
	LockFile(id fileop.ObjID) (unlock func())
	Shifts(id fileop.ObjID) uint64
}

// maxMounts bounds the list of nested mounts kept for the operator.
const maxMounts = 64

// Tree reads below one root directory. Its methods may be called by several
// goroutines at once.
type Tree struct {
	root    int      // a descriptor that can be read from, not O_PATH
	own     *os.File // root, when it is ours to close
	dev     uint64
	locks   Locks
	handles bool // form of Refs: file handles, else paths

	mu     sync.Mutex
	mounts map[string]bool // guarded by mu; at most maxMounts
}

// New reads below the directory behind rootFD (O_PATH is enough), which may be closed
// afterwards. Nil locks exclude nobody. An unusable descriptor shows at the first use.
func New(rootFD int, locks Locks) *Tree {
	t := &Tree{root: rootFD, locks: locks, mounts: map[string]bool{}}
	// open_by_handle_at(2) takes no O_PATH descriptor. "." stays below a later mount.
	if fd, err := openFlags(rootFD, ".", unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
		t.own = os.NewFile(uintptr(fd), "root")
		t.root = fd
	}
	_, handle, st, err := fsx.Identify(t.root, "")
	if err != nil {
		return t
	}
	t.dev = st.Dev
	t.handles = tryHandle(t.root, handle)
	return t
}

// Close releases the tree's own descriptor. Open Dirs and Files stay usable.
func (t *Tree) Close() error {
	if t.own == nil {
		return nil
	}
	return t.own.Close()
}

// Handles reports whether objects are found by file handle, under any name.
func (t *Tree) Handles() bool { return t.handles }

// Mounts lists the places, relative to the root, where other file systems were met
// and not entered; at most maxMounts of them, in no order.
func (t *Tree) Mounts() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]string, 0, len(t.mounts))
	for m := range t.mounts {
		out = append(out, m)
	}
	return out
}

func (t *Tree) noteMount(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mounts) < maxMounts {
		t.mounts[path] = true
	}
}

// Root describes the root directory; its Name is "".
func (t *Tree) Root() (fileop.Entry, error) {
	return t.describe(t.root, "", "")
}

// Dir opens a directory by the entry it was listed with. An entry that is another
// file system's gives a directory without names.
func (t *Tree) Dir(e fileop.Entry) (*Dir, error) {
	if isMountRef(e.Ref) {
		return &Dir{t: t, fd: -1, id: e.Obj, mount: &e, path: string(e.Ref[1:])}, nil
	}
	fd, err := t.open(e, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("open directory %q: %w", e.Name, err)
	}
	at, _ := refPath(e.Ref)
	return &Dir{t: t, fd: fd, id: e.Obj, path: at}, nil
}

// Object finds an object, under whatever name, by the kernel's file handle: four bytes of
// type in native order, then its bytes. The entry's Name is ""; it may lie outside of the
// root. It is gone if it has no name left.
func (t *Tree) Object(handle []byte) (fileop.Entry, error) {
	if !t.handles || len(handle) <= 4 {
		return fileop.Entry{}, fmt.Errorf("find object by handle: %w", fs.ErrInvalid)
	}
	h := fsx.Handle{Type: int32(binary.NativeEndian.Uint32(handle)), Bytes: handle[4:]}
	fd, err := openByHandle(t.root, h, unix.O_PATH)
	if err != nil {
		return fileop.Entry{}, fmt.Errorf("find object by handle: %w", goneIf(err))
	}
	defer unix.Close(fd)
	e, err := t.describe(fd, "", "")
	if err == nil && e.Nlink == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return e, fmt.Errorf("find object by handle: %w", err)
	}
	return e, nil
}

// Dup gives a descriptor of the root that can be read from.
func (t *Tree) Dup() (int, error) {
	fd, err := unix.FcntlInt(uintptr(t.root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate root: %w", err)
	}
	return fd, nil
}

// File opens a regular file by the entry it was listed with. Anything else is
// fs.ErrInvalid. It does not block and does not wake the other end of a fifo.
func (t *Tree) File(e fileop.Entry) (*File, error) {
	if e.Attr.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("open %q: not a regular file: %w", e.Name, fs.ErrInvalid)
	}
	fd, err := t.open(e, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open file %q: %w", e.Name, err)
	}
	return &File{t: t, fd: fd, id: e.Obj, ref: e.Ref}, nil
}

// Lookup finds an entry by its path relative to the root, "" for the root itself. No
// symbolic link is followed and no mount crossed on the way.
func (t *Tree) Lookup(p string) (fileop.Entry, error) {
	if p == "" {
		return t.Root()
	}
	if path.Clean(p) != p {
		return fileop.Entry{}, fmt.Errorf("look up %q: not a clean path: %w", p, fs.ErrInvalid)
	}
	dir, name := "", p
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		dir, name = p[:i], p[i+1:]
	}
	fd, err := openBeneath(t.root, dot(dir), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fileop.Entry{}, fmt.Errorf("look up %q: %w", p, goneIf(err))
	}
	defer unix.Close(fd)
	e, err := t.entry(fd, dir, name)
	if err != nil {
		return e, fmt.Errorf("look up %q: %w", p, err)
	}
	return e, nil
}

// Sync makes the whole file system the tree lies on durable. It can take seconds, and no
// lock of the tree is held.
func (t *Tree) Sync() error {
	if err := unix.Syncfs(t.root); err != nil {
		return fmt.Errorf("sync the protected file system: %w", err)
	}
	return nil
}
