package applier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// errUnknown: the record is about something this target does not hold.
var errUnknown = errors.New("object is not known on the target")

// maxDepth bounds the walk from an object up to its root.
const maxDepth = 8192

func (a *Applier) tree(id uint32) (*tree, error) {
	t := a.trees[id]
	if t == nil {
		return nil, fmt.Errorf("%w: tree %d is not part of this connection", ErrProtocol, id)
	}
	return t, nil
}

// dirFD opens the directory id of tree t; a zero id is the staging directory. The
// descriptor stays open until the operation ends at least.
func (a *Applier) dirFD(t *tree, id fileop.ObjID) (int, error) { return a.dirFDAt(t, id, 0) }

func (a *Applier) dirFDAt(t *tree, id fileop.ObjID, depth int) (int, error) {
	if id.IsZero() {
		return t.stage(&a.at, func() error { return a.keepMtime(t, t.Source) })
	}
	if id == t.Source {
		return t.fd, nil
	}
	k := key{t.Tree, id}
	if fd, ok := a.dirs.get(k); ok {
		return fd, nil
	}
	o := a.cat.get(k)
	if o == nil || !o.isDir() || len(o.names) == 0 {
		return -1, errUnknown
	}
	if depth > maxDepth {
		return -1, fmt.Errorf("%w: directories nested over %d deep", errCatalog, maxDepth)
	}
	p := o.names[0]
	pfd, err := a.dirFDAt(t, p.parent, depth+1)
	if err != nil {
		return -1, err
	}
	fd, err := a.openKnown(pfd, p.name, o, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	a.dirs.put(k, fd)
	return fd, nil
}

// openKnown opens name and makes sure that it is o. What somebody else put there is
// left alone, and o forgotten: the mirror brings it again.
func (a *Applier) openKnown(pfd int, name string, o *object, flags int) (int, error) {
	fd, err := a.at.Open(pfd, name, flags, 0)
	if errors.Is(err, unix.EACCES) && flags&unix.O_PATH == 0 {
		fd, err = a.openLocked(pfd, name, flags)
	}
	if isGone(err) {
		return -1, a.lost(o)
	}
	if err != nil {
		return -1, err
	}
	id, _, err := a.at.Identify(fd, "")
	if err == nil && id != o.ident {
		err = a.lost(o)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// isGone reports whether err says that a name is not there or not of the kind it was.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}

// openLocked opens a file whose own mode forbids it: only an applier without root's
// rights gets here.
func (a *Applier) openLocked(pfd int, name string, flags int) (int, error) {
	pathFD, err := a.at.Open(pfd, name, unix.O_PATH, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pathFD)
	st, err := a.at.Stat(pathFD, "")
	if err != nil {
		return -1, err
	}
	if err := a.at.Chmod(pathFD, st.Mode|0o600); err != nil {
		return -1, err
	}
	fd, err := a.at.Open(pfd, name, flags, 0)
	return fd, errors.Join(err, a.at.Chmod(pathFD, st.Mode))
}

// lost forgets an object that is not where the catalog says, and what is below it.
func (a *Applier) lost(o *object) error {
	a.count(func(s *Stats) { s.Lost++ })
	name := ""
	if len(o.names) > 0 {
		name = o.names[0].name
	}
	a.log.Warn("object is not where the catalog says", "object", o.id, "name", name, "seq", a.pos.Applied+1)
	a.event(Event{Kind: EventChanged, Tree: o.tree, Name: name})
	a.needRemirror("target changed by others")
	a.forgetTree(o)
	return errUnknown
}

// fileFD opens a known regular file for reading and writing.
func (a *Applier) fileFD(t *tree, o *object) (int, error) {
	if !o.isReg() {
		return -1, fmt.Errorf("%w: content for object %s, which is no file", ErrProtocol, o.id)
	}
	if fd, ok := a.files.get(o.key); ok {
		return fd, nil
	}
	if len(o.names) == 0 {
		return -1, errUnknown
	}
	pfd, err := a.dirFD(t, o.names[0].parent)
	if err != nil {
		return -1, err
	}
	fd, err := a.openKnown(pfd, o.names[0].name, o, unix.O_RDWR|unix.O_NONBLOCK)
	if err != nil {
		return -1, err
	}
	a.files.put(o.key, fd)
	return fd, nil
}

// known opens the object of an identity, as anyFD; one the catalog does not have is
// errUnknown.
func (a *Applier) known(t *tree, id fileop.ObjID) (o *object, fd int, done func(), err error) {
	o = a.cat.get(key{t.Tree, id})
	if o == nil {
		return nil, 0, nil, errUnknown
	}
	fd, done, err = a.anyFD(t, o)
	return o, fd, done, err
}

// anyFD opens any known object for attributes. The caller calls done.
func (a *Applier) anyFD(t *tree, o *object) (fd int, done func(), err error) {
	none := func() {}
	if o.isDir() {
		fd, err = a.dirFD(t, o.id)
		return fd, none, err
	}
	if fd, ok := a.files.get(o.key); ok {
		return fd, none, nil
	}
	if len(o.names) == 0 {
		return -1, none, errUnknown
	}
	pfd, err := a.dirFD(t, o.names[0].parent)
	if err != nil {
		return -1, none, err
	}
	fd, err = a.openKnown(pfd, o.names[0].name, o, unix.O_PATH)
	if err != nil {
		return -1, none, err
	}
	return fd, func() { unix.Close(fd) }, nil
}

// forgetTree removes o, and everything known below it, from the catalog alone.
func (a *Applier) forgetTree(o *object) {
	if o.isDir() {
		for name, id := range a.cat.children(o.tree, o.id) {
			child := a.cat.get(key{o.tree, id})
			if child == nil {
				continue
			}
			a.cat.unbind(child, place{o.id, name})
			if len(child.names) == 0 {
				a.forgetTree(child)
			}
		}
	}
	a.forget(o)
}

// forget removes o alone from the catalog and all that is remembered of it.
func (a *Applier) forget(o *object) {
	a.cat.remove(o)
	a.files.drop(o.key)
	a.dirs.drop(o.key)
	delete(a.pend, o.key)
	delete(a.pendDirs, o.key)
	delete(a.lists, o.key)
}
