package mirror

import (
	"fmt"

	"understudy/fileop"
)

// inlineFile is the size up to which a file that comes into the set is sent as live
// operations, all in the hold of the rename's locks: its name appears on the target
// with its content, and it is as durable as the rename.
const inlineFile = 4 << 20

// arrival is an object that a rename or link brought to a name in the set, whose
// directory is locked by the capture.
type arrival struct {
	place
	at    spot
	path  string
	obj   fileop.ObjID
	fresh bool // the target has nothing of what is below
}

// arrive sends the entry of what was brought; large files and directories join the
// work list.
func (b *Border) arrive(r *run, a arrival) {
	e, err := b.find(a.place, a.path, a.obj)
	if err == nil {
		err = b.arriveEntry(r, a, e)
	}
	if err != nil && !isFatal(err) {
		b.lostSight(a.place, a.path, err)
	}
}

func (b *Border) arriveEntry(r *run, a arrival, e fileop.Entry) error {
	if !a.names(a.path, isDir(e.Attr.Mode)) {
		return nil
	}
	switch {
	case isDir(e.Attr.Mode):
		seq, err := r.putDirAt(a.at, &e)
		if err == nil { // not forced: what below it was walked since the target knows it is not walked again
			r.bring(frame{root: b.root, e: e, after: seq, fresh: a.fresh, sent: true})
		}
		return err
	case isReg(e.Attr.Mode):
		f, err := a.Tree.File(e)
		if err != nil {
			return err
		}
		defer f.Close()
		open, _, err := r.putFile(a.at, e, f, smallFile)
		if open != 0 && err == nil {
			r.bring(frame{root: b.root, e: e, dir: a.at.dir, after: open, fresh: a.fresh})
		}
		return err
	}
	return r.putNode(a.at, e, func() (fileop.Entry, error) { return a.Tree.Lookup(a.path) })
}

// enter brings an object into the set that was outside of it. old is what had its name
// before.
func (b *Border) enter(p place, o *fileop.Op, e fileop.Entry, to end, old fileop.ObjID, last bool) {
	m := b.m
	if !old.IsZero() {
		m.mu.Lock()
		if m.run != nil {
			m.run.seen.remove(seenKey{b.root, old})
		}
		m.mu.Unlock()
	}
	dir := isDir(e.Attr.Mode)
	if !dir && e.Nlink <= 1 && (!isReg(e.Attr.Mode) || e.Size <= inlineFile) {
		l := fileop.Op{Kind: fileop.Link, Tree: o.Tree, Time: o.Time, Obj: e.Obj, Parent: to.parent, Name: to.name,
			Obj2: old, Last: last, PMtime: to.pmtime, Path: to.path, Nlink: e.Nlink, Token: o.Token}
		if err := b.inline(p, &l, e); err != nil {
			b.lostSight(p, to.path, err)
		}
		return
	}
	m.mu.Lock()
	r := m.follow()
	m.entries++
	m.mu.Unlock()
	defer m.sent()
	a := b.arrival(p, e.Obj, to)
	a.fresh = dir
	if err := b.arriveEntry(r, a, e); err != nil && !isFatal(err) {
		b.lostSight(p, to.path, err)
	}
}

// inline sends a new object as live operations, its name last.
func (b *Border) inline(p place, l *fileop.Op, e fileop.Entry) error {
	if !isReg(e.Attr.Mode) {
		return b.inlineNode(p, l, e)
	}
	f, err := p.Tree.File(e)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.WithLock(func() error {
		self, err := f.Self()
		if err != nil {
			return err
		}
		like := fileop.Op{Tree: l.Tree, Time: l.Time, Obj: l.Obj, Path: l.Path, Attr: &self.Attr, Xattrs: self.Xattrs, Token: l.Token}
		c := like
		c.Kind = fileop.Create
		b.m.put(&c)
		if err := b.inlineData(f, &like, self.Size); err != nil {
			return err
		}
		s := like
		s.Kind, s.Xattrs = fileop.SetAttr, nil
		b.m.put(&s)
		b.named(l)
		return nil
	})
}

// inlineData sends what is not a hole.
func (b *Border) inlineData(f File, like *fileop.Op, size int64) error {
	w := fileop.Op{Tree: like.Tree, Time: like.Time, Obj: like.Obj, Path: like.Path, Mtime: like.Attr.Mtime, Token: like.Token}
	off := int64(0)
	for off < size {
		start, end, err := f.Data(off)
		if err != nil { // no more data
			break
		}
		if err := b.writes(f, w, start, end); err != nil {
			return err
		}
		off = end
	}
	if off < size {
		w.Kind, w.Len = fileop.Truncate, size
		b.m.put(&w)
	}
	return nil
}

// named sends the link and tells the run.
func (b *Border) named(l *fileop.Op) {
	m := b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(l)
	if r := m.run; r != nil {
		r.seen.add(seenKey{b.root, l.Obj}, l.Parent, b.life(r, l.Parent), 0)
	}
}

// inlineNode sends a symbolic link or special file. Its attributes have no lock, so
// they are looked at again afterwards.
func (b *Border) inlineNode(p place, l *fileop.Op, e fileop.Entry) error {
	o := *l
	o.Obj2, o.Last = fileop.ObjID{}, false
	if !l.Obj2.IsZero() {
		u := o
		u.Kind, u.Obj, u.Last = fileop.Unlink, l.Obj2, l.Last
		b.m.put(&u)
	}
	o.Kind, o.Attr, o.Xattrs = fileop.Mknod, &e.Attr, e.Xattrs
	if isLnk(e.Attr.Mode) {
		o.Kind = fileop.Symlink
		r := run{m: b.m}
		dir, _ := split(l.Path)
		o.Data = []byte(r.linkTarget(spot{root: b.root, dir: dir}, &e))
	}
	b.named(&o)
	now, err := b.find(p, l.Path, l.Obj)
	if err != nil {
		return fmt.Errorf("look again: %w", err)
	}
	if !sameAttrs(&now, &e) {
		b.m.put(&fileop.Op{Kind: fileop.SetAttr, Tree: l.Tree, Obj: l.Obj, Attr: &now.Attr, Path: l.Path, Token: l.Token})
	}
	return nil
}
