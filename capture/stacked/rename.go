package stacked

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// Rename moves a name, exchanges two, or leaves a whiteout.
func (f *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return fuse.OK
	}
	from, fromFD, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(from)
	to, toFD, err := f.hold(in.Newdir)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(to)
	r := renaming{f: f, unique: in.Unique, flags: in.Flags, owner: in.Owner,
		from: alias{parent: from, name: oldName}, fromFD: fromFD, to: alias{parent: to, name: newName}, toFD: toFD}
	err = r.run()
	if err == nil && in.Flags&unix.RENAME_EXCHANGE != 0 && from != to {
		r.retimed(r.moved, r.before.Mode)
		r.retimed(r.over.obj, r.over.st.Mode)
	}
	return status(err)
}

// retimed logs the state of an exchanged directory. Its own time changes on xfs where the
// parent is another one, here or on the target, and a target that lost its power in
// between knows the time only from this. No lock is held.
func (r *renaming) retimed(id fileop.ObjID, mode uint32) {
	n := r.f.nodes.find(id)
	if n == nil || !isDir(mode) {
		return
	}
	fd, err := r.f.fds.hold(n)
	if err != nil {
		return
	}
	defer r.f.fds.release(n)
	_ = r.f.change(n, fd, func(c *changes) error { c.attrChanged = true; return nil })
}

type renaming struct {
	f        *fileSystem
	unique   uint64
	flags    uint32
	owner    fuse.Owner
	from, to alias
	fromFD   int
	toFD     int

	moved  fileop.ObjID
	before unix.Stat_t // of what was moved
	over   victim      // what had the new name
	it     *intent
}

func (r *renaming) run() error {
	f := r.f
	over, s, err := f.lockVictim(r.toFD, r.to.name, true, r.from.parent.obj, r.to.parent.obj)
	if err != nil {
		return err
	}
	defer s.unlock()
	r.over = over
	src, err := identify(r.fromFD, r.from.name, false)
	if err != nil {
		return err
	}
	r.moved, r.before = src.obj, src.st
	exchange := r.flags&unix.RENAME_EXCHANGE != 0
	last := !exchange && !r.over.obj.IsZero() && (isDir(r.over.mode) || r.over.st.Nlink == 1)
	if err := f.keepAlive(&r.over, last && r.over.obj != r.moved); err != nil {
		return err
	}
	whiteout := r.flags&unix.RENAME_WHITEOUT != 0
	owner := fuse.Owner{}
	var before fileop.Time
	if whiteout { // makes an object
		owner, before = r.owner, mtime(r.fromFD)
	}
	r.intend(last)
	_, err = f.caps.as(owner, func() (int, error) {
		return 0, unix.Renameat2(r.fromFD, r.from.name, r.toFD, r.to.name, uint(r.flags))
	})
	failPoint("after call")
	if r.over.obj == r.moved { // two names of one object: nothing happens
		last, exchange = false, false
		f.done(&r.over, false)
		return err
	}
	f.done(&r.over, last && err == nil)
	if err != nil {
		f.open.withdraw(r.it)
		if whiteout {
			r.untouch(before)
		}
		return err
	}
	f.nodes.renamed(f.nodes.find(r.moved), r.over.n, r.from, r.to, exchange)
	r.log(last, whiteout)
	r.it.told()
	return nil
}

// intend notes the rename, unless both names are of one object: then it does nothing.
func (r *renaming) intend(last bool) {
	if r.over.obj == r.moved {
		return
	}
	r.it = r.f.open.intend(r.unique, r.from.name, r.to.name, intentFields{kind: fileop.Rename, parent: r.from.parent,
		parent2: r.to.parent, obj: r.moved, over: r.over.obj, overMode: r.over.mode, flags: r.flags, last: last})
}

// log gives out what happened.
func (r *renaming) log(last, whiteout bool) {
	if r.f.sinks.tapped() {
		r.f.emitFor(r.it, r.ops(last, whiteout)...)
	}
}

// ops describes what happened, and a whiteout as the device it is.
func (r *renaming) ops(last, whiteout bool) []*fileop.Op {
	f := r.f
	path := f.nodes.pathIn(r.from.parent, r.from.name)
	mt := mtime(r.fromFD)
	op := fileop.Op{Kind: fileop.Rename, Obj: r.moved, Obj2: r.over.obj, Last: last,
		Parent: r.from.parent.obj, Name: r.from.name, Parent2: r.to.parent.obj, Name2: r.to.name,
		PMtime: mt, PMtime2: mtime(r.toFD),
		Path: path, Path2: f.nodes.pathIn(r.to.parent, r.to.name)}
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		op.Flags = fileop.RenameExchange
	}
	if !whiteout {
		return []*fileop.Op{&op}
	}
	left := fileop.Op{Kind: fileop.Mknod, Parent: r.from.parent.obj, Name: r.from.name, PMtime: mt, Path: path}
	if err := r.whiteout(&left); err != nil {
		f.log.Error("whiteout not logged", "name", r.from.name, "err", err)
		return []*fileop.Op{&op}
	}
	return []*fileop.Op{&op, &left}
}

// untouch puts back the time of the old name's directory after a rename with a
// whiteout that failed: ext4 makes the whiteout first and takes it back, which changes
// the time although nothing happened, and nobody is told.
func (r *renaming) untouch(before fileop.Time) {
	if before == (fileop.Time{}) || mtime(r.fromFD) == before {
		return
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, fsx.Timespec(before)}
	if err := unix.UtimesNanoAt(r.fromFD, "", ts, unix.AT_EMPTY_PATH); err != nil {
		r.f.log.Warn("time of a directory not put back after a failed rename", "err", err)
	}
}

// whiteout describes the device at the old name; it has inherited a default ACL.
func (r *renaming) whiteout(op *fileop.Op) error {
	fd, err := unix.Openat(r.fromFD, r.from.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	obj, _, st, err := fsx.Identify(fd, "")
	if err != nil {
		return err
	}
	attr := fsx.AttrOf(&st)
	op.Obj, op.Attr = obj, &attr
	op.Xattrs, err = fsx.Xattrs(fd)
	return err
}
