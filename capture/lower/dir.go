package lower

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// Dir is an open directory. Its methods may be called by several goroutines at once,
// but none after Close.
type Dir struct {
	t     *Tree
	fd    int // -1 where something else is mounted
	id    fileop.ObjID
	mount *fileop.Entry // set where something else is mounted

	mu   sync.Mutex // guards path and the position of fd
	path string     // for path Refs: as of the last Names
}

func (d *Dir) where() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.path
}

// WithLock calls fn while no captured operation changes the names in this directory,
// and returns its error.
func (d *Dir) WithLock(fn func() error) error {
	if d.t.locks == nil || d.mount != nil {
		return fn()
	}
	unlock := d.t.locks.LockDir(d.id)
	defer unlock()
	return fn()
}

// Path is the directory's present path relative to the root, "" for the root. A path
// longer than PATH_MAX is ENAMETOOLONG.
func (d *Dir) Path() (string, error) {
	if d.mount != nil {
		return d.path, nil
	}
	return d.t.pathOf(d.fd)
}

// direntBytes is the buffer of one getdents64(2): some 2,000 names, so that 100,000
// names are 50 system calls. The kernel asks for no more than it needs.
const direntBytes = 64 << 10

var direntPool = sync.Pool{New: func() any { b := make([]byte, direntBytes); return &b }}

// Names lists all names but . and .., in no order, from the start at every call. A
// name added or removed meanwhile may or may not be there.
func (d *Dir) Names() ([]string, error) {
	if d.mount != nil {
		return nil, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.t.handles {
		p, err := d.t.pathOf(d.fd)
		if err != nil {
			return nil, err
		}
		d.path = p
	}
	if _, err := unix.Seek(d.fd, 0, unix.SEEK_SET); err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	buf := direntPool.Get().(*[]byte)
	defer direntPool.Put(buf)
	var names []string
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(d.fd, *buf) })
		if err != nil {
			return nil, fmt.Errorf("list directory: %w", goneIf(err))
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent((*buf)[:n], -1, names)
	}
}

// Entry looks at one name without following it. Extended attributes are complete,
// but those of symbolic links are not read. Five system calls.
func (d *Dir) Entry(name string) (fileop.Entry, error) {
	if d.mount != nil {
		return fileop.Entry{}, fmt.Errorf("look at %q: %w: %w", name, ErrOtherFS, fs.ErrNotExist)
	}
	e, err := d.t.entry(d.fd, d.where(), name)
	if err != nil {
		return e, fmt.Errorf("look at %q: %w", name, err)
	}
	return e, nil
}

// OpenEntry is Entry, and File for a regular file, in fewer system calls than the two.
// The File is nil for all other types. A regular file that cannot be opened gives its
// entry without extended attributes and the error.
func (d *Dir) OpenEntry(name string) (fileop.Entry, *File, error) {
	if d.mount != nil {
		e, err := d.Entry(name)
		return e, nil, err
	}
	e, f, err := d.openEntry(name)
	if err != nil {
		return e, nil, fmt.Errorf("open %q: %w", name, err)
	}
	return e, f, nil
}

func (d *Dir) openEntry(name string) (fileop.Entry, *File, error) {
	fd, err := d.t.openName(d.fd, name)
	if errors.Is(err, unix.EXDEV) {
		e, err := d.t.mountEntry(d.fd, name)
		return e, nil, err
	}
	if err != nil {
		return fileop.Entry{}, nil, goneIf(err)
	}
	defer unix.Close(fd)
	e, err := d.t.stat(fd, d.where(), name)
	if errors.Is(err, ErrOtherFS) {
		e, err = d.t.mountEntry(d.fd, name)
		return e, nil, err
	}
	if err != nil {
		return e, nil, err
	}
	if e.Attr.Mode&unix.S_IFMT != unix.S_IFREG {
		err = d.t.complete(fd, &e)
		return e, nil, err
	}
	rfd, err := d.t.again(fd, &e)
	if err != nil {
		return e, nil, goneIf(err)
	}
	if e.Xattrs, err = xattrs(rfd); err != nil {
		unix.Close(rfd)
		return e, nil, goneIf(err)
	}
	return e, &File{t: d.t, fd: rfd, id: e.Obj, ref: e.Ref}, nil
}

// Self is the directory's own entry; its Name is "".
func (d *Dir) Self() (fileop.Entry, error) {
	if d.mount != nil {
		e := *d.mount
		e.Name = ""
		return e, nil
	}
	e, err := d.t.stat(d.fd, d.where(), "")
	if err == nil {
		e.Xattrs, err = xattrs(d.fd)
	}
	if err != nil {
		return e, fmt.Errorf("look at directory: %w", goneIf(err))
	}
	return e, nil
}

// Close releases the directory.
func (d *Dir) Close() error {
	if d.mount != nil {
		return nil
	}
	return unix.Close(d.fd)
}

// deletedMark is what the kernel puts behind the path of an object without a name.
const deletedMark = " (deleted)"

// pathOf asks the kernel for the path of a directory and takes the root's own from
// it. Both are paths in the mount the root was opened in, so it does not matter what
// was mounted over it or what they are called from elsewhere.
func (t *Tree) pathOf(fd int) (string, error) {
	for range 10 { // the root itself may be moved between the two questions
		root, err := procPath(t.root)
		if err != nil {
			return "", err
		}
		p, err := procPath(fd)
		if err != nil {
			return "", err
		}
		if p == root {
			return "", nil
		}
		if rel, ok := strings.CutPrefix(p, strings.TrimSuffix(root, "/")+"/"); ok {
			return rel, nil
		}
		if again, err := procPath(t.root); err == nil && again == root {
			return "", fmt.Errorf("directory is no longer below the root: %w", fs.ErrNotExist)
		}
	}
	return "", fmt.Errorf("root directory is being moved: %w", fs.ErrNotExist)
}

// procPath is the kernel's path of a directory. One that was removed is gone; one
// that is merely called so is not.
func procPath(fd int) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(fsx.ProcPath(fd), buf[:])
	if err != nil {
		return "", fmt.Errorf("path of directory: %w", err)
	}
	p := string(buf[:n])
	if strings.HasSuffix(p, deletedMark) {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
			return "", fmt.Errorf("directory was removed: %w", fs.ErrNotExist)
		}
	}
	return p, nil
}
