package lower

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// openFlags opens name below dirFD for reading without following it and, where the
// caller may, without touching its access time.
func openFlags(dirFD int, name string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := retry(func() (int, error) { return unix.Openat(dirFD, name, flags|unix.O_NOATIME, 0) })
	if errors.Is(err, unix.EPERM) { // only the owner and CAP_FOWNER may ask for O_NOATIME
		fd, err = retry(func() (int, error) { return unix.Openat(dirFD, name, flags, 0) })
	}
	return fd, err
}

// reopen opens for reading what an O_PATH descriptor holds, whatever its names are.
func reopen(pathFD int, flags int) (int, error) {
	name := fsx.ProcPath(pathFD)
	fd, err := retry(func() (int, error) { return unix.Open(name, flags|unix.O_CLOEXEC|unix.O_NOATIME, 0) })
	if errors.Is(err, unix.EPERM) {
		fd, err = retry(func() (int, error) { return unix.Open(name, flags|unix.O_CLOEXEC, 0) })
	}
	return fd, err
}

// openBeneath opens an O_PATH descriptor. A symbolic link or a mount on the way is an
// error (ELOOP, EXDEV); a link at the end is opened itself.
func openBeneath(dirFD int, path string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	return retry(func() (int, error) { return unix.Openat2(dirFD, path, &how) })
}

// openByHandle asks for O_NOATIME first, as openFlags does.
func openByHandle(mountFD int, h fsx.Handle, flags int) (int, error) {
	handle := unix.NewFileHandle(h.Type, h.Bytes)
	flags |= unix.O_CLOEXEC
	fd, err := retry(func() (int, error) { return unix.OpenByHandleAt(mountFD, handle, flags|unix.O_NOATIME) })
	if errors.Is(err, unix.EPERM) {
		fd, err = retry(func() (int, error) { return unix.OpenByHandleAt(mountFD, handle, flags) })
	}
	return fd, err
}

// tryHandle finds out whether this process may open by handle on this file system.
func tryHandle(mountFD int, h fsx.Handle) bool {
	if len(h.Bytes) == 0 {
		return false
	}
	fd, err := openByHandle(mountFD, h, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// retry repeats a call that a signal or, beneath a directory being renamed, another
// process interrupted. The bound is against a hostile renamer.
func retry(call func() (int, error)) (int, error) {
	for range 100 {
		fd, err := call()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return call()
}

// open opens the directory or regular file e for reading, if it is still in the tree.
func (t *Tree) open(e fileop.Entry, flags int) (int, error) {
	if h, ok := refHandle(e.Ref); ok {
		fd, err := openByHandle(t.root, h, flags)
		if err != nil {
			return -1, goneIf(err)
		}
		return fd, unlinked(fd)
	}
	p, ok := refPath(e.Ref)
	if !ok {
		return -1, fmt.Errorf("entry without a reference: %w", fs.ErrInvalid)
	}
	fd, err := openBeneath(t.root, dot(p), unix.O_PATH)
	if err != nil {
		return -1, goneIf(err)
	}
	defer unix.Close(fd)
	id, _, st, err := fsx.Identify(fd, "")
	switch {
	case err != nil:
		return -1, goneIf(err)
	case id != e.Obj || st.Mode&unix.S_IFMT != e.Attr.Mode&unix.S_IFMT:
		return -1, fmt.Errorf("another object has its place: %w", fs.ErrNotExist)
	}
	fd2, err := reopen(fd, flags)
	if err != nil {
		return -1, goneIf(err)
	}
	return fd2, nil
}

// again opens for reading the regular file that an O_PATH descriptor holds. By its handle that
// takes half the time of the way through /proc.
func (t *Tree) again(fd int, e *fileop.Entry) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK
	if h, ok := refHandle(e.Ref); ok {
		return openByHandle(t.root, h, flags)
	}
	return reopen(fd, flags)
}

// unlinked closes fd and says gone if its object has no name left: a handle finds
// such an object as long as somebody holds it open.
func unlinked(fd int) error {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Nlink == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		unix.Close(fd)
	}
	return err
}

// goneIf marks the errors that mean the object is no longer where it was.
func goneIf(err error) error {
	switch {
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	case errors.Is(err, unix.EXDEV):
		return fmt.Errorf("%w: %w: %w", fs.ErrNotExist, ErrOtherFS, err)
	}
	return err
}
