package applier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

var zeroID fileop.ObjID

func (a *Applier) opRename(t *tree, op *fileop.Op) error {
	if op.Parent.IsZero() || op.Parent2.IsZero() {
		return fmt.Errorf("%w: rename without a directory", ErrProtocol)
	}
	from, to := place{op.Parent, op.Name}, place{op.Parent2, op.Name2}
	var err error
	if op.Flags&fileop.RenameExchange != 0 {
		err = a.exchange(t, op, from, to)
	} else {
		err = a.renameTo(t, op, from, to)
	}
	if err == nil || errors.Is(err, errUnknown) {
		a.setDirMtime(t, op.Parent, op.PMtime)
		a.setDirMtime(t, op.Parent2, op.PMtime2)
	}
	return err
}

func (a *Applier) renameTo(t *tree, op *fileop.Op, from, to place) error {
	o := a.cat.get(key{t.Tree, op.Obj})
	switch {
	case o == nil:
		if err := a.vacate(t, from, nil); err != nil {
			return err
		}
		return a.unknownTakes(t, to, op.PMtime2)
	case o.has(to):
		return nil // two names of one file: rename(2) does nothing; or done already
	case len(o.names) == 0:
		return fmt.Errorf("%w: a root renamed", ErrProtocol)
	}
	if !o.has(from) {
		from = o.names[0]
	}
	if _, err := a.dirFD(t, to.parent); errors.Is(err, errUnknown) {
		// It left the known part of the tree; the mirror brings it back with its new directory.
		return errors.Join(a.removeName(t, o, from, true), errUnknown)
	}
	if err := a.moveTo(t, o, from, to); err != nil {
		return err
	}
	if old := a.cat.get(key{t.Tree, op.Obj2}); op.Last && old != nil && old != o && old.id != t.Source {
		return a.removeObject(t, old)
	}
	return nil
}

// moveTo renames o from one of its places to another, replacing what is there.
func (a *Applier) moveTo(t *tree, o *object, from, to place) error {
	ffd, err := a.dirFD(t, from.parent)
	if err != nil {
		return err
	}
	tfd, err := a.dirFD(t, to.parent)
	if err != nil {
		return err
	}
	if err := a.checkAt(ffd, from.name, o); err != nil {
		return err
	}
	if err := a.intend(t, 0, [2]fileop.ObjID{o.id}, from, to); err != nil {
		return err
	}
	if !o.isDir() {
		if err := a.clearTwin(o, tfd, to.name); err != nil {
			return err
		}
	}
	var old *object
	if id := a.cat.child(t.Tree, to); !id.IsZero() && id != o.id {
		old = a.cat.get(key{t.Tree, id})
	}
	if err := a.replace(t, old, to, func() error { return a.at.Rename(ffd, from.name, tfd, to.name, 0) }); err != nil {
		return err
	}
	if old != nil && old.has(to) {
		a.cat.unbind(old, to)
		if len(old.names) == 0 {
			a.forgetTree(old)
		}
	}
	a.cat.unbind(o, from)
	a.cat.bind(o, to)
	return nil
}

// clearTwin removes a further, unknown name of o where o is to be moved: rename(2) does
// nothing if both names are of one file. Names that operations lost in a power cut had
// made are such.
func (a *Applier) clearTwin(o *object, dirfd int, name string) error {
	st, err := a.at.Stat(dirfd, name)
	if err != nil || st.Ino != o.ident.Ino || st.Mode&typeBits == unix.S_IFDIR {
		return ignoreGone(err)
	}
	return ignoreGone(a.at.Unlink(dirfd, name))
}

// replace runs rename, which replaces what is at the place to. If the kernel refuses
// to, or the content there must be kept for a restart, the place is cleared first.
func (a *Applier) replace(t *tree, old *object, to place, rename func() error) error {
	if old != nil && !a.unread(old) {
		if err := a.removeName(t, old, to, true); err != nil {
			return err
		}
	}
	err := rename()
	switch {
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR):
	default:
		return err
	}
	if old != nil && old.has(to) {
		err = a.removeName(t, old, to, true)
	} else {
		tfd, derr := a.dirFD(t, to.parent)
		if derr != nil {
			return derr
		}
		err = a.clearPlace(t, tfd, to.name)
	}
	if err != nil {
		return err
	}
	return rename()
}

