package stacked

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/internal/fsx"
)

// lowerDir is the real directory. Its descriptors belong to a private copy of the
// mount it is in: nothing mounted in the machine's tree appears in it, before or after.
type lowerDir struct {
	mount int // keeps the copy of the mount alive
	root  int // the directory, readable, as open_by_handle_at(2) demands
	dev   uint64
}

func openLower(dir string) (*lowerDir, error) {
	mount, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err) // root in a container is not enough
	}
	if err != nil {
		return nil, fmt.Errorf("open directory below: %w", err)
	}
	private := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	err = unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &private)
	var root int
	if err == nil {
		root, err = unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		unix.Close(mount)
		return nil, fmt.Errorf("open directory below: %w", err)
	}
	l := &lowerDir{mount: mount, root: root}
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		l.close()
		return nil, fmt.Errorf("open directory below: %w", err)
	}
	l.dev = st.Dev
	return l, nil
}

func (l *lowerDir) close() {
	unix.Close(l.root)
	unix.Close(l.mount)
}

// open opens the object with handle h, whatever its names are. ESTALE: it is gone.
func (l *lowerDir) open(h fsx.Handle, flags int) (int, error) {
	return unix.OpenByHandleAt(l.root, unix.NewFileHandle(h.Type, h.Bytes), flags|unix.O_CLOEXEC)
}
