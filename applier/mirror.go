package applier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// maxListedNames bounds the names of one directory a mirror may list.
const maxListedNames = 64 << 20

// nameList collects the names of one directory over several MirrorDir records.
type nameList struct{ names map[string]struct{} }

// opMirrorEntry makes Parent/Name be Obj with its attributes.
func (a *Applier) opMirrorEntry(t *tree, op *fileop.Op) error {
	if op.Obj.IsZero() {
		return fmt.Errorf("%w: mirror entry without an object", ErrProtocol)
	}
	if a.cfg.Past && !op.Mtime.IsZero() { // no later mirror will look at its date
		op.Attr.Mtime = op.Mtime
	}
	if op.Parent.IsZero() {
		if op.Name != "" || op.Attr.Mode&typeBits != unix.S_IFDIR {
			return fmt.Errorf("%w: mirror entry without a directory", ErrProtocol)
		}
		a.bindRoot(t, op.Obj)
		return a.finish(t, op, true)
	}
	if op.Name == "" || op.Obj == t.Source {
		return fmt.Errorf("%w: mirror entry without a name", ErrProtocol)
	}
	p := place{op.Parent, op.Name}
	pfd, err := a.dirFD(t, op.Parent)
	if err != nil {
		return err
	}
	if t.hidden(p.parent, p.name) {
		return fmt.Errorf("%w: %s is the staging directory's name", ErrProtocol, insideStage)
	}
	if err := a.keepMtime(t, op.Parent); err != nil {
		return err
	}
	fresh, err := a.place(t, op, p, pfd)
	if err != nil {
		return err
	}
	a.setDirMtime(t, op.Parent, op.PMtime)
	if op.Flags&fileop.FlagWhole != 0 {
		return a.writeWhole(t, op, fresh)
	}
	if fresh {
		return nil
	}
	return a.finish(t, op, true)
}

// place brings Obj to p: it is there, moves there, gets a further name there, takes over
// what lies there, or is created. fresh: it was created just now, with its attributes.
func (a *Applier) place(t *tree, op *fileop.Op, p place, pfd int) (fresh bool, err error) {
	o := a.cat.get(key{t.Tree, op.Obj})
	if o != nil && o.kind != op.Attr.Mode&typeBits {
		if err := a.removeObject(t, o); err != nil {
			return false, err
		}
		o = nil
	}
	if o != nil {
		err := a.placeKnown(t, op, o, p, pfd)
		if !errors.Is(err, errUnknown) {
			return false, err
		}
		a.forgetTree(o) // not where it was: somebody else's work, or names from before a crash
	}
	if err := a.makeRoom(t, p, nil); err != nil {
		return false, err
	}
	if _, err = a.makeObject(t, op, p, pfd, false); !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	if o, err = a.adopt(t, op, p, pfd); o != nil || err != nil {
		return false, err
	}
	_, err = a.makeObject(t, op, p, pfd, true)
	return err == nil, err
}

// placeKnown brings a known object to p, or errUnknown if it is not where the catalog
// says. That is no alarm here: the mirror is what repairs it.
func (a *Applier) placeKnown(t *tree, op *fileop.Op, o *object, p place, pfd int) error {
	at := p
	if !o.has(p) {
		if len(o.names) == 0 {
			return errUnknown
		}
		at = o.names[0]
	}
	ffd, err := a.dirFD(t, at.parent)
	if err != nil {
		return err
	}
	id, _, err := a.at.Identify(ffd, at.name)
	if isGone(err) || err == nil && id != o.ident {
		if at == p && len(o.names) > 1 { // somebody broke a link group: the other names have the object
			a.cat.unbind(o, p)
			if err := a.clearPlace(t, pfd, p.name); err != nil {
				return err
			}
			return a.placeKnown(t, op, o, p, pfd)
		}
		return errUnknown
	}
	switch {
	case err != nil:
		return err
	case at == p:
		return nil
	}
	if err := a.makeRoom(t, p, o); err != nil {
		return err
	}
	switch {
	case o.isDir() || op.Nlink <= 1 || at.parent.IsZero():
		err := a.moveTo(t, o, at, p)
		if errors.Is(err, unix.EINVAL) && o.isDir() {
			if err = a.liftOut(t, o, p.parent); err == nil {
				err = a.moveTo(t, o, at, p)
			}
		}
		return err
	}
	return a.linkTo(t, o, p)
}

// makeRoom takes what is known at p from there, for an entry that is not keep. A directory
// is parked: what is in it, the entry's own object perhaps, may be elsewhere on the source,
// and its entries find it again.
func (a *Applier) makeRoom(t *tree, p place, keep *object) error {
	o := a.cat.get(key{t.Tree, a.cat.child(t.Tree, p)})
	if o != nil && o.isDir() && o != keep {
		return a.park(t, o, p)
	}
	return a.vacate(t, p, keep)
}

// liftOut takes what dir is in out of o: on the source it left o before o was moved into
// it, and its own entry comes later.
func (a *Applier) liftOut(t *tree, o *object, dir fileop.ObjID) error {
	for range unix.PathMax {
		c := a.cat.get(key{t.Tree, dir})
		if c == nil || len(c.names) == 0 {
			return errUnknown
		}
		if dir = c.names[0].parent; dir == o.id {
			return a.park(t, c, c.names[0])
		}
	}
	return errUnknown
}