// exchange swaps two objects. If only one of them is known, it moves.
func (a *Applier) exchange(t *tree, op *fileop.Op, p1, p2 place) error {
	o1, o2 := a.cat.get(key{t.Tree, op.Obj}), a.cat.get(key{t.Tree, op.Obj2})
	if o1 != nil && (len(o1.names) == 0 || o2 == o1) || o2 != nil && len(o2.names) == 0 {
		return fmt.Errorf("%w: exchange of a root or of an object with itself", ErrProtocol)
	}
	fd1, err1 := a.dirFD(t, p1.parent)
	fd2, err2 := a.dirFD(t, p2.parent)
	if err := errors.Join(notUnknown(err1), notUnknown(err2)); err != nil {
		return err
	}
	if o1 != nil && o2 != nil && err1 == nil && err2 == nil && o1.has(p1) && o2.has(p2) {
		if err := errors.Join(a.checkAt(fd1, p1.name, o1), a.checkAt(fd2, p2.name, o2)); err != nil {
			return err
		}
		if err := a.intend(t, 0, [2]fileop.ObjID{o1.id, o2.id}, p1, p2); err != nil {
			return err
		}
		if err := a.keepTimes(t, o1, o2); err != nil {
			return err
		}
		if err := a.swap(t, fd1, p1.name, fd2, p2.name); err != nil {
			return err
		}
		a.cat.unbind(o1, p1)
		a.cat.unbind(o2, p2)
		a.cat.bind(o1, p2)
		a.cat.bind(o2, p1)
		return nil
	}
	// Not both are known and where they should be. One goes out of the way first, or the
	// other would be replaced instead of moved.
	if o1 != nil && o2 != nil {
		aside := place{name: namelessName("p-", o1.id)}
		if err := a.crossOver(t, o1, p1, aside, nil); notUnknown(err) != nil {
			return err
		}
		if err := a.crossOver(t, o2, p2, p1, err1); notUnknown(err) != nil {
			return err
		}
		return errors.Join(a.crossOver(t, o1, aside, p2, err2), errUnknown)
	}
	return errors.Join(a.crossOver(t, o1, p1, p2, err2), a.crossOver(t, o2, p2, p1, err1), errUnknown)
}

// keepTimes notes the times of directories that are exchanged: xfs changes them when
// their parent does (xfs_cross_rename), other file systems do not. What the source's
// does, an operation of its own says.
func (a *Applier) keepTimes(t *tree, objs ...*object) error {
	for _, o := range objs {
		if o.isDir() {
			if err := a.keepMtime(t, o.id); err != nil {
				return err
			}
		}
	}
	return nil
}

func notUnknown(err error) error {
	if errors.Is(err, errUnknown) {
		return nil
	}
	return err
}

// crossOver moves one side of an exchange; one without a place was lost on the way.
func (a *Applier) crossOver(t *tree, o *object, from, to place, toErr error) error {
	if o == nil || len(o.names) == 0 || o.has(to) {
		return nil
	}
	if !o.has(from) {
		from = o.names[0]
	}
	if toErr != nil {
		return a.removeName(t, o, from, true)
	}
	return a.moveTo(t, o, from, to)
}

// swap is RENAME_EXCHANGE, or three renames where the file system has none.
func (a *Applier) swap(t *tree, fd1 int, name1 string, fd2 int, name2 string) error {
	err := a.at.Rename(fd1, name1, fd2, name2, unix.RENAME_EXCHANGE)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	sfd, err := a.dirFD(t, zeroID)
	if err != nil {
		return err
	}
	tmp, err := a.freeStageName(sfd, "r-", name1)
	if err != nil {
		return err
	}
	if err := a.at.Rename(fd1, name1, sfd, tmp, 0); err != nil {
		return err
	}
	if err := a.at.Rename(fd2, name2, fd1, name1, 0); err != nil {
		return errors.Join(err, a.at.Rename(sfd, tmp, fd1, name1, 0))
	}
	return a.at.Rename(sfd, tmp, fd2, name2, 0)
}
