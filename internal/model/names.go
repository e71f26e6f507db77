package model

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// newObject makes the object op describes, without a name.
func newObject(op *fileop.Op) *object {
	o := &object{id: op.Obj, attr: *op.Attr, xattrs: xattrMap(op.Xattrs)}
	switch op.Attr.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		o.children = map[string]fileop.ObjID{}
	case unix.S_IFREG:
		o.content = newContent()
	case unix.S_IFLNK:
		o.target = string(op.Data)
	}
	return o
}

func (t *tree) create(op *fileop.Op) error {
	p := place{op.Parent, op.Name}
	if op.Name != "" {
		if _, err := t.dir(op.Parent); err != nil {
			return err
		}
	}
	if old := t.objs[op.Obj]; old != nil {
		if old.id == t.root {
			return fmt.Errorf("%w: the root is created again", ErrImpossible)
		}
		t.forget(old) // its end was not captured
	}
	o := newObject(op)
	if op.Name == "" {
		o.kept = true
		t.objs[o.id] = o
		return nil
	}
	t.vacate(p)
	t.objs[o.id] = o
	t.bind(o, p)
	t.touch(op.Parent, op.PMtime)
	return nil
}

func (t *tree) link(op *fileop.Op) error {
	p := place{op.Parent, op.Name}
	if _, err := t.dir(op.Parent); err != nil {
		return err
	}
	defer t.touch(op.Parent, op.PMtime)
	o := t.objs[op.Obj]
	if o == nil {
		t.vacate(p)
		return errDropped
	}
	if o.isDir() {
		return fmt.Errorf("%w: link to a directory", ErrImpossible)
	}
	t.bindOver(o, p)
	return nil
}

// bindOver gives o the further name p, whatever had it.
func (t *tree) bindOver(o *object, p place) {
	if !slices.Contains(o.names, p) {
		t.vacate(p)
		t.bind(o, p)
	}
}

func (t *tree) unlink(op *fileop.Op) error {
	o := t.objs[op.Obj]
	if d := t.objs[op.Parent]; d != nil {
		t.vacate(place{op.Parent, op.Name})
		t.touch(op.Parent, op.PMtime)
	}
	if o == nil {
		return errDropped
	}
	if op.Last && t.objs[op.Obj] == o && o.id != t.root {
		t.forget(o)
	}
	return nil
}

func (t *tree) rename(op *fileop.Op) error {
	from, to := place{op.Parent, op.Name}, place{op.Parent2, op.Name2}
	defer func() {
		t.touch(op.Parent, op.PMtime)
		t.touch(op.Parent2, op.PMtime2)
	}()
	if op.Flags&fileop.RenameExchange != 0 {
		return t.exchange(op, from, to)
	}
	o := t.objs[op.Obj]
	switch {
	case o == nil:
		t.vacate(from)
		t.vacate(to)
		return errDropped
	case o.id == t.root:
		return fmt.Errorf("%w: the root is renamed", ErrImpossible)
	case slices.Contains(o.names, to):
		return nil // two names of one file: rename(2) does nothing
	}
	old := t.objs[op.Obj2]
	t.move(o, from, to)
	if op.Last && old != nil && old != o && t.objs[old.id] == old {
		t.forget(old)
	}
	return nil
}

// move takes o from one place to another. A place in an unknown directory is none.
func (t *tree) move(o *object, from, to place) {
	if slices.Contains(o.names, from) {
		t.unbind(from)
	} else if len(o.names) > 0 {
		t.unbind(o.names[0]) // it moved before it was mirrored
	}
	if t.objs[to.dir] == nil {
		if len(o.names) == 0 {
			t.forget(o)
		}
		return
	}
	t.vacate(to)
	t.bind(o, to)
}

func (t *tree) exchange(op *fileop.Op, from, to place) error {
	a, b := t.objs[op.Obj], t.objs[op.Obj2]
	if a != nil && a == b || a != nil && a.id == t.root || b != nil && b.id == t.root {
		return fmt.Errorf("%w: exchange of the root or of an object with itself", ErrImpossible)
	}
	if a != nil && b != nil && slices.Contains(a.names, from) && slices.Contains(b.names, to) {
		t.unbind(from)
		t.unbind(to)
		t.bind(a, to)
		t.bind(b, from)
		return nil
	}
	if a != nil && !slices.Contains(a.names, to) {
		t.move(a, from, to)
	}
	if b != nil && t.objs[b.id] == b && !slices.Contains(b.names, from) {
		t.move(b, to, from)
	}
	return errDropped
}
