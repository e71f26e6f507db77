package applier

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// opNew executes Create, Mkdir, Mknod and Symlink.
func (a *Applier) opNew(t *tree, op *fileop.Op) error {
	if op.Obj.IsZero() {
		return fmt.Errorf("%w: %s without an object", ErrProtocol, op.Kind)
	}
	p := place{op.Parent, op.Name}
	if op.Kind == fileop.Create && op.Name == "" {
		p = place{name: namelessName("o-", op.Obj)}
	} else if op.Parent.IsZero() || op.Name == "" {
		return fmt.Errorf("%w: %s without a name", ErrProtocol, op.Kind)
	}
	pfd, err := a.dirFD(t, p.parent)
	if err != nil {
		return err
	}
	if err := a.displace(t, op.Obj); err != nil {
		return err
	}
	if err := a.vacate(t, p, nil); err != nil {
		return err
	}
	if _, err := a.makeObject(t, op, p, pfd, true); err != nil {
		return err
	}
	a.setDirMtime(t, p.parent, op.PMtime)
	return nil
}

// displace removes an object the catalog still knows under an identity that a new
// object has now.
func (a *Applier) displace(t *tree, id fileop.ObjID) error {
	old := a.cat.get(key{t.Tree, id})
	if old == nil {
		return nil
	}
	if id == t.Source {
		return fmt.Errorf("%w: a root created again", ErrProtocol)
	}
	return a.removeObject(t, old)
}

