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
		return r.object(h)
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
		w.walks[up] = w.walks[up]
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
		return r.sameFile(h.root, e)
	}
	return nil
}

// object looks at a file of which no name is known.
func (r *run) object(h hint) error {
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
	return r.sameFile(h.root, e)
}

// sameFile compares the content of a file that the target may know under another name;
// if it does, it is in the set.
func (r *run) sameFile(root int, e fileop.Entry) error {
	if r.m.cfg.Target == nil {
		return nil
	}
	after := fileop.Seq(r.m.lastMirror.Load()) // its name may be on the way
	a, err := r.m.cfg.Target.Digests(r.ctx, fileop.DigestQuery{Tree: r.m.cfg.Roots[root].Index, Obj: e.Obj, After: after,
		Len: int64(r.m.cfg.BlockSize), Block: r.m.cfg.BlockSize})
	if err != nil {
		return fmt.Errorf("ask target for file: %w", err)
	}
	if a.Known && isReg(e.Attr.Mode) {
		r.files = append(r.files, frame{root: root, e: e, after: after, blocks: true})
	}
	return nil
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