// adopt binds Obj to a leftover of the same type at p, whose content stays. Leftovers
// with several names are not taken: the names may belong to different objects now.
func (a *Applier) adopt(t *tree, op *fileop.Op, p place, pfd int) (*object, error) {
	id, st, err := a.at.Identify(pfd, p.name)
	if isGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kind := st.Mode & typeBits
	if kind != op.Attr.Mode&typeBits || (kind != unix.S_IFDIR && kind != unix.S_IFREG) || (kind == unix.S_IFREG && st.Nlink != 1) {
		return nil, a.clearPlace(t, pfd, p.name)
	}
	if kind == unix.S_IFDIR {
		if err := a.adopted(t, op.Obj, id); err != nil {
			return nil, err
		}
	}
	o := &object{key: key{t.Tree, op.Obj}, kind: kind, ident: id}
	a.cat.bind(o, p)
	return o, nil
}

// finish gives Obj the attributes and the complete extended attributes of op.
func (a *Applier) finish(t *tree, op *fileop.Op, complete bool) error {
	o, fd, done, err := a.known(t, op.Obj)
	if err != nil {
		return err
	}
	defer done()
	if o.kind == unix.S_IFLNK && op.Kind == fileop.MirrorEntry {
		if err := a.checkLink(t, o, fd, op); err != nil {
			return err
		}
	}
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return err
	}
	if err := a.setAttrs(fd, &st, op.Attr, op.Xattrs, complete); err != nil {
		return err
	}
	if acl := o.isDir() && hasDefaultACL(op.Xattrs); acl != o.defACL {
		o.defACL = acl
		a.cat.put(o)
	}
	a.setMtime(o, op.Attr.Mtime)
	return nil
}

// checkLink refuses to take a symbolic link whose target differs for the one listed: it
// cannot be changed, so it is lost and made again by the retry.
func (a *Applier) checkLink(t *tree, o *object, fd int, op *fileop.Op) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil || string(buf[:n]) == string(op.Data) {
		return err
	}
	p := o.names[0]
	if err := a.removeObject(t, o); err != nil {
		return err
	}
	pfd, err := a.dirFD(t, p.parent)
	if err != nil {
		return err
	}
	_, err = a.makeObject(t, op, p, pfd, true)
	return err
}

// writeWhole gives a file its whole content and final attributes and time.
func (a *Applier) writeWhole(t *tree, op *fileop.Op, fresh bool) error {
	o := a.cat.get(key{t.Tree, op.Obj})
	if o == nil || !o.isReg() {
		return fmt.Errorf("%w: whole content for what is no file", ErrProtocol)
	}
	fd, err := a.fileFD(t, o)
	if err != nil {
		return err
	}
	if !fresh {
		if err := a.beforeChange(t, o, fd); err != nil {
			return err
		}
		if err := a.at.Truncate(fd, 0); err != nil {
			return err
		}
	}
	if err := a.at.Write(fd, op.Data, 0); err != nil {
		return err
	}
	if op.Len > int64(len(op.Data)) {
		if err := a.at.Truncate(fd, op.Len); err != nil {
			return err
		}
	}
	a.wrote(len(op.Data))
	if !fresh || op.Attr.Mode&0o6000 != 0 {
		if err := a.finish(t, op, true); err != nil {
			return err
		}
	}
	if err := a.permit(func() error { return a.at.Utimes(fd, "", op.Attr.Mtime) }); err != nil {
		return err
	}
	delete(a.pend, o.key)
	a.files.drop(o.key) // nothing follows
	return nil
}

func (a *Applier) opMirrorBlock(t *tree, op *fileop.Op) error {
	o, fd, err := a.contentFD(t, op.Obj)
	if err == nil && a.cfg.Past {
		err = a.keepFileMtime(o, fd)
	}
	if err != nil {
		return err
	}
	if op.Flags&fileop.FlagHole == 0 {
		a.wrote(len(op.Data))
		return a.at.Write(fd, op.Data, op.Off)
	}
	punch := *op
	punch.Flags = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if op.Len == 0 {
		return nil
	}
	err = a.at.Fallocate(fd, punch.Flags, op.Off, op.Len)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = a.imitate(fd, &punch)
	}
	return err
}

func (a *Applier) opMirrorFileEnd(t *tree, op *fileop.Op) error {
	o, fd, err := a.contentFD(t, op.Obj)
	if err != nil {
		return err
	}
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return err
	}
	if st.Size != op.Len {
		if err := a.at.Truncate(fd, op.Len); err != nil {
			return err
		}
	}
	if err := a.setAttrs(fd, &st, op.Attr, op.Xattrs, true); err != nil {
		return err
	}
	a.setMtime(o, op.Attr.Mtime)
	return nil
}

