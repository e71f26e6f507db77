package lower

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// entry looks at one name below dirFD. dir is the directory's path, needed for path
// Refs only.
func (t *Tree) entry(dirFD int, dir, name string) (fileop.Entry, error) {
	fd, err := t.openName(dirFD, name)
	if errors.Is(err, unix.EXDEV) {
		return t.mountEntry(dirFD, name)
	}
	if err != nil {
		return fileop.Entry{}, goneIf(err)
	}
	defer unix.Close(fd)
	e, err := t.describe(fd, dir, name)
	if errors.Is(err, ErrOtherFS) {
		return t.mountEntry(dirFD, name)
	}
	return e, err
}

// openName opens one name with O_PATH; EXDEV if something is mounted there.
func (t *Tree) openName(dirFD int, name string) (int, error) {
	if err := fileop.CheckName(name); err != nil {
		return -1, err
	}
	return openBeneath(dirFD, name, unix.O_PATH)
}

// describe makes the entry of an open object, for which O_PATH is enough.
func (t *Tree) describe(fd int, dir, name string) (fileop.Entry, error) {
	e, err := t.stat(fd, dir, name)
	if err != nil {
		return e, err
	}
	err = t.complete(fd, &e)
	return e, err
}

// complete adds what stat left out.
func (t *Tree) complete(fd int, e *fileop.Entry) (err error) {
	if e.Attr.Mode&unix.S_IFMT == unix.S_IFLNK {
		e.Target, err = readlink(fd, e.Size)
	}
	if err == nil {
		e.Xattrs, err = fsx.Xattrs(fd)
	}
	return goneIf(err)
}

// stat is describe without link target and extended attributes: two system calls. A
// directory of another device that is no mount (a btrfs subvolume) is ErrOtherFS.
// Only directories are asked: overlayfs gives its files the device of their layer.
func (t *Tree) stat(fd int, dir, name string) (fileop.Entry, error) {
	id, h, st, err := fsx.Identify(fd, "")
	if err != nil {
		return fileop.Entry{}, goneIf(err)
	}
	if st.Dev != t.dev && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fileop.Entry{}, fmt.Errorf("%q: %w", name, ErrOtherFS)
	}
	e := fileop.Entry{Name: name, Obj: id, Attr: fsx.AttrOf(&st), Size: st.Size, Nlink: uint32(st.Nlink), Ctime: fsx.TimeOf(st.Ctim)}
	switch {
	case t.handles && len(h.Bytes) > 0:
		e.Ref = handleRef(h)
	case t.handles: // an object without a handle on a file system that has them
		path, err := t.pathOf(fd)
		if err != nil {
			return e, err
		}
		e.Ref = pathRef(path)
	default:
		e.Ref = pathRef(join(dir, name))
	}
	return e, nil
}

// mountEntry stands in for a directory something is mounted on. The identity of what
// is mounted there could be that of an object of ours (two file systems' roots are
// often both inode 2), so one is made from the place.
func (t *Tree) mountEntry(dirFD int, name string) (fileop.Entry, error) {
	var sx unix.Statx_t // DONT_SYNC: the mirror must not wait for somebody's network server
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(dirFD, name, flags, unix.STATX_BASIC_STATS, &sx); err != nil {
		return fileop.Entry{}, goneIf(err)
	}
	place, err := t.pathOf(dirFD)
	if err != nil {
		return fileop.Entry{}, err
	}
	place = join(place, name)
	t.noteMount(place)
	if sx.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fileop.Entry{}, fmt.Errorf("%q: %w: %w", name, ErrOtherFS, fs.ErrNotExist)
	}
	parent, _, _, err := fsx.Identify(dirFD, "")
	if err != nil {
		return fileop.Entry{}, goneIf(err)
	}
	sum := fnv.New64a()
	fmt.Fprintf(sum, "mount %s %s", parent, name)
	id := fileop.ObjID{Ino: 1<<63 | sum.Sum64(), Gen: parent.Gen}
	attr := fileop.Attr{Mode: uint32(sx.Mode), UID: sx.Uid, GID: sx.Gid,
		Mtime: fileop.Time{Sec: sx.Mtime.Sec, Nsec: sx.Mtime.Nsec}}
	return fileop.Entry{Name: name, Obj: id, Attr: attr, Nlink: 2, Ref: mountRef(place)}, nil
}

// readlink reads the link an O_PATH descriptor holds; size is a guess.
func readlink(fd int, size int64) (string, error) {
	for n := int(size) + 1; ; n *= 2 {
		b := make([]byte, max(n, 64))
		got, err := unix.Readlinkat(fd, "", b)
		if err != nil {
			return "", goneIf(err)
		}
		if got < len(b) || len(b) > 2*unix.PathMax {
			return string(b[:got]), nil
		}
	}
}

// xattrs reads those of a descriptor open for reading; mostly there are none, which
// costs one system call and no look into /proc.
func xattrs(fd int) ([]fileop.Xattr, error) {
	n, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || (err == nil && n == 0) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return fsx.Xattrs(fd)
}