// makeObject creates the object of op at the free place p, with its attributes, and
// enters it into the catalog. A leftover in the way is cleared away if clear is set; else
// a directory is adopted with what is in it, and anything else is EEXIST.
func (a *Applier) makeObject(t *tree, op *fileop.Op, p place, pfd int, clear bool) (*object, error) {
	kind := op.Attr.Mode & typeBits
	fd, adopted, err := a.makeFile(t, op, p, pfd, clear)
	if err != nil {
		return nil, err
	}
	o := &object{key: key{t.Tree, op.Obj}, kind: kind}
	ident, st, err := a.at.Identify(fd, "")
	if err == nil && adopted {
		err = a.adopted(t, op.Obj, ident)
	}
	if err == nil {
		o.ident = ident
		inherits := adopted || a.ahead()
		if parent := a.cat.get(key{t.Tree, p.parent}); parent != nil && parent.defACL {
			inherits = true
		}
		if inherits || len(op.Xattrs) > 0 || attrsDiffer(&st, op.Attr) {
			err = a.setAttrs(fd, &st, op.Attr, op.Xattrs, inherits)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	o.defACL = o.isDir() && hasDefaultACL(op.Xattrs)
	switch {
	case o.isReg():
		a.files.put(o.key, fd)
	case o.isDir():
		a.dirs.put(o.key, fd)
	default:
		unix.Close(fd)
	}
	a.cat.bind(o, p)
	a.setMtime(o, op.Attr.Mtime)
	return o, nil
}

// makeFile makes what op.Attr.Mode says at p and opens it.
func (a *Applier) makeFile(t *tree, op *fileop.Op, p place, pfd int, clear bool) (fd int, adopted bool, err error) {
	for try := 0; ; try++ {
		ours := clear
		if !ours {
			if ours, err = a.free(pfd, p.name); err != nil {
				return -1, false, err
			}
		}
		if ours {
			if err := a.intend(t, 0, [2]fileop.ObjID{op.Obj}, p); err != nil {
				return -1, false, err
			}
		}
		fd, adopted, err = a.makeOnce(op, p, pfd, !clear)
		if !errors.Is(err, unix.EEXIST) || try > 0 || !clear {
			return fd, adopted, err
		}
		if err := a.clearPlace(t, pfd, p.name); err != nil {
			return -1, false, err
		}
	}
}

func (a *Applier) makeOnce(op *fileop.Op, p place, pfd int, adopt bool) (fd int, adopted bool, err error) {
	mode := op.Attr.Mode
	switch mode & typeBits {
	case unix.S_IFREG:
		fd, err = a.at.Open(pfd, p.name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode&0o777)
		return fd, false, err
	case unix.S_IFDIR:
		err = a.at.Mkdir(pfd, p.name, mode&0o1777)
		if errors.Is(err, unix.EEXIST) && adopt {
			fd, oerr := a.at.Open(pfd, p.name, unix.O_PATH|unix.O_DIRECTORY, 0)
			if oerr == nil {
				return fd, true, nil
			}
			return -1, false, err
		}
		if err != nil {
			return -1, false, err
		}
		fd, err = a.at.Open(pfd, p.name, unix.O_PATH|unix.O_DIRECTORY, 0)
		return fd, false, err
	case unix.S_IFLNK:
		target := string(op.Data)
		if target == "" || len(target) >= unix.PathMax || strings.Contains(target, "\x00") {
			return -1, false, fmt.Errorf("%w: symbolic link to %d bytes", ErrProtocol, len(target))
		}
		err = a.at.Symlink(target, pfd, p.name)
	case unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK:
		for try := 0; try == 0 || try == 1 && errors.Is(err, unix.EPERM); try++ {
			err = a.at.Mknod(pfd, p.name, mode&(typeBits|0o777), op.Attr.Rdev)
		}
		if errors.Is(err, unix.EPERM) {
			a.notPermitted(err)
			return -1, false, errUnknown // a device without the right to make one: counted, not made
		}
	default:
		return -1, false, fmt.Errorf("%w: object of type %o", ErrProtocol, mode&typeBits)
	}
	if err != nil {
		return -1, false, err
	}
	fd, err = a.at.Open(pfd, p.name, unix.O_PATH, 0)
	return fd, false, err
}

func (a *Applier) opLink(t *tree, op *fileop.Op) error {
	o := a.cat.get(key{t.Tree, op.Obj})
	if o == nil {
		return a.unknownTakes(t, place{op.Parent, op.Name}, op.PMtime)
	}
	if o.isDir() {
		return fmt.Errorf("%w: link to a directory", ErrProtocol)
	}
	if err := a.linkTo(t, o, place{op.Parent, op.Name}); err != nil {
		return err
	}
	a.setDirMtime(t, op.Parent, op.PMtime)
	return nil
}

// linkTo gives o the further place p; an object without a name moves there.
func (a *Applier) linkTo(t *tree, o *object, p place) error {
	if o.has(p) || len(o.names) == 0 {
		return nil
	}
	pfd, err := a.dirFD(t, p.parent)
	if err != nil {
		return err
	}
	if err := a.vacate(t, p, o); err != nil {
		return err
	}
	if len(o.names) == 0 {
		return errUnknown // it was in what lay at p
	}
	from := o.names[0]
	if from.parent.IsZero() {
		return a.moveTo(t, o, from, p)
	}
	ffd, err := a.dirFD(t, from.parent)
	if err != nil {
		return err
	}
	if err := a.checkAt(ffd, from.name, o); err != nil {
		return err
	}
	if err := a.intend(t, 0, [2]fileop.ObjID{o.id}, p); err != nil {
		return err
	}
	err = a.at.Link(ffd, from.name, pfd, p.name)
	if errors.Is(err, unix.EEXIST) {
		if err = a.clearPlace(t, pfd, p.name); err == nil {
			err = a.at.Link(ffd, from.name, pfd, p.name)
		}
	}
	if err != nil {
		return err
	}
	a.cat.bind(o, p)
	return nil
}

// checkAt makes sure that name is o before it is moved or linked.
func (a *Applier) checkAt(dirfd int, name string, o *object) error {
	id, _, err := a.at.Identify(dirfd, name)
	if isGone(err) || (err == nil && id != o.ident) {
		return a.lost(o)
	}
	return err
}

// unknownTakes handles a name now taken by an object that is not known here: whatever
// is known at p was replaced.
func (a *Applier) unknownTakes(t *tree, p place, mtime fileop.Time) error {
	if _, err := a.dirFD(t, p.parent); err != nil || p.parent.IsZero() {
		return errors.Join(err, errUnknown)
	}
	if err := a.vacate(t, p, nil); err != nil {
		return err
	}
	a.setDirMtime(t, p.parent, mtime)
	return errUnknown
}

func (a *Applier) opUnlink(t *tree, op *fileop.Op) error {
	p := place{op.Parent, op.Name}
	o := a.cat.get(key{t.Tree, op.Obj})
	if op.Parent.IsZero() {
		return fmt.Errorf("%w: %s without a directory", ErrProtocol, op.Kind)
	}
	pfd, err := a.dirFD(t, op.Parent)
	if err != nil && !errors.Is(err, errUnknown) {
		return err
	}
	if err == nil {
		if err := a.removePlace(t, pfd, p, op); err != nil {
			return err
		}
		a.setDirMtime(t, op.Parent, op.PMtime)
	}
	if o != nil && op.Last && o.id != t.Source {
		return a.removeObject(t, o) // what the catalog still knows of it is older
	}
	if o == nil {
		return errUnknown
	}
	return nil
}

// removePlace removes what is at p: the known object, or a leftover of one.
func (a *Applier) removePlace(t *tree, pfd int, p place, op *fileop.Op) error {
	if id := a.cat.child(t.Tree, p); !id.IsZero() {
		if o := a.cat.get(key{t.Tree, id}); o != nil {
			return a.removeName(t, o, p, op.Flags&fileop.FlagTree != 0)
		}
	}
	if t.hidden(p.parent, p.name) {
		return nil
	}
	err := ignoreGone(a.at.Unlink(pfd, p.name))
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = a.at.Rmdir(pfd, p.name)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
			err = nil // unknown files below: orphans, their policy decides
		}
	}
	return ignoreGone(err)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
