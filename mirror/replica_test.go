package mirror

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/digest"
)

// replica is a target in memory: what the applier has to do with each record, in the
// fewest words. It is the specification by which the mirror is tested.
type replica struct {
	objs    map[fileop.ObjID]*robj
	root    fileop.ObjID
	dropped int // records about unknown objects
	running int64
	ends    int
	strange uint64 // for identities of what nobody knows
	junk    int64
}

type rname struct {
	parent fileop.ObjID
	name   string
}

type robj struct {
	attr     fileop.Attr
	xattrs   map[string]string
	data     []byte
	target   string
	names    map[rname]bool
	children map[string]fileop.ObjID
	settled  bool
	nameless bool            // between an empty Create and its Link
	unknown  bool            // an orphan
	list     map[string]bool // names of a MirrorDir that goes on
}

func newReplica() *replica { return &replica{objs: map[fileop.ObjID]*robj{}} }

func (t *replica) get(o fileop.ObjID) *robj {
	if x := t.objs[o]; x != nil && !x.unknown {
		return x
	}
	return nil
}

func newObj(a *fileop.Attr, xs []fileop.Xattr) *robj {
	x := &robj{names: map[rname]bool{}, children: map[string]fileop.ObjID{}, settled: true}
	x.set(a, xs)
	return x
}

func (x *robj) set(a *fileop.Attr, xs []fileop.Xattr) {
	x.attr, x.xattrs = *a, map[string]string{}
	for _, v := range xs {
		x.xattrs[v.Name] = string(v.Value)
	}
}

// touch is what the target's own kernel does to a directory's modification time; at is
// what the record says it is on the source.
func (t *replica) touch(dir fileop.ObjID, at fileop.Time) {
	if d := t.get(dir); d != nil {
		if at.IsZero() {
			t.junk++
			at = fileop.Time{Sec: 1 << 40, Nsec: uint32(t.junk)}
		}
		d.attr.Mtime = at
	}
}

func (t *replica) bind(o, parent fileop.ObjID, name string, at fileop.Time) {
	d := t.get(parent)
	if old, ok := d.children[name]; ok {
		if old == o {
			if !at.IsZero() {
				d.attr.Mtime = at
			}
			return
		}
		t.unbind(parent, name)
	}
	x := t.objs[o]
	if isDir(x.attr.Mode) { // a directory has one name
		for n := range x.names {
			t.unbindKeep(n.parent, n.name)
		}
	}
	d.children[name] = o
	x.names[rname{parent, name}] = true
	x.nameless = false
	t.touch(parent, at)
}

func (t *replica) unbindKeep(parent fileop.ObjID, name string) {
	d := t.objs[parent]
	if d == nil {
		return
	}
	o := d.children[name]
	delete(d.children, name)
	if x := t.objs[o]; x != nil {
		delete(x.names, rname{parent, name})
	}
	t.touch(parent, fileop.Time{})
}

// unbind removes a name, and what has none left with all that is below.
func (t *replica) unbind(parent fileop.ObjID, name string) {
	o, ok := t.objs[parent].children[name]
	if !ok {
		return
	}
	t.unbindKeep(parent, name)
	t.reap(o)
}

func (t *replica) reap(o fileop.ObjID) {
	x := t.objs[o]
	if x == nil || len(x.names) > 0 {
		return
	}
	for name := range x.children {
		t.unbind(o, name)
	}
	delete(t.objs, o)
}

func (t *replica) apply(op *fileop.Op) error {
	if err := op.Check(); err != nil {
		return err
	}
	switch {
	case op.Kind.IsName():
		t.name(op)
	case op.Kind >= fileop.MirrorBegin:
		return t.mirror(op)
	default:
		t.object(op)
	}
	return nil
}

