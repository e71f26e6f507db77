package stacked

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// Lookup answers names that are not there too, so that the kernel remembers it.
func (f *fileSystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	p, pfd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(p)
	err = f.lookup(in.Unique, p, pfd, name, out)
	if errors.Is(err, unix.ENOENT) {
		*out = fuse.EntryOut{}
		out.SetEntryTimeout(f.timeout)
		return fuse.OK
	}
	return status(err)
}

// lookup asks twice by name, which is cheaper than opening: the kernel holds the
// directory meanwhile, so that the name stays with its object.
func (f *fileSystem) lookup(unique uint64, p *node, pfd int, name string, out *fuse.EntryOut) error {
	obj, h, st, err := fsx.Identify(pfd, name)
	if err != nil {
		return err
	}
	if st.Dev != f.low.dev && isDir(st.Mode) {
		return unix.EXDEV
	}
	n, err := f.refer(unique, obj, h, &st, p, pfd, name)
	if err != nil {
		return err
	}
	f.entry(n, &st, out)
	return nil
}

// refer is nodes.refer which, where handles are not to be had, also opens the object.
// One without a name is left to the caller.
func (f *fileSystem) refer(unique uint64, obj fileop.ObjID, h fsx.Handle, st *unix.Stat_t, p *node, pfd int, name string) (*node, error) {
	if len(h.Bytes) > 0 || name == "" {
		n, grant := f.nodes.refer(unique, obj, h, st.Mode, p, name)
		f.open.grant(unique, grant)
		return n, nil
	}
	fd, err := f.fds.retry(func() (int, error) {
		return unix.Openat(pfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	n, grant := f.nodes.refer(unique, obj, h, st.Mode, p, name)
	f.open.grant(unique, grant)
	f.fds.give(n, fd)
	f.fds.release(n)
	return n, nil
}

// Forget takes back references of the kernel.
func (f *fileSystem) Forget(id, count uint64) {
	if n := f.nodes.forget(id, count); n != nil {
		f.fds.forget(n)
		f.disown(n)
	}
}

// GetAttr prefers the descriptor of an open file.
func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st unix.Stat_t
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		if o := f.files.get(in.Fh()); o != nil {
			f.requests.Add(1)
			err := unix.Fstat(o.fd, &st)
			f.attrOut(&st, out)
			return status(err)
		}
	}
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	if err := unix.Fstat(fd, &st); err != nil {
		return status(err)
	}
	f.attrOut(&st, out)
	return fuse.OK
}

// Statx adds the time of birth.
func (f *fileSystem) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	var sx unix.Statx_t
	mask := int(in.SxMask) | unix.STATX_BASIC_STATS
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, mask, &sx); err != nil {
		return status(err)
	}
	out.SetTimeout(f.timeout)
	out.Statx.FromStatx(&sx)
	return fuse.OK
}

// StatFs is that of the file system below.
func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	f.requests.Add(1)
	var st unix.Statfs_t
	if err := unix.Fstatfs(f.low.root, &st); err != nil {
		return status(err)
	}
	*out = fuse.StatfsOut{Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files,
		Ffree: st.Ffree, Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: uint32(st.Namelen)}
	return fuse.OK
}

// Readlink reads a symbolic link.
func (f *fileSystem) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return nil, status(err)
	}
	defer f.fds.release(n)
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return nil, status(err)
	}
	return buf[:size], fuse.OK
}
