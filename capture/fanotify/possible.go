package fanotify

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Possible says why the directory at path cannot be captured, or nil. The error is
// ErrUnsupported with the reason, or that the path cannot be opened.
func Possible(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("capture %s: %w", path, err)
	}
	defer unix.Close(fd)
	g, err := newGroup(fd, 0, nil)
	if err != nil {
		return err
	}
	g.file.Close()
	unix.Close(g.mount)
	return nil
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUnsupported, fmt.Errorf(format, args...))
}

// possible tries what the mark does not: objects must be found again by their handle.
func possible(rootFD int) error {
	if os.Geteuid() != 0 {
		return unsupported("it needs root")
	}
	h, _, err := unix.NameToHandleAt(rootFD, "", unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EOVERFLOW) {
		return unsupported("the file system has no file handles: %w", err)
	}
	if err != nil {
		return fmt.Errorf("handle of directory: %w", err)
	}
	fd, err := unix.OpenByHandleAt(rootFD, h, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return unsupported("objects cannot be opened by handle on this file system: %w", err)
	}
	unix.Close(fd)
	return nil
}

func initError(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return unsupported("it needs CAP_SYS_ADMIN: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return unsupported("it needs Linux 5.17 or later: %w", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w; raise fs.fanotify.max_user_groups or the limit of open files", err)
	}
	return fmt.Errorf("begin fanotify: %w", err)
}

func markError(err error) error {
	switch {
	case errors.Is(err, unix.EXDEV):
		return unsupported("it is a btrfs subvolume, or another part of a file system with an identity of its own: %w", err)
	case errors.Is(err, unix.ENODEV):
		return unsupported("the file system has no identity (FUSE, for one): %w", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return unsupported("the file system has no file handles: %w", err)
	case errors.Is(err, unix.EINVAL):
		return unsupported("it needs Linux 5.17 or later: %w", err)
	case errors.Is(err, unix.EPERM):
		return unsupported("it needs CAP_SYS_ADMIN where the file system was mounted: %w", err)
	}
	return fmt.Errorf("mark file system: %w", err)
}