func (t *replica) name(op *fileop.Op) {
	parent := t.get(op.Parent)
	switch op.Kind {
	case fileop.Create, fileop.Mkdir, fileop.Mknod, fileop.Symlink:
		if op.Name != "" && parent == nil {
			t.dropped++
			return
		}
		if old := t.get(op.Obj); old != nil { // an identity that came back
			for n := range old.names {
				t.unbind(n.parent, n.name)
			}
		}
		x := newObj(op.Attr, op.Xattrs)
		if op.Kind == fileop.Symlink {
			x.target = string(op.Data)
		}
		t.objs[op.Obj] = x
		if op.Name == "" {
			x.nameless = true
		} else {
			t.bind(op.Obj, op.Parent, op.Name, op.PMtime)
		}
	case fileop.Link:
		if parent == nil || t.get(op.Obj) == nil {
			t.dropped++
			return
		}
		t.bind(op.Obj, op.Parent, op.Name, op.PMtime)
	case fileop.Unlink, fileop.Rmdir:
		if parent == nil || t.get(op.Obj) == nil || parent.children[op.Name] != op.Obj {
			t.dropped++
			return
		}
		t.unbind(op.Parent, op.Name)
		t.touch(op.Parent, op.PMtime)
	case fileop.Rename:
		t.rename(op)
	}
}

func (t *replica) rename(op *fileop.Op) {
	x, from, to := t.get(op.Obj), t.get(op.Parent), t.get(op.Parent2)
	bound := from != nil && from.children[op.Name] == op.Obj
	if op.Flags&fileop.RenameExchange != 0 {
		y := t.get(op.Obj2)
		bound2 := to != nil && to.children[op.Name2] == op.Obj2
		if bound {
			t.unbindKeep(op.Parent, op.Name)
		}
		if bound2 {
			t.unbindKeep(op.Parent2, op.Name2)
		}
		if x != nil && to != nil {
			t.bind(op.Obj, op.Parent2, op.Name2, op.PMtime2)
		}
		if y != nil && from != nil {
			t.bind(op.Obj2, op.Parent, op.Name, op.PMtime)
		}
		t.reap2(op.Obj)
		t.reap2(op.Obj2)
		t.touchIf(op.Parent, op.PMtime)
		t.touchIf(op.Parent2, op.PMtime2)
		return
	}
	if bound {
		t.unbindKeep(op.Parent, op.Name)
	}
	if to != nil && x != nil {
		t.bind(op.Obj, op.Parent2, op.Name2, op.PMtime2)
	} else if to != nil { // unknown: what was there is replaced all the same
		t.dropped++
		t.unbind(op.Parent2, op.Name2)
	}
	t.reap2(op.Obj)
	t.touchIf(op.Parent, op.PMtime)
	t.touchIf(op.Parent2, op.PMtime2)
}

func (t *replica) touchIf(dir fileop.ObjID, at fileop.Time) {
	if !at.IsZero() {
		t.touch(dir, at)
	}
}

func (t *replica) reap2(o fileop.ObjID) {
	if x := t.get(o); x != nil && !x.nameless && o != t.root {
		t.reap(o)
	}
}

func (t *replica) object(op *fileop.Op) {
	id := op.Obj
	if op.Kind == fileop.CopyRange {
		id = op.Obj2
	}
	x := t.get(id)
	if x == nil {
		t.dropped++
		return
	}
	switch op.Kind {
	case fileop.Write:
		x.write(op.Off, op.Data)
	case fileop.Truncate:
		x.size(op.Len)
	case fileop.Fallocate:
		x.fallocate(op)
	case fileop.CopyRange:
		if y := t.get(op.Obj); y != nil {
			y.size(max(int64(len(y.data)), op.Off+op.Len))
			x.write(op.Off2, slices.Clone(y.data[op.Off:op.Off+op.Len]))
		}
	case fileop.SetAttr:
		x.attr = *op.Attr
	case fileop.SetXattr:
		for _, v := range op.Xattrs {
			x.xattrs[v.Name] = string(v.Value)
		}
	case fileop.RemoveXattr:
		for _, v := range op.Xattrs {
			delete(x.xattrs, v.Name)
		}
	}
	if op.Kind.IsData() && !op.Mtime.IsZero() {
		x.attr.Mtime = op.Mtime
	}
}

