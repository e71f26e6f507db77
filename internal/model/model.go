package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// ErrImpossible: an operation that no source can have captured in this state.
var ErrImpossible = errors.New("impossible operation")

// Model is the state after the operations applied so far.
type Model struct {
	trees []*tree

	// Applied and Dropped count operations; dropped ones concern objects not known.
	Applied, Dropped int
}

type tree struct {
	root fileop.ObjID
	objs map[fileop.ObjID]*object
	// lists are the names of directories whose MirrorDir records are not all there.
	lists map[fileop.ObjID]map[string]struct{}
}

// place is a name in a directory.
type place struct {
	dir  fileop.ObjID
	name string
}

// object is one file, directory or the like with all its names.
type object struct {
	id       fileop.ObjID
	attr     fileop.Attr
	target   string                  // of symbolic links
	xattrs   map[string]string       // never changed in place
	names    []place                 // none: the root, or kept
	kept     bool                    // without a name, but known: an O_TMPFILE file, or parked by MirrorDir
	parked   bool                    // the latter: forgotten at the end of the mirror run
	children map[string]fileop.ObjID // of directories
	content  *content                // of regular files
}

func (o *object) isDir() bool { return o.attr.Mode&unix.S_IFMT == unix.S_IFDIR }
func (o *object) isReg() bool { return o.attr.Mode&unix.S_IFMT == unix.S_IFREG }

// New returns a model of a connection with these roots, by tree number. A zero root
// becomes known with the first mirror entry that has no parent.
func New(roots ...fileop.ObjID) *Model {
	m := &Model{}
	for _, id := range roots {
		t := &tree{objs: map[fileop.ObjID]*object{}}
		if !id.IsZero() {
			t.bindRoot(id)
		}
		m.trees = append(m.trees, t)
	}
	return m
}

// Clone returns a copy that shares file content until either side changes it.
func (m *Model) Clone() *Model {
	c := &Model{Applied: m.Applied, Dropped: m.Dropped}
	for _, t := range m.trees {
		ct := &tree{root: t.root, objs: make(map[fileop.ObjID]*object, len(t.objs))}
		for id, o := range t.objs {
			co := *o
			co.names = slices.Clone(o.names)
			co.children = maps.Clone(o.children)
			if o.content != nil {
				co.content, o.content = o.content.fork(), o.content.fork()
			}
			ct.objs[id] = &co
		}
		for id, names := range t.lists {
			maps.Copy(ct.listed(id), names)
		}
		c.trees = append(c.trees, ct)
	}
	return c
}

// errDropped: the operation concerns objects that are not known.
var errDropped = errors.New("dropped")

// Apply executes an operation. Errors are the record's own (fileop.Op.Check) and
// ErrImpossible; what concerns unknown objects is counted and no error.
func (m *Model) Apply(op *fileop.Op) error {
	if err := op.Check(); err != nil {
		return err
	}
	if int(op.Tree) >= len(m.trees) {
		return fmt.Errorf("%w: %s in tree %d of %d", ErrImpossible, op.Kind, op.Tree, len(m.trees))
	}
	err := m.trees[op.Tree].apply(op)
	if op.Kind == fileop.MirrorEnd || op.Kind == fileop.MirrorAbort {
		for _, t := range m.trees {
			t.forgetParked()
		}
	}
	switch {
	case errors.Is(err, errDropped):
		m.Dropped++
		return nil
	case err != nil:
		return fmt.Errorf("%s of %s at %q: %w", op.Kind, op.Obj, op.Path, err)
	}
	m.Applied++
	return nil
}

func (t *tree) apply(op *fileop.Op) error {
	switch op.Kind {
	case fileop.Create, fileop.Mkdir, fileop.Mknod, fileop.Symlink:
		return t.create(op)
	case fileop.Link:
		return t.link(op)
	case fileop.Unlink, fileop.Rmdir:
		return t.unlink(op)
	case fileop.Rename:
		return t.rename(op)
	case fileop.Write, fileop.Truncate, fileop.Fallocate:
		return t.change(op)
	case fileop.CopyRange:
		return t.copyRange(op)
	case fileop.SetAttr, fileop.SetXattr, fileop.RemoveXattr:
		return t.attributes(op)
	case fileop.MirrorEntry:
		return t.mirrorEntry(op)
	case fileop.MirrorBlock:
		return t.mirrorBlock(op)
	case fileop.MirrorFileEnd, fileop.MirrorDirEnd:
		return t.mirrorSettle(op)
	case fileop.MirrorDir:
		return t.mirrorDir(op)
	}
	return nil // marks of the order
}

func (t *tree) bindRoot(id fileop.ObjID) *object {
	if o := t.objs[id]; o != nil && id == t.root {
		return o
	}
	o := &object{id: id, attr: fileop.Attr{Mode: unix.S_IFDIR}, children: map[string]fileop.ObjID{}}
	if old := t.objs[t.root]; old != nil && t.root != id {
		// The root is another directory now; what is known below stays below it.
		o.children, o.attr, o.xattrs = old.children, old.attr, old.xattrs
		for _, c := range o.children {
			for i, p := range t.objs[c].names {
				if p.dir == t.root {
					t.objs[c].names[i].dir = id
				}
			}
		}
		delete(t.objs, t.root)
	}
	t.root = id
	t.objs[id] = o
	return o
}

// dir finds a directory that is known.
func (t *tree) dir(id fileop.ObjID) (*object, error) {
	o := t.objs[id]
	if o == nil {
		return nil, errDropped
	}
	if !o.isDir() {
		return nil, fmt.Errorf("%w: %s is no directory", ErrImpossible, id)
	}
	return o, nil
}

// bind gives o the name p, which must be free, in a known directory.
func (t *tree) bind(o *object, p place) {
	t.objs[p.dir].children[p.name] = o.id
	o.names = append(o.names, p)
	o.kept, o.parked = false, false
}

// unbind takes the name p from whatever has it, which is not forgotten yet.
func (t *tree) unbind(p place) *object {
	d := t.objs[p.dir]
	if d == nil {
		return nil
	}
	o := t.objs[d.children[p.name]]
	delete(d.children, p.name)
	if o != nil {
		o.names = slices.DeleteFunc(o.names, func(q place) bool { return q == p })
	}
	return o
}

// vacate frees the name p. What loses its last name is forgotten.
func (t *tree) vacate(p place) {
	if o := t.unbind(p); o != nil && len(o.names) == 0 {
		t.forget(o)
	}
}

// forget drops an object, all names it may have and everything below it.
func (t *tree) forget(o *object) {
	delete(t.objs, o.id)
	for _, p := range o.names {
		if d := t.objs[p.dir]; d != nil && d.children[p.name] == o.id {
			delete(d.children, p.name)
		}
	}
	for name := range o.children {
		p := place{o.id, name}
		c := t.objs[o.children[name]]
		if c == nil {
			continue
		}
		c.names = slices.DeleteFunc(c.names, func(q place) bool { return q == p })
		if len(c.names) == 0 {
			t.forget(c)
		}
	}
}

func (t *tree) forgetParked() {
	var gone []*object
	for _, o := range t.objs {
		if o.parked {
			gone = append(gone, o)
		}
	}
	for _, o := range gone {
		t.forget(o)
	}
}

// touch sets the modification time of a directory whose names changed.
func (t *tree) touch(dir fileop.ObjID, mtime fileop.Time) {
	if o := t.objs[dir]; o != nil && !mtime.IsZero() {
		o.attr.Mtime = mtime
	}
}
