package model

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// mirrorEntry makes Parent/Name be Obj with its attributes.
func (t *tree) mirrorEntry(op *fileop.Op) error {
	if op.Parent.IsZero() && op.Name == "" {
		t.bindRoot(op.Obj).become(op)
		return nil
	}
	p := place{op.Parent, op.Name}
	if _, err := t.dir(op.Parent); err != nil {
		return err
	}
	o := t.objs[op.Obj]
	if o != nil && o.attr.Mode&unix.S_IFMT != op.Attr.Mode&unix.S_IFMT {
		if o.id == t.root {
			return fmt.Errorf("%w: the root became a file", ErrImpossible)
		}
		t.forget(o)
		o = nil
	}
	switch {
	case o == nil:
		t.vacate(p)
		o = newObject(op)
		t.objs[o.id] = o
		t.bind(o, p)
	case slices.Contains(o.names, p):
	case o.isDir() || op.Nlink <= 1 || len(o.names) == 0:
		t.move(o, p, p) // from wherever it is
	default:
		t.bindOver(o, p)
	}
	t.touch(op.Parent, op.PMtime)
	o.become(op)
	if op.Flags&fileop.FlagWhole != 0 {
		if !o.isReg() {
			return fmt.Errorf("%w: content of what is no file", ErrImpossible)
		}
		o.content.truncate(0)
		o.content.write(op.Data, 0)
		o.content.truncate(op.Len)
	}
	return nil
}

// become takes the complete attributes of a mirror record.
func (o *object) become(op *fileop.Op) {
	mtime := o.attr.Mtime
	mode := o.attr.Mode&unix.S_IFMT | op.Attr.Mode&^unix.S_IFMT
	o.attr = *op.Attr
	o.attr.Mode = mode
	if o.attr.Mtime.IsZero() {
		o.attr.Mtime = mtime
	}
	o.xattrs = xattrMap(op.Xattrs)
	if op.Kind == fileop.MirrorEntry && mode&unix.S_IFMT == unix.S_IFLNK {
		o.target = string(op.Data)
	}
}

func (t *tree) mirrorBlock(op *fileop.Op) error {
	o, err := t.file(op.Obj)
	if err != nil {
		return err
	}
	if op.Flags&fileop.FlagHole == 0 {
		o.content.write(op.Data, op.Off)
	} else {
		o.content.zero(op.Off, op.Off+op.Len)
	}
	return nil
}

// mirrorSettle is MirrorFileEnd and MirrorDirEnd.
func (t *tree) mirrorSettle(op *fileop.Op) error {
	o := t.objs[op.Obj]
	if o == nil {
		return errDropped
	}
	if op.Kind == fileop.MirrorFileEnd {
		if !o.isReg() {
			return fmt.Errorf("%w: end of what is no file", ErrImpossible)
		}
		o.content.truncate(op.Len)
	}
	o.become(op)
	return nil
}

// mirrorDir removes names that the source does not list. What loses its last name may
// have moved: it stays known to the end of the mirror run.
func (t *tree) mirrorDir(op *fileop.Op) error {
	d, err := t.dir(op.Obj)
	if err != nil {
		return err
	}
	for _, n := range op.Names {
		t.listed(op.Obj)[n] = struct{}{}
	}
	if op.Flags&fileop.FlagMore != 0 {
		return nil
	}
	for name := range d.children {
		if _, ok := t.listed(op.Obj)[name]; ok {
			continue
		}
		if o := t.unbind(place{op.Obj, name}); o != nil && len(o.names) == 0 {
			o.kept, o.parked = true, true
		}
	}
	delete(t.lists, op.Obj)
	return nil
}

func (t *tree) listed(id fileop.ObjID) map[string]struct{} {
	if t.lists == nil {
		t.lists = map[fileop.ObjID]map[string]struct{}{}
	}
	if t.lists[id] == nil {
		t.lists[id] = map[string]struct{}{}
	}
	return t.lists[id]
}
