package stacked

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// making is one new object, between its creation and the answer.
type making struct {
	p    *node // directory
	pfd  int
	name string // empty: an O_TMPFILE object
	fd   int    // the object: open, or O_PATH
	mode uint32 // permission bits asked for, without the umask
	mask uint32 // umask of the caller
	acl  bool   // the directory has a default ACL, which takes the umask's place
	it   *intent
}

// create opens a directory for a new object, makes it under its lock, and answers.
// do returns a descriptor of what it made; for calls that give none, -1, it is opened.
func (f *fileSystem) create(in *fuse.InHeader, m *making, kind fileop.Kind, target string, out *fuse.EntryOut,
	do func() (int, error)) (n *node, err error) {
	p, pfd, err := f.hold(in.NodeId)
	if err != nil {
		return nil, err
	}
	defer f.fds.release(p)
	m.p, m.pfd = p, pfd
	l := f.locks.lock(p.obj)
	defer f.locks.unlock(l)

	if m.acl = f.inheritsACL(p, pfd); !m.acl {
		m.mode &^= m.mask
	}
	m.it = f.open.intend(in.Unique, m.name, "", intentFields{kind: kind, parent: p, mode: m.mode, acl: m.acl})
	if m.fd, err = f.caps.as(in.Owner, do); err == nil {
		failPoint("after call")
		if n, err = f.made(in.Unique, m, kind, target, out); err != nil {
			f.undo(m, kind)
		}
	}
	if err != nil {
		f.open.withdraw(m.it)
	}
	return n, err
}

// made describes the new object to the kernel and to the sinks.
func (f *fileSystem) made(unique uint64, m *making, kind fileop.Kind, target string, out *fuse.EntryOut) (*node, error) {
	if m.fd < 0 {
		fd, err := f.fds.retry(func() (int, error) {
			return unix.Openat(m.pfd, m.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return nil, err
		}
		m.fd = fd
	}
	obj, h, st, err := fsx.Identify(m.fd, "")
	if err != nil {
		return nil, err
	}
	if err := m.fixMode(kind, &st); err != nil {
		return nil, err
	}
	op := fileop.Op{Kind: kind, Obj: obj, Parent: m.p.obj, Name: m.name}
	tapped := f.sinks.tapped()
	if tapped {
		if err := f.describe(&op, m, target, &st); err != nil {
			return nil, err
		}
	}
	n, err := f.refer(unique, obj, h, &st, m.p, m.pfd, m.name)
	if err != nil {
		return nil, err
	}
	f.entry(n, &st, out)
	if m.name == "" && m.it != nil {
		f.handOver(n, m.fd)
		m.it.obj = obj // from here on it can be found again
	}
	if tapped {
		f.emitFor(m.it, &op)
	}
	m.it.told()
	return n, nil
}

// describe completes the operation of a new object.
func (f *fileSystem) describe(op *fileop.Op, m *making, target string, st *unix.Stat_t) (err error) {
	attr := fsx.AttrOf(st)
	op.Attr = &attr
	op.Path = f.nodes.pathIn(m.p, m.name)
	if m.name != "" {
		op.PMtime = mtime(m.pfd)
	}
	if op.Kind == fileop.Symlink {
		op.Data = []byte(target)
		return nil
	}
	op.Xattrs, err = fsx.Xattrs(m.fd)
	return err
}

// fixMode undoes the umask of this process, which the kernel may have applied; there
// is one for all threads, and changing it would change the files of everybody else.
func (m *making) fixMode(kind fileop.Kind, st *unix.Stat_t) error {
	if kind == fileop.Symlink || m.acl || st.Mode&0o777 == m.mode&0o777 {
		return nil
	}
	mode := st.Mode&0o7000 | m.mode&0o7777
	if err := unix.Chmod(fsx.ProcPath(m.fd), mode); err != nil {
		return err
	}
	return unix.Fstat(m.fd, st)
}

// undo removes an object that was made and could not be described: answering with an
// error while it stays would be a change nobody logged.
func (f *fileSystem) undo(m *making, kind fileop.Kind) {
	if m.fd >= 0 {
		unix.Close(m.fd)
	}
	flags := 0
	if kind == fileop.Mkdir {
		flags = unix.AT_REMOVEDIR
	}
	if m.name != "" {
		if err := unix.Unlinkat(m.pfd, m.name, flags); err != nil {
			f.log.Error("new object neither logged nor removed", "name", m.name, "err", err)
		}
	}
}

// inheritsACL reports whether new objects in p get its default ACL. Under p's lock.
func (f *fileSystem) inheritsACL(p *node, pfd int) bool {
	if p.acl == aclUnknown {
		p.acl = aclNone
		if n, err := unix.Getxattr(fsx.ProcPath(pfd), aclDefaultName, nil); err == nil && n > 0 {
			p.acl = aclDefault
		}
	}
	return p.acl == aclDefault
}

// keep gives the O_PATH descriptor of a new object to its node.
func (f *fileSystem) keep(n *node, fd int) {
	f.fds.give(n, fd)
	f.fds.release(n)
}

// Mkdir makes a directory.
func (f *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return f.Lookup(nil, &in.InHeader, name, out)
	}
	m := &making{name: name, mode: in.Mode & 0o7777, mask: in.Umask}
	n, err := f.create(&in.InHeader, m, fileop.Mkdir, "", out, func() (int, error) {
		return -1, unix.Mkdirat(m.pfd, name, m.mode)
	})
	if err != nil {
		return status(err)
	}
	f.keep(n, m.fd)
	return fuse.OK
}

// Mknod makes fifos, sockets, devices, and regular files too.
func (f *fileSystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return f.Lookup(nil, &in.InHeader, name, out)
	}
	kind := fileop.Mknod
	if typ := in.Mode & unix.S_IFMT; typ == unix.S_IFREG || typ == 0 {
		kind = fileop.Create
	}
	m := &making{name: name, mode: in.Mode & 0o7777, mask: in.Umask}
	n, err := f.create(&in.InHeader, m, kind, "", out, func() (int, error) {
		return -1, unix.Mknodat(m.pfd, name, in.Mode&unix.S_IFMT|m.mode, int(in.Rdev))
	})
	if err != nil {
		return status(err)
	}
	f.keep(n, m.fd)
	return fuse.OK
}