// opMirrorDir takes the complete list of a directory's names: known names that are not
// in it were deleted on the source; unknown ones are orphans and only counted, unless
// they are of our own making (ghosts.go).
func (a *Applier) opMirrorDir(t *tree, op *fileop.Op) error {
	k := key{t.Tree, op.Obj}
	o := a.cat.get(k)
	if o == nil || !o.isDir() {
		return errUnknown
	}
	l := a.lists[k]
	if l == nil {
		l = &nameList{names: make(map[string]struct{}, len(op.Names))}
		a.lists[k] = l
	}
	for _, n := range op.Names {
		l.names[n] = struct{}{}
	}
	if len(l.names) > maxListedNames || len(a.lists) > 1024 {
		return fmt.Errorf("%w: directory list without an end", ErrProtocol)
	}
	if op.Flags&fileop.FlagMore != 0 {
		return nil
	}
	if err := a.removeUnlisted(t, o, l.names); err != nil {
		return err // the list stays for the retry
	}
	delete(a.lists, k)
	return nil
}

func (a *Applier) removeUnlisted(t *tree, dir *object, listed map[string]struct{}) error {
	fd, err := a.dirFD(t, dir.id)
	if err != nil {
		return err
	}
	known := a.cat.children(t.Tree, dir.id)
	for name, id := range known {
		if _, ok := listed[name]; ok {
			continue
		}
		if err := a.keepMtime(t, dir.id); err != nil {
			return err
		}
		if o := a.cat.get(key{t.Tree, id}); o != nil {
			if err := a.park(t, o, place{dir.id, name}); err != nil {
				return err
			}
		}
	}
	names, err := a.at.ReadDir(fd)
	if err != nil {
		return err
	}
	orphans := uint64(0)
	for _, d := range names {
		if _, ok := listed[d.Name]; ok || t.hidden(dir.id, d.Name) {
			continue
		}
		gone, err := a.removeGhost(t, dir.id, fd, d.Name)
		if err != nil {
			return err
		}
		if !gone {
			orphans++
		}
	}
	a.count(func(s *Stats) { s.Orphans += orphans })
	return nil
}

// park takes a name the source does not have any more from o. The last one goes to the
// staging directory until mirror end: the object may have moved on the source, and its
// entry come later.
func (a *Applier) park(t *tree, o *object, p place) error {
	if len(o.names) > 1 {
		return a.removeName(t, o, p, true)
	}
	err := a.moveTo(t, o, p, place{name: namelessName("p-", o.id)})
	if errors.Is(err, errUnknown) {
		return nil
	}
	return err
}

// dropParked removes what no mirror entry came back for.
func (a *Applier) dropParked() error {
	for _, t := range a.trees {
		for name, id := range a.cat.children(t.Tree, zeroID) {
			o := a.cat.get(key{t.Tree, id})
			if o == nil || len(name) < 2 || name[:2] != "p-" {
				continue
			}
			if err := a.removeName(t, o, place{name: name}, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// opMirrorDirEnd settles a directory whose entries are all there. The last one of a batch
// of hints ends what a mirror's end does for a run.
func (a *Applier) opMirrorDirEnd(t *tree, op *fileop.Op) error {
	if op.Flags&fileop.FlagOver != 0 && a.pos.Run == 0 {
		if err := a.dropParked(); err != nil {
			return err
		}
	}
	return a.finish(t, op, true)
}

// The marks of a mirror run.

func (a *Applier) opMirrorBegin(op *fileop.Op) error {
	a.pos.Run, a.pos.RunBroken = max(op.Len, 1), false
	clear(a.lists)
	a.count(func(s *Stats) { s.Orphans = 0 })
	return nil
}

func (a *Applier) opMirrorEnd(op *fileop.Op) error {
	if a.pos.Run != max(op.Len, 1) {
		return nil // of a run given up
	}
	if err := a.dropParked(); err != nil {
		return err
	}
	if a.pos.RunBroken {
		a.needRemirror("mirror run lost records")
	} else {
		a.pos.Mirrored, a.pos.Remirror, a.pos.Doubt = true, false, false
		a.ghosts = ghostWindow{} // every directory was compared
	}
	a.pos.Run, a.pos.RunBroken = 0, false
	if n := a.Stats().Orphans; n > 0 {
		a.event(Event{Kind: EventOrphans, Seq: op.Seq, Count: n})
	}
	return nil
}

func (a *Applier) opMirrorAbort(op *fileop.Op) error {
	if a.pos.Run != 0 && (op.Len == 0 || a.pos.Run == op.Len) {
		if err := a.dropParked(); err != nil {
			return err
		}
		a.pos.Run, a.pos.RunBroken = 0, false
		clear(a.lists)
	}
	a.aborted = max(a.aborted, op.Other)
	a.skipMirror(op.Other)
	return nil
}

// skipMirror gives up mirror records up to k that did not come.
func (a *Applier) skipMirror(k fileop.Seq) {
	if k <= a.pos.MirrorApplied {
		return
	}
	a.pos.MirrorApplied = k
	if a.pos.Run != 0 {
		a.pos.RunBroken = true
	}
}

func (a *Applier) opGap() {
	a.pos.Mirrored, a.pos.Run, a.pos.RunBroken = false, 0, false
	clear(a.lists)
}