func (x *robj) size(n int64) {
	for int64(len(x.data)) < n {
		x.data = append(x.data, make([]byte, n-int64(len(x.data)))...)
	}
	x.data = x.data[:n:n]
}

func (x *robj) write(off int64, b []byte) {
	x.size(max(int64(len(x.data)), off+int64(len(b))))
	copy(x.data[off:], b)
}

func (x *robj) fallocate(op *fileop.Op) {
	end := op.Off + op.Len
	switch {
	case op.Flags&unix.FALLOC_FL_COLLAPSE_RANGE != 0:
		x.size(max(int64(len(x.data)), end))
		x.data = slices.Delete(x.data, int(op.Off), int(end))
	case op.Flags&unix.FALLOC_FL_INSERT_RANGE != 0:
		x.size(max(int64(len(x.data)), op.Off))
		x.data = slices.Insert(x.data, int(op.Off), make([]byte, op.Len)...)
	case op.Flags&unix.FALLOC_FL_PUNCH_HOLE != 0:
		clear(x.data[min(op.Off, int64(len(x.data))):min(end, int64(len(x.data)))])
	default:
		x.size(max(int64(len(x.data)), end))
	}
}

func (t *replica) mirror(op *fileop.Op) error {
	switch op.Kind {
	case fileop.MirrorBegin:
		t.running = op.Len
		return nil
	case fileop.MirrorEnd:
		if t.running != op.Len {
			return fmt.Errorf("end of run %d in run %d", op.Len, t.running)
		}
		t.running, t.ends = 0, t.ends+1
		for o, x := range t.objs {
			if !x.settled && !x.unknown {
				return fmt.Errorf("%s is not settled at mirror end", o)
			}
		}
		return nil
	case fileop.MirrorAbort:
		return nil
	case fileop.MirrorEntry:
		return t.entry(op)
	}
	x := t.get(op.Obj)
	if x == nil {
		t.dropped++
		return nil
	}
	switch op.Kind {
	case fileop.MirrorBlock:
		x.settled = false
		if op.Flags&fileop.FlagHole != 0 {
			x.write(op.Off, make([]byte, op.Len))
		} else {
			x.write(op.Off, op.Data)
		}
	case fileop.MirrorFileEnd:
		x.size(op.Len)
		x.set(op.Attr, op.Xattrs)
		x.settled = true
	case fileop.MirrorDirEnd:
		x.set(op.Attr, op.Xattrs)
	case fileop.MirrorDir:
		t.list(op, x)
	}
	return nil
}

func (t *replica) list(op *fileop.Op, x *robj) {
	if x.list == nil {
		x.list = map[string]bool{}
	}
	for _, n := range op.Names {
		x.list[n] = true
	}
	if op.Flags&fileop.FlagMore != 0 {
		return
	}
	for name, o := range x.children {
		if !x.list[name] && !t.objs[o].unknown {
			t.unbind(op.Obj, name)
		}
	}
	x.list = nil
}

func (t *replica) entry(op *fileop.Op) error {
	if op.Parent.IsZero() {
		if t.get(op.Obj) == nil {
			t.objs[op.Obj] = newObj(op.Attr, op.Xattrs)
		}
		t.root = op.Obj
		t.objs[op.Obj].set(op.Attr, op.Xattrs)
		return nil
	}
	d := t.get(op.Parent)
	if d == nil {
		t.dropped++
		return nil
	}
	x := t.get(op.Obj)
	if x == nil {
		x = t.adopt(op, d)
	}
	t.bind(op.Obj, op.Parent, op.Name, op.PMtime)
	x.set(op.Attr, op.Xattrs)
	switch {
	case isReg(op.Attr.Mode) && op.Flags&fileop.FlagWhole != 0:
		x.data, x.settled = bytes.Clone(op.Data), true
	case isReg(op.Attr.Mode):
		x.settled = false
	case isLnk(op.Attr.Mode):
		x.target = string(op.Data)
	}
	return nil
}

