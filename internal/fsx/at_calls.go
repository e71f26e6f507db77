package fsx

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// Step names a system call of At, so that a test can make the n-th one fail.
type Step string

// The steps, each one system call (or a short run of the same one).
const (
	StepOpen      Step = "open"
	StepMkdir     Step = "mkdir"
	StepMknod     Step = "mknod"
	StepSymlink   Step = "symlink"
	StepLink      Step = "link"
	StepUnlink    Step = "unlink"
	StepRename    Step = "rename"
	StepWrite     Step = "write"
	StepRead      Step = "read"
	StepTruncate  Step = "truncate"
	StepFallocate Step = "fallocate"
	StepCopy      Step = "copy"
	StepChown     Step = "chown"
	StepChmod     Step = "chmod"
	StepUtimes    Step = "utimes"
	StepXattr     Step = "xattr"
	StepIdentify  Step = "identify"
	StepReadDir   Step = "readdir"
	StepSync      Step = "sync"
)

// beneath keeps every open inside the directory it starts from: no "..", no absolute
// path, no symbolic link and no /proc magic link on the way.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// At makes system calls relative to held directory descriptors. None of them follows a
// symbolic link. Interrupted calls are repeated. The zero value is ready and safe for
// concurrent use as long as Fault is.
type At struct {
	// Fault, if set, is asked before each call; its error is returned instead of
	// making the call. For tests.
	Fault func(Step) error
}

