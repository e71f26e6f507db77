package stacked

import (
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// changes collects what one request did to one object, to be given out together.
type changes struct {
	f      *fileSystem
	n      *node
	fd     int // any descriptor of n
	tapped bool
	ops    []*fileop.Op
	path   string // of n, once known

	it          *intent
	attrChanged bool // emit adds the full state
	atime       bool // the access time was set
}

// change runs do under the lock of n, and gives out what it did, also if it failed in
// the middle.
func (f *fileSystem) change(n *node, fd int, do func(*changes) error) error {
	l := f.locks.lock(n.obj)
	defer f.locks.unlock(l)
	c := changes{f: f, n: n, fd: fd}
	err := do(&c)
	if failPoint("after call"); err != nil {
		f.open.withdraw(c.it)
		c.it = nil
	}
	c.emit()
	c.it.told()
	return err
}

// listening reports, after an effect, whether it has to be described.
func (c *changes) listening() bool {
	c.tapped = c.f.sinks.tapped()
	return c.tapped
}

// add appends an operation on the object.
func (c *changes) add(op *fileop.Op) {
	if c.path == "" {
		c.path = c.f.nodes.path(c.n)
	}
	op.Obj, op.Path = c.n.obj, c.path
	c.ops = append(c.ops, op)
}

// emit gives out the operations; the full state comes last.
func (c *changes) emit() {
	if c.attrChanged && c.listening() {
		var st unix.Stat_t
		if err := unix.Fstat(c.fd, &st); err != nil {
			c.f.log.Error("changed attributes not logged", "err", err)
		} else {
			attr := fsx.AttrOf(&st)
			if c.atime {
				attr.Atime = fsx.TimeOf(st.Atim)
			}
			c.add(&fileop.Op{Kind: fileop.SetAttr, Attr: &attr})
		}
	}
	if len(c.ops) > 0 {
		c.f.emitFor(c.it, c.ops...)
	}
}
