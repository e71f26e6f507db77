package model

import (
	"path"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/sametree"
)

// Snapshot is the first tree as sametree.Snapshot would find it on a disk. Where data
// is allocated is not known to the model.
func (m *Model) Snapshot() *sametree.Tree { return m.SnapshotTree(0) }

// SnapshotTree is Snapshot of any tree.
func (m *Model) SnapshotTree(number uint32) *sametree.Tree {
	t := m.trees[number]
	out := &sametree.Tree{Nodes: map[string]*sametree.Node{}}
	if o := t.objs[t.root]; o != nil {
		t.walk(out, ".", o)
	}
	return out
}

func (t *tree) walk(out *sametree.Tree, p string, o *object) {
	out.Nodes[p] = o.node()
	for name, id := range o.children {
		t.walk(out, path.Join(p, name), t.objs[id])
	}
}

func (o *object) node() *sametree.Node {
	n := &sametree.Node{Mode: o.attr.Mode, UID: o.attr.UID, GID: o.attr.GID, Target: o.target,
		Mtime: sametree.Time(o.attr.Mtime), ID: [2]uint64{o.id.Ino, o.id.Gen}}
	if len(o.xattrs) > 0 {
		n.Xattrs = o.xattrs
	}
	switch o.attr.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Size, n.Blocks = o.content.size, o.content.blocks()
	case unix.S_IFBLK, unix.S_IFCHR:
		n.Rdev = o.attr.Rdev
	}
	return n
}

// Known reports whether an object is known, and how many names it has.
func (m *Model) Known(number uint32, id fileop.ObjID) (names int, ok bool) {
	o := m.trees[number].objs[id]
	if o == nil {
		return 0, false
	}
	return len(o.names), true
}
