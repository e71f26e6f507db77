package mirror

import (
	"fmt"

	"understudy/fileop"
)

// ObjectTree is a Tree that finds objects by the kernel's file handle: four bytes of type
// in native order, then what open_by_handle_at(2) takes. The entry's Name is "".
type ObjectTree interface {
	Object(handle []byte) (fileop.Entry, error)
}

// work is what a batch of hints comes to: names to send and directories to compare, by
// directory.
type work struct {
	names, moved map[hint][]string
	walks        map[hint]bool // true: everything below
}

// dirt makes work of a batch.
func (r *run) dirt(batch map[hint]look) error {
	w := work{map[hint][]string{}, map[hint][]string{}, map[hint]bool{}}
	for h, how := range batch {
		if err := r.judge(&w, h, how); err != nil {
			return err
		}
	}
	for h, deep := range w.walks {
		r.dirtyDir(h, frame{root: h.root, force: true, flat: !deep})
	}
	for h, ns := range w.names {
		r.dirtyDir(h, frame{root: h.root, force: true, only: true, names: ns})
	}
	for h, ns := range w.moved {
		r.dirtyDir(h, frame{root: h.root, force: true, only: true, moved: true, names: ns})
	}
	return nil
}

// judge finds out what is at one place.
func (r *run) judge(w *work, h hint, how look) error {
	p := r.m.place(h.root)
	switch {
	case h.obj != "":
		return r.object(h, !how.attrs)
	case p.leadsToRoot(h.path):
		if err := r.root(h.root); err != nil {
			return err
		}
		top := &r.stack[len(r.stack)-1]
		top.flat, top.force = !how.deep && p.isRoot(h.path), true
		return nil
	}
	e, err := p.Tree.Lookup(h.path)
	dir, name := split(h.path)
	up := hint{root: h.root, path: dir}
	switch {
	case gone(err):
		if !w.walks[up] {
			w.walks[up] = false // the names of its directory are looked at
		}
	case err != nil:
		r.unread(h.root, h.path, err)
	case p.selectsEntry(dir, &fileop.Entry{Name: name, Attr: e.Attr}):
		list := w.names
		if how.moved {
			list = w.moved
		}
		list[up] = append(list[up], name)
		if isDir(e.Attr.Mode) {
			w.walks[h] = w.walks[h] || how.deep
		}
	case isReg(e.Attr.Mode) && e.Nlink > 1: // it may be in the set under another name
		return r.sameFile(h.root, e, true)
	}
	return nil
}

// object looks at a file of which no name is known.
func (r *run) object(h hint, content bool) error {
	t, ok := r.m.cfg.Roots[h.root].Tree.(ObjectTree)
	if !ok || r.m.cfg.Target == nil {
		return r.root(h.root)
	}
	e, err := t.Object([]byte(h.obj))
	if gone(err) {
		return nil
	}
	if err != nil {
		r.unread(h.root, "", err)
		return nil
	}
	return r.sameFile(h.root, e, content)
}

// sameFile compares the content of a file that the target may know under another name,
// or sends its attributes only. If the target knows it, it is in the set.
func (r *run) sameFile(root int, e fileop.Entry, content bool) error {
	if r.m.cfg.Target == nil || !isReg(e.Attr.Mode) {
		return nil
	}
	after := fileop.Seq(r.m.lastMirror.Load()) // its name may be on the way
	a, err := r.m.cfg.Target.Digests(r.ctx, fileop.DigestQuery{Tree: r.m.cfg.Roots[root].Index, Obj: e.Obj, After: after,
		Len: int64(r.m.cfg.BlockSize), Block: r.m.cfg.BlockSize})
	if err != nil {
		return fmt.Errorf("ask target for file: %w", err)
	}
	f := frame{root: root, e: e, after: after, blocks: true}
	switch {
	case a.Known && content:
		r.files = append(r.files, f)
	case a.Known:
		return r.fate(&f, r.attributes(&f))
	}
	return nil
}

// attributes sends those of a file whose content the target has.
func (r *run) attributes(f *frame) error {
	if err := r.credit(recordOverhead); err != nil {
		return err
	}
	file, err := r.m.cfg.Roots[f.root].Tree.File(f.e)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.WithLock(func() error {
		self, err := file.Self()
		if err != nil {
			return err
		}
		o := r.endOp(spot{root: f.root}, &self)
		_, err = r.m.putMirror(&o)
		return err
	})
}

func (r *run) dirtyDir(h hint, f frame) {
	p := r.m.place(h.root)
	if !p.carries(h.path, true) {
		return
	}
	e, err := p.Tree.Lookup(h.path)
	switch {
	case gone(err) || err == nil && !isDir(e.Attr.Mode):
		dir, _ := split(h.path)
		if !p.leadsToRoot(h.path) {
			r.dirtyDir(hint{root: h.root, path: dir}, frame{root: h.root, force: true, flat: true})
		}
		return
	case err != nil:
		r.unread(h.root, h.path, err)
		return
	}
	f.e, f.after = e, fileop.Seq(r.m.lastMirror.Load()) // the directory may be on the way
	r.push(f)
}

// unknown handles a directory of a batch that the target does not know: what is above
// it is compared, with everything below.
func (r *run) unknown(f *frame) error {
	if r.m.place(f.root).isRoot(f.dir) {
		return r.root(f.root)
	}
	dir, _ := split(f.dir)
	r.dirtyDir(hint{root: f.root, path: dir}, frame{root: f.root, force: true})
	return nil
}

// batchOver ends a batch that took names away: what did not come back under another name can
// be removed.
func (r *run) batchOver(root int) error {
	e, err := r.m.cfg.Roots[root].Tree.Lookup(r.m.cfg.Roots[root].rel())
	if err != nil {
		return fmt.Errorf("open root %s: %w", r.m.cfg.Roots[root].Dir, err)
	}
	if err := r.credit(recordOverhead); err != nil {
		return err
	}
	d, err := r.m.cfg.Roots[root].Tree.Dir(e)
	if err != nil {
		return fmt.Errorf("open root %s: %w", r.m.cfg.Roots[root].Dir, err)
	}
	defer d.Close()
	return d.WithLock(func() error {
		self, err := d.Self()
		if err != nil {
			return err
		}
		_, err = r.m.putMirror(&fileop.Op{Kind: fileop.MirrorDirEnd, Tree: r.m.cfg.Roots[root].Index, Obj: self.Obj,
			Flags: fileop.FlagOver, Attr: &self.Attr, Xattrs: self.Xattrs})
		return err
	})
}
