package inotify

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// listBatch is how many names are read at a time.
	listBatch = 1024
	// manyNames is how many names of a new directory are reported one by one.
	manyNames = 256
	// maxPolled is how many directories are polled one by one; beyond, everything is.
	maxPolled = 1024
)

// later puts a directory on the work list.
func (l *loop) later(p place) {
	if len(l.todo) >= maxTodo {
		l.degrade(p.path, errors.New("too many directories at once"))
		return
	}
	l.todo = append(l.todo, p)
}

// scanNext watches and lists the next directory of the work list.
func (l *loop) scanNext() error {
	p := l.todo[len(l.todo)-1]
	l.todo = l.todo[:len(l.todo)-1]
	if err := l.scan(p); err != nil {
		return err
	}
	if len(l.todo) == 0 && l.renewing {
		l.renewing = false
		l.dirty("", true)
	}
	return nil
}

// scan sets the watch first and lists then: what is created before the list is
// complete is in it, what is created after the watch is an event.
func (l *loop) scan(p place) error {
	dir, ino, err := l.openDir(p.path)
	switch {
	case errors.Is(err, ErrRootGone):
		return err
	case isGone(err):
		l.forget(p.path)
		return nil // and if something else is there now, its event is under way
	case errors.Is(err, unix.EXDEV):
		return nil
	case err != nil:
		l.degrade(p.path, err)
		return nil
	}
	defer dir.Close()
	if err := l.watch(p.path, ino); isGone(err) {
		l.forget(p.path)
		return nil
	} else if err != nil {
		l.degrade(p.path, err)
		return nil
	}
	l.setPolled(p.path, false)
	l.list(dir, p)
	return nil
}

// isGone: no directory has this path any more.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// openDir opens a directory below the root, crossing no link and no mount. No
// descriptor is kept open, so that the file system can be unmounted.
func (l *loop) openDir(path string) (*os.File, uint64, error) {
	if err := l.checkRoot(); err != nil {
		return nil, 0, err
	}
	root, err := unix.Open(l.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, errors.Join(ErrRootGone, err)
	}
	defer unix.Close(root)
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat2(root, path, &how)
	for errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		fd, err = unix.Openat2(root, path, &how)
	}
	if err != nil {
		return nil, 0, err
	}
	dir := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		dir.Close()
		return nil, 0, err
	}
	if st.Dev != l.id.dev { // a btrfs subvolume
		dir.Close()
		return nil, 0, unix.EXDEV
	}
	return dir, st.Ino, nil
}

// watch adds a watch under this path. A watch the directory has under another path
// (it was moved here, and the event that tells so is still under way), or the path
// has for another directory, is taken away first.
func (l *loop) watch(path string, ino uint64) error {
	if old, ok := l.watches.where(ino); ok && old != path {
		l.unwatch(old)
	}
	if was := l.watches.inode(path); was != 0 && was != ino {
		l.unwatch(path)
	}
	if err := l.addWatch(l.w, l.abs(path)); err != nil {
		return err
	}
	l.watches.set(path, ino)
	return nil
}

// unwatch removes the watches of path and everything below it, if there are any. Of
// directories removed meanwhile fsnotify knows none any more.
func (l *loop) unwatch(path string) {
	l.watches.drop(path, func(p string) { _ = l.w.Remove(l.abs(p)) })
}

// forget is unwatch of what is no longer there.
func (l *loop) forget(path string) {
	l.unwatch(path)
	l.setPolled(path, false)
}

// list puts directories on the work list and, in a fresh place, reports every name.
func (l *loop) list(dir *os.File, p place) {
	if p.fresh {
		l.dirty(p.path, false)
	}
	for n := 0; ; {
		entries, err := dir.ReadDir(listBatch)
		for _, e := range entries {
			path := join(p.path, e.Name())
			if e.IsDir() {
				l.later(place{path, p.fresh})
			}
			if n++; p.fresh && n <= manyNames {
				l.dirty(path, false)
			}
		}
		if p.fresh && n > manyNames {
			l.dirty(p.path, true)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			l.degrade(p.path, err)
			return
		}
	}
}

// degrade polls a directory, and all below it, that cannot be watched.
func (l *loop) degrade(path string, err error) {
	l.setPolled(path, true)
	if l.warned {
		l.log.Debug("directory cannot be watched, polling it", "path", l.abs(path), "err", err)
		return
	}
	l.warned = true
	hint := "make it readable for this user"
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
		hint = "raise fs.inotify.max_user_watches"
	}
	l.log.Warn("directory cannot be watched, polling it; further ones are not logged", "path", l.abs(path),
		"err", err, "hint", hint, "every", l.cfg.PollEvery)
}

// setPolled keeps the list of polled directories. When it is full, the root joins it
// and stands for those that do not fit, until the watches are renewed.
func (l *loop) setPolled(path string, polled bool) {
	switch {
	case !polled:
		delete(l.polled, path)
	case len(l.polled) < maxPolled:
		l.polled[path] = true
	default:
		l.polled[""] = true
	}
	l.unwatched.Store(uint64(len(l.polled)))
}

// poll reports everything below the polled directories and tries to watch them again.
func (l *loop) poll() {
	for path := range l.polled {
		l.dirty(path, true)
		if path != "" || l.watches.inode("") == 0 {
			l.later(place{path, true})
		}
	}
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
