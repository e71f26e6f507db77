package exercise

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func (w *worker) create() error {
	rel := w.world.fresh(w.r)
	flags := unix.O_CREAT | unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	appends := w.r.IntN(4) == 0
	switch {
	case appends:
		flags |= unix.O_APPEND
	case w.r.IntN(2) == 0:
		flags |= unix.O_EXCL
	case w.r.IntN(4) == 0:
		flags |= unix.O_TRUNC
	}
	if full, _ := w.world.full(); full {
		flags &^= unix.O_CREAT | unix.O_EXCL
	}
	w.trace.add("create %q flags %#x", rel, flags)
	if err := w.regular(rel); err != nil {
		return err
	}
	return w.openAs(rel, flags, appends)
}

// regular refuses what exists and is not a regular file: opening a device means
// something else.
func (w *worker) regular(rel string) error {
	var st unix.Stat_t
	err := retry(func() error { return unix.Lstat(w.world.abs(rel), &st) })
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errSkip
	}
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func (w *worker) openAs(rel string, flags int, appends bool) error {
	var fd int
	mode := uint32(w.r.IntN(0o1000)) | 0o600
	err := retry(func() (err error) { fd, err = unix.Open(w.world.abs(rel), flags, mode); return err })
	if err != nil {
		w.forget(rel, err)
		return err
	}
	// Another worker may have put a fifo or a device in place meanwhile.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return err
	}
	w.world.addFile(rel)
	w.hold(openFile{fd, appends})
	return nil
}

func (w *worker) openFile() error {
	rel, ok := w.world.file(w.r)
	if !ok {
		return errSkip
	}
	flags := unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	appends := w.r.IntN(3) == 0
	if appends {
		flags |= unix.O_APPEND
	}
	w.trace.add("open %q flags %#x", rel, flags)
	if err := w.regular(rel); err != nil {
		return err
	}
	return w.openAs(rel, flags, appends)
}

func (w *worker) closeFile() error {
	if len(w.fds) == 0 {
		return errSkip
	}
	i := w.r.IntN(len(w.fds))
	w.trace.add("close %d", w.fds[i].fd)
	return w.drop(i)
}

func (w *worker) mkdir() error {
	if _, full := w.world.full(); full {
		return w.rmdir()
	}
	rel := w.world.fresh(w.r)
	mode := uint32(w.r.IntN(0o10000)) | 0o711
	w.trace.add("mkdir %q %#o", rel, mode)
	err := retry(func() error { return unix.Mkdir(w.world.abs(rel), mode) })
	if err != nil {
		return err
	}
	w.world.addDir(rel)
	if w.opt.UID != 0 { // whatever the umask: the other workers shall work here too
		err = retry(func() error { return unix.Chmod(w.world.abs(rel), mode|0o777) })
	}
	return err
}

func (w *worker) mknod() error {
	kinds := []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG}
	if os.Geteuid() == 0 {
		kinds = append(kinds, unix.S_IFCHR, unix.S_IFBLK)
	}
	if full, _ := w.world.full(); full || w.opt.NoSpecial {
		return errSkip
	}
	rel, kind, dev := w.world.fresh(w.r), kinds[w.r.IntN(len(kinds))], 0
	if kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		dev = int(unix.Mkdev(uint32(60+w.r.IntN(4)), uint32(w.r.IntN(300)))) // majors for local use
	}
	w.trace.add("mknod %q %#o %#x", rel, kind, dev)
	err := retry(func() error { return unix.Mknod(w.world.abs(rel), kind|0o640, dev) })
	if err == nil {
		w.world.addFile(rel)
	}
	return err
}

func (w *worker) symlink() error {
	if full, _ := w.world.full(); full {
		return errSkip
	}
	// The target is a single name, so that no path leads out of the directory.
	rel, target := w.world.fresh(w.r), name(w.r)
	w.trace.add("symlink %q to %q", rel, target)
	err := retry(func() error { return unix.Symlink(target, w.world.abs(rel)) })
	if err == nil {
		w.world.addFile(rel)
	}
	return err
}

func (w *worker) link() error {
	from, ok := w.world.file(w.r)
	if full, _ := w.world.full(); full || !ok {
		return errSkip
	}
	to := w.world.fresh(w.r)
	w.trace.add("link %q to %q", from, to)
	err := retry(func() error { return unix.Link(w.world.abs(from), w.world.abs(to)) })
	if err == nil {
		w.world.addFile(to)
	}
	return err
}

func (w *worker) unlink() error {
	rel, ok := w.world.file(w.r)
	if !ok {
		return errSkip
	}
	w.trace.add("unlink %q", rel)
	err := retry(func() error { return unix.Unlink(w.world.abs(rel)) })
	if err == nil {
		w.world.remove(rel)
	}
	w.forget(rel, err)
	return err
}

// unlinkOpen removes a name of a file and goes on writing to it.
func (w *worker) unlinkOpen() error {
	rel, ok := w.world.file(w.r)
	if !ok {
		return errSkip
	}
	w.trace.add("open %q and unlink it", rel)
	if err := w.regular(rel); err != nil {
		return err
	}
	if err := w.openAs(rel, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, false); err != nil {
		return err
	}
	err := retry(func() error { return unix.Unlink(w.world.abs(rel)) })
	if err == nil {
		w.world.remove(rel)
	}
	return err
}

func (w *worker) rmdir() error {
	rel, ok := w.world.subdir(w.r)
	if !ok {
		return errSkip
	}
	w.trace.add("rmdir %q", rel)
	err := retry(func() error { return unix.Rmdir(w.world.abs(rel)) })
	if err == nil {
		w.world.remove(rel)
	}
	w.forget(rel, err)
	return err
}

// tmpfile writes a file without a name and mostly gives it one.
func (w *worker) tmpfile() error {
	if full, _ := w.world.full(); full || w.opt.NoTmpfile {
		return errSkip
	}
	rel := w.world.fresh(w.r)
	w.trace.add("tmpfile for %q", rel)
	dir, _ := splitDir(rel)
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(w.world.abs(dir), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
		return err
	})
	if err != nil {
		return err
	}
	w.hold(openFile{fd, false})
	if err := writeAll(fd, w.data(4000), 0); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if w.r.IntN(5) == 0 {
		return nil // never gets a name
	}
	err = retry(func() error {
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, w.world.abs(rel), unix.AT_SYMLINK_FOLLOW)
	})
	if err == nil {
		w.world.addFile(rel)
	}
	return err
}

func splitDir(rel string) (dir, name string) {
	for i := len(rel) - 1; i >= 0; i-- {
		if rel[i] == '/' {
			return rel[:i], rel[i+1:]
		}
	}
	return "", rel
}
