package stacked

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// maxRetries bounds how often a name may be found to have changed hands before its
// locks were taken. The kernel above holds the directory, so only changes behind our
// back do that.
const maxRetries = 8

// victim is the object a name operation takes the name from.
type victim struct {
	obj  fileop.ObjID
	mode uint32
	n    *node // nil: the kernel does not know it
	fd   int   // of n
	st   unix.Stat_t
}

// lockVictim looks name up, locks dirs and the object, and looks again. With missing
// ok, a name that is not there gives a zero victim.
func (f *fileSystem) lockVictim(pfd int, name string, missing bool, dirs ...fileop.ObjID) (victim, *lockSet, error) {
	for range maxRetries {
		v, err := identify(pfd, name, missing)
		if err != nil {
			return v, nil, err
		}
		all, files := append([]fileop.ObjID(nil), dirs...), []fileop.ObjID(nil)
		if isDir(v.mode) {
			all = append(all, v.obj)
		} else {
			files = append(files, namesOf(v.obj))
		}
		s := f.locks.lockAll(all, files)
		again, err := identify(pfd, name, missing)
		if err == nil && again.obj == v.obj {
			return again, s, nil
		}
		s.unlock()
		if err != nil {
			return v, nil, err
		}
	}
	return victim{}, nil, unix.EAGAIN
}

func identify(pfd int, name string, missing bool) (victim, error) {
	obj, _, st, err := fsx.Identify(pfd, name)
	if missing && errors.Is(err, unix.ENOENT) {
		return victim{}, nil
	}
	return victim{obj: obj, mode: st.Mode, st: st}, err
}

// keepAlive makes sure an object that loses its last name can still be reached if the
// kernel knows it, by a process after this one too. last: it loses its last name. The
// caller calls done after the change.
func (f *fileSystem) keepAlive(v *victim, last bool) error {
	if v.obj.IsZero() {
		return nil
	}
	if v.n = f.nodes.find(v.obj); v.n == nil {
		return nil
	}
	fd, err := f.fds.hold(v.n)
	if err != nil {
		v.n = nil
		return err
	}
	v.fd = fd
	if last {
		f.orphaned(v.n, fd)
	}
	return nil
}

// done ends keepAlive; last says whether the object has no name left.
func (f *fileSystem) done(v *victim, last bool) {
	if v.n == nil {
		return
	}
	if last {
		f.fds.pin(v.n)
	} else {
		f.disown(v.n)
	}
	f.fds.release(v.n)
}

// Unlink removes a name of anything but a directory.
func (f *fileSystem) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return status(f.remove(in, name, 0, fileop.Unlink))
}

// Rmdir removes an empty directory.
func (f *fileSystem) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return status(f.remove(in, name, unix.AT_REMOVEDIR, fileop.Rmdir))
}

func (f *fileSystem) remove(in *fuse.InHeader, name string, flags int, kind fileop.Kind) error {
	if f.open.settled(in.Unique) != nil {
		return nil
	}
	p, pfd, err := f.hold(in.NodeId)
	if err != nil {
		return err
	}
	defer f.fds.release(p)
	v, s, err := f.lockVictim(pfd, name, false, p.obj)
	if err != nil {
		return err
	}
	defer s.unlock()
	last := isDir(v.mode) || v.st.Nlink == 1
	if err := f.keepAlive(&v, last); err != nil {
		return err
	}
	it := f.open.intend(in.Unique, name, "", intentFields{kind: kind, parent: p, obj: v.obj, last: last})
	_, err = noEINTR(func() (int, error) { return 0, unix.Unlinkat(pfd, name, flags) })
	failPoint("after call")
	f.done(&v, last && err == nil)
	if err != nil {
		f.open.withdraw(it)
		return err
	}
	f.nodes.unlinked(v.n, p, name)
	if f.sinks.tapped() {
		op := fileop.Op{Kind: kind, Obj: v.obj, Parent: p.obj, Name: name, Last: last,
			PMtime: mtime(pfd), Path: f.nodes.pathIn(p, name)}
		f.emitFor(it, &op)
	}
	it.told()
	return nil
}

// Link gives an object a further name; an O_TMPFILE object its first.
func (f *fileSystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return f.Lookup(nil, &in.InHeader, name, out)
	}
	p, pfd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(p)
	n, fd, err := f.hold(in.Oldnodeid)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	return status(f.link(in.Unique, p, pfd, n, fd, name, out))
}

func (f *fileSystem) link(unique uint64, p *node, pfd int, n *node, fd int, name string, out *fuse.EntryOut) error {
	s := f.locks.lockAll([]fileop.ObjID{p.obj}, []fileop.ObjID{namesOf(n.obj)})
	defer s.unlock()
	it := f.open.intend(unique, name, "", intentFields{kind: fileop.Link, parent: p, node: n, obj: n.obj})
	if err := unix.Linkat(fd, "", pfd, name, unix.AT_EMPTY_PATH); err != nil {
		f.open.withdraw(it)
		return err
	}
	failPoint("after call")
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Unlinkat(pfd, name, 0)
		f.open.withdraw(it)
		return err
	}
	_, grant := f.nodes.refer(unique, n.obj, n.handle, st.Mode, p, name)
	f.open.grant(unique, grant)
	f.fds.unpin(n)
	f.disown(n)
	f.entry(n, &st, out)
	if f.sinks.tapped() {
		op := fileop.Op{Kind: fileop.Link, Obj: n.obj, Parent: p.obj, Name: name, Nlink: uint32(st.Nlink),
			PMtime: mtime(pfd), Path: f.nodes.pathIn(p, name)}
		f.emitFor(it, &op)
	}
	it.told()
	return nil
}