// adopt takes over what nobody knew under that name, if it is of the same type.
func (t *replica) adopt(op *fileop.Op, d *robj) *robj {
	x := newObj(op.Attr, op.Xattrs)
	if old, ok := d.children[op.Name]; ok {
		if y := t.objs[old]; y.unknown && y.attr.Mode&unix.S_IFMT == op.Attr.Mode&unix.S_IFMT {
			delete(d.children, op.Name)
			delete(t.objs, old)
			x.data, x.children = y.data, y.children
			for name, c := range y.children {
				delete(t.objs[c].names, rname{old, name})
				t.objs[c].names[rname{op.Obj, name}] = true
			}
		}
	}
	t.objs[op.Obj] = x
	return x
}

// forgetIdentities makes everything unknown, as a lost catalog does.
func (t *replica) forgetIdentities() {
	old := t.objs
	root := old[t.root]
	t.objs = map[fileop.ObjID]*robj{t.root: root}
	t.forgetBelow(old, t.root, root)
}

func (t *replica) forgetBelow(old map[fileop.ObjID]*robj, id fileop.ObjID, d *robj) {
	for name, o := range d.children {
		x := *old[o]
		t.strange++
		fresh := fileop.ObjID{Ino: 1 << 60, Gen: t.strange}
		x.unknown, x.names, x.children = true, map[rname]bool{{id, name}: true}, maps.Clone(x.children)
		x.data = bytes.Clone(x.data)
		t.objs[fresh], d.children[name] = &x, fresh
		t.forgetBelow(old, fresh, &x)
	}
}

func (t *replica) entries(dir fileop.ObjID) []fileop.TargetEntry {
	var out []fileop.TargetEntry
	for name, o := range t.objs[dir].children {
		x := t.objs[o]
		e := fileop.TargetEntry{Name: name, Obj: o, Attr: x.attr, Size: int64(len(x.data)), Nlink: uint32(len(x.names)),
			Target: x.target, Xattrs: digest.Xattrs(x.xattrList())}
		if x.unknown {
			e.Obj = fileop.ObjID{}
		}
		if isReg(x.attr.Mode) && !x.settled {
			e.Attr.Mtime = fileop.Time{}
		}
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func (x *robj) xattrList() []fileop.Xattr {
	var out []fileop.Xattr
	for k, v := range x.xattrs {
		out = append(out, fileop.Xattr{Name: k, Value: []byte(v)})
	}
	return out
}

// describe is one line per name, for comparing.
func (t *replica) describe() []string {
	var out []string
	var walk func(o fileop.ObjID, path string)
	walk = func(o fileop.ObjID, path string) {
		x := t.objs[o]
		out = append(out, describe(path, o, x.attr, x.xattrList(), x.target, x.data, len(x.names)))
		for name, c := range x.children {
			if !t.objs[c].unknown {
				walk(c, join(path, name))
			}
		}
	}
	if t.get(t.root) != nil {
		walk(t.root, "")
	}
	sort.Strings(out)
	return out
}

func describe(path string, o fileop.ObjID, a fileop.Attr, xs []fileop.Xattr, target string, data []byte, links int) string {
	var xa []string
	for _, x := range xs {
		xa = append(xa, fmt.Sprintf("%s=%q", x.Name, x.Value))
	}
	sort.Strings(xa)
	s := fmt.Sprintf("%q %s mode=%o own=%d:%d mtime=%d.%09d xattr=%s", path, o, a.Mode, a.UID, a.GID, a.Mtime.Sec, a.Mtime.Nsec, strings.Join(xa, ","))
	switch {
	case isReg(a.Mode):
		s += fmt.Sprintf(" size=%d sum=%x links=%d", len(data), digest.Block(data), links)
	case isLnk(a.Mode):
		s += " -> " + target
	}
	return s
}