func (a *At) call(s Step, f func() error) error {
	if a.Fault != nil {
		if err := a.Fault(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
}

// Open opens name below dirfd with open(2) flags, close-on-exec and O_NOFOLLOW added.
// O_PATH gives a symbolic link itself; otherwise a link is ELOOP.
func (a *At) Open(dirfd int, name string, flags int, mode uint32) (int, error) {
	fd := -1
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: beneath}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode & 0o7777)
	}
	err := a.call(StepOpen, func() (err error) {
		fd, err = unix.Openat2(dirfd, name, &how)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// Mkdir makes a directory.
func (a *At) Mkdir(dirfd int, name string, mode uint32) error {
	return a.call(StepMkdir, func() error { return unix.Mkdirat(dirfd, name, mode&0o7777) })
}

// Mknod makes a fifo, socket or device; mode has the type bits.
func (a *At) Mknod(dirfd int, name string, mode uint32, rdev uint64) error {
	return a.call(StepMknod, func() error { return unix.Mknodat(dirfd, name, mode, int(rdev)) })
}

// Symlink makes a symbolic link that holds target.
func (a *At) Symlink(target string, dirfd int, name string) error {
	return a.call(StepSymlink, func() error { return unix.Symlinkat(target, dirfd, name) })
}

// Link gives the object fromDir/from the further name dirfd/name.
func (a *At) Link(fromDir int, from string, dirfd int, name string) error {
	return a.call(StepLink, func() error { return unix.Linkat(fromDir, from, dirfd, name, 0) })
}

// Unlink removes a name that is not a directory's.
func (a *At) Unlink(dirfd int, name string) error {
	return a.call(StepUnlink, func() error { return unix.Unlinkat(dirfd, name, 0) })
}

// Rmdir removes an empty directory.
func (a *At) Rmdir(dirfd int, name string) error {
	return a.call(StepUnlink, func() error { return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR) })
}

// Rename renames with renameat2(2) flags.
func (a *At) Rename(fromDir int, from string, dirfd int, name string, flags uint) error {
	return a.call(StepRename, func() error { return unix.Renameat2(fromDir, from, dirfd, name, flags) })
}

// Write writes all of b at off.
func (a *At) Write(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		err := a.call(StepWrite, func() error {
			n, err := unix.Pwrite(fd, b, off)
			if err == nil && n == 0 {
				return io.ErrShortWrite
			}
			b, off = b[max(n, 0):], off+int64(max(n, 0))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Read fills b from off as far as the file goes.
func (a *At) Read(fd int, b []byte, off int64) (int, error) {
	total := 0
	for total < len(b) {
		n := 0
		err := a.call(StepRead, func() (err error) {
			n, err = unix.Pread(fd, b[total:], off+int64(total))
			return err
		})
		if err != nil || n == 0 {
			return total, err
		}
		total += n
	}
	return total, nil
}

// Truncate sets the size.
func (a *At) Truncate(fd int, size int64) error {
	return a.call(StepTruncate, func() error { return unix.Ftruncate(fd, size) })
}

// Fallocate is fallocate(2).
func (a *At) Fallocate(fd int, mode uint32, off, n int64) error {
	return a.call(StepFallocate, func() error { return unix.Fallocate(fd, mode, off, n) })
}

// CopyRange copies n bytes between files of one file system, as far as from goes.
func (a *At) CopyRange(from int, fromOff int64, to int, toOff, n int64) error {
	for n > 0 {
		done := 0
		err := a.call(StepCopy, func() (err error) {
			done, err = unix.CopyFileRange(from, &fromOff, to, &toOff, int(min(n, 1<<30)), 0)
			return err
		})
		if err != nil {
			return err
		}
		if done == 0 {
			return nil
		}
		n -= int64(done)
	}
	return nil
}

// Clone makes to share all of from's content (FICLONE), where the file system can.
func (a *At) Clone(from, to int) error {
	return a.call(StepCopy, func() error { return unix.IoctlFileClone(to, from) })
}

// Chown sets the owner of the object behind fd, an O_PATH descriptor too.
func (a *At) Chown(fd int, uid, gid uint32) error {
	return a.call(StepChown, func() error { return unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH) })
}

// Chmod sets the permission bits of the object behind fd, an O_PATH descriptor too.
func (a *At) Chmod(fd int, mode uint32) error {
	return a.call(StepChmod, func() error { return unix.Chmod(ProcPath(fd), mode&0o7777) })
}

// Utimes sets the modification time of name below dirfd, of dirfd itself with an empty
// name, and leaves the access time alone.
func (a *At) Utimes(dirfd int, name string, mtime fileop.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, Timespec(mtime)}
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return a.call(StepUtimes, func() error { return unix.UtimesNanoAt(dirfd, name, ts, flags) })
}

// SetXattr sets one extended attribute of the object behind fd.
func (a *At) SetXattr(fd int, x fileop.Xattr) error {
	return a.call(StepXattr, func() error { return SetXattr(fd, x) })
}

// RemoveXattr removes one; removing what is not there is no error.
func (a *At) RemoveXattr(fd int, name string) error {
	return a.call(StepXattr, func() error { return RemoveXattr(fd, name) })
}

// Xattrs reads all extended attributes of the object behind fd.
func (a *At) Xattrs(fd int) (xs []fileop.Xattr, err error) {
	err = a.call(StepXattr, func() error { xs, err = Xattrs(fd); return err })
	return xs, err
}

// Identify is the package's Identify.
func (a *At) Identify(dirfd int, name string) (id fileop.ObjID, st unix.Stat_t, err error) {
	err = a.call(StepIdentify, func() error { id, _, st, err = Identify(dirfd, name); return err })
	return id, st, err
}

// Stat is fstatat(2) without following; an empty name means dirfd itself.
func (a *At) Stat(dirfd int, name string) (st unix.Stat_t, err error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err = a.call(StepIdentify, func() error { return unix.Fstatat(dirfd, name, &st, flags) })
	return st, err
}

// Fsync makes one file or directory durable.
func (a *At) Fsync(fd int) error { return a.call(StepSync, func() error { return unix.Fsync(fd) }) }

// Syncfs makes the whole file system of fd durable. fd must not be an O_PATH one.
func (a *At) Syncfs(fd int) error { return a.call(StepSync, func() error { return unix.Syncfs(fd) }) }