// Symlink makes a symbolic link.
func (f *fileSystem) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return f.Lookup(nil, in, name, out)
	}
	m := &making{name: name}
	n, err := f.create(in, m, fileop.Symlink, target, out, func() (int, error) {
		return -1, unix.Symlinkat(target, m.pfd, name)
	})
	if err != nil {
		return status(err)
	}
	f.keep(n, m.fd)
	return fuse.OK
}

// Create makes a regular file and opens it. A name that is there after all, made
// behind the kernel's back, is opened instead unless the caller said O_EXCL.
func (f *fileSystem) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return f.openExisting(cancel, in, name, out)
	}
	m := &making{name: name, mode: in.Mode & 0o7777, mask: in.Umask}
	n, err := f.create(&in.InHeader, m, fileop.Create, "", &out.EntryOut, func() (int, error) {
		flags := openFlags(in.Flags) | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW
		return f.fds.retry(func() (int, error) { return unix.Openat(m.pfd, name, flags, m.mode) })
	})
	if errors.Is(err, unix.EEXIST) && in.Flags&unix.O_EXCL == 0 {
		return f.openExisting(cancel, in, name, out)
	}
	if err != nil {
		return status(err)
	}
	f.opened(in.Unique, in.Flags, n, m.fd, m.fd, &out.OpenOut)
	return fuse.OK
}

func (f *fileSystem) openExisting(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if st := f.Lookup(cancel, &in.InHeader, name, &out.EntryOut); !st.Ok() {
		return st
	}
	if out.NodeId == 0 {
		return fuse.ENOENT // gone again; the kernel's caller may try once more
	}
	open := fuse.OpenIn{InHeader: in.InHeader, Flags: in.Flags, Mode: in.OpenFlags}
	open.NodeId = out.NodeId
	st := f.Open(cancel, &open, &out.OpenOut)
	if !st.Ok() {
		f.Forget(out.NodeId, 1)
	}
	return st
}

// Tmpfile makes a file without a name. Its descriptor is kept until the kernel forgets
// it: there may be no other way to give it a name.
func (f *fileSystem) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if it := f.open.settled(in.Unique); it != nil {
		return f.tmpfileAgain(it, in, out)
	}
	m := &making{mode: in.Mode & 0o7777, mask: in.Umask}
	n, err := f.create(&in.InHeader, m, fileop.Create, "", &out.EntryOut, func() (int, error) {
		flags := openFlags(in.Flags) | unix.O_TMPFILE | int(in.Flags)&unix.O_EXCL
		return f.fds.retry(func() (int, error) { return unix.Openat(m.pfd, ".", flags, m.mode) })
	})
	if err != nil {
		return status(err)
	}
	fd, err := f.fds.retry(func() (int, error) { return unix.FcntlInt(uintptr(m.fd), unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		f.Forget(n.id, 1)
		unix.Close(m.fd) // the object goes with it; the target ignores one never named
		return status(err)
	}
	f.fds.give(n, fd)
	f.fds.pin(n)
	f.fds.release(n)
	f.opened(in.Unique, in.Flags, n, m.fd, m.fd, &out.OpenOut)
	return fuse.OK
}

// opened enters file, an open file of n; fd is any descriptor of n.
func (f *fileSystem) opened(unique uint64, flags uint32, n *node, fd, file int, out *fuse.OpenOut) {
	o := &openFile{n: n, fd: file}
	out.Fh = f.files.add(o)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	o.at = f.tab.opened(slotFile, out.Fh, unique, n, flags)
	f.held(n, fd)
}

// tmpfileAgain answers for a file without a name that was made before.
func (f *fileSystem) tmpfileAgain(it *intent, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	n := f.nodes.find(it.obj)
	if n == nil {
		return fuse.EIO
	}
	fd, err := f.fds.hold(n)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return status(err)
	}
	file, err := f.fds.reopen(fd, openFlags(in.Flags))
	if err != nil {
		return status(err)
	}
	p := f.nodes.get(in.NodeId)
	_, grant := f.nodes.refer(in.Unique, n.obj, n.handle, st.Mode, p, "")
	f.open.grant(in.Unique, grant)
	f.entry(n, &st, &out.EntryOut)
	f.opened(in.Unique, in.Flags, n, fd, file, &out.OpenOut)
	return fuse.OK
}
