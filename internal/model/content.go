package model

import (
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/sametree"
)

const pageSize = sametree.BlockSize

// page is a piece of content. Only the content it belongs to may change it.
type page struct {
	owner *content
	b     [pageSize]byte
}

// content of a regular file. What no page covers is zeros; a page's bytes past the end
// of the file are zeros too.
type content struct {
	size  int64
	pages map[int64]*page
	sums  map[int64]sametree.Sum // of all pages but the dirty ones; never changed in place
	dirty map[int64]struct{}     // pages changed or gone since
}

func newContent() *content {
	return &content{pages: map[int64]*page{}, dirty: map[int64]struct{}{}}
}

// fork returns a content of the same bytes that owns none of the pages and copies each
// before it changes it. c itself still owns them, so it must be replaced by a fork too.
func (c *content) fork() *content {
	return &content{c.size, maps.Clone(c.pages), c.sums, maps.Clone(c.dirty)}
}

// own returns a page to be changed.
func (c *content) own(i int64) *page {
	p := c.pages[i]
	switch {
	case p == nil:
		p = &page{owner: c}
	case p.owner != c:
		p = &page{c, p.b}
	}
	c.pages[i] = p
	c.dirty[i] = struct{}{}
	return p
}

func (c *content) drop(i int64) {
	delete(c.pages, i)
	c.dirty[i] = struct{}{}
}

func (c *content) write(b []byte, off int64) {
	c.size = max(c.size, off+int64(len(b)))
	for len(b) > 0 {
		n := copy(c.own(off / pageSize).b[off%pageSize:], b)
		b, off = b[n:], off+int64(n)
	}
}

func (c *content) read(off, n int64) []byte {
	b := make([]byte, max(0, min(n, c.size-off)))
	for k := 0; k < len(b); {
		at := (off + int64(k)) % pageSize
		step := min(len(b)-k, int(pageSize-at))
		if p := c.pages[(off+int64(k))/pageSize]; p != nil {
			copy(b[k:k+step], p.b[at:])
		}
		k += step
	}
	return b
}

// zero makes a range zeros. It may reach past the end, which does not move.
func (c *content) zero(off, end int64) {
	for _, i := range c.within(off, end) {
		lo, hi := max(off, i*pageSize)-i*pageSize, min(end, (i+1)*pageSize)-i*pageSize
		if lo == 0 && hi == pageSize {
			c.drop(i)
		} else {
			clear(c.own(i).b[lo:hi])
		}
	}
}

// within lists the pages that overlap a range.
func (c *content) within(off, end int64) []int64 {
	var list []int64
	if off >= end {
		return nil
	}
	first, last := off/pageSize, (end-1)/pageSize
	if last-first < int64(len(c.pages)) {
		for i := first; i <= last; i++ {
			if c.pages[i] != nil {
				list = append(list, i)
			}
		}
		return list
	}
	for i := range c.pages {
		if first <= i && i <= last {
			list = append(list, i)
		}
	}
	return list
}

func (c *content) truncate(n int64) {
	if n < c.size {
		c.zero(n, c.size+pageSize)
	}
	c.size = n
}

// shift moves what begins at off by delta bytes: back over what stood before it, or
// forth, leaving zeros.
func (c *content) shift(off, delta int64) {
	size := c.size + delta
	if off%pageSize != 0 || delta%pageSize != 0 {
		tail := c.read(off, c.size-off)
		c.zero(min(off, off+delta), c.size)
		c.size = size
		c.write(tail, off+delta)
		return
	}
	moved := map[int64]*page{}
	for i, p := range c.pages {
		switch at := i * pageSize; {
		case at >= off:
			moved[i+delta/pageSize] = p
			c.drop(i)
		case at >= off+delta:
			c.drop(i)
		}
	}
	for i, p := range moved {
		c.pages[i] = p
		c.dirty[i] = struct{}{}
	}
	c.size = size
}

func (c *content) fallocate(mode uint32, off, n int64) error {
	end := off + n
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case unix.FALLOC_FL_COLLAPSE_RANGE:
		if end > c.size {
			return fmt.Errorf("%w: collapse to byte %d of %d", ErrImpossible, end, c.size)
		}
		c.shift(end, -n)
		return nil
	case unix.FALLOC_FL_INSERT_RANGE:
		c.shift(off, n)
		return nil
	case unix.FALLOC_FL_PUNCH_HOLE:
		c.zero(off, end)
		return nil
	case unix.FALLOC_FL_ZERO_RANGE:
		c.zero(off, end)
	case 0, unix.FALLOC_FL_UNSHARE_RANGE:
	default:
		return fmt.Errorf("%w: fallocate mode %#x", ErrImpossible, mode)
	}
	if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
		c.size = max(c.size, end)
	}
	return nil
}

// blocks digests the pages. The map must not be changed.
func (c *content) blocks() map[int64]sametree.Sum {
	if len(c.dirty) == 0 && c.sums != nil {
		return c.sums
	}
	sums := maps.Clone(c.sums)
	if sums == nil {
		sums = map[int64]sametree.Sum{}
	}
	for i := range c.dirty {
		delete(sums, i)
		if p := c.pages[i]; p != nil {
			if sum, zero := sametree.BlockSum(p.b[:]); !zero {
				sums[i] = sum
			}
		}
	}
	c.sums = sums
	clear(c.dirty)
	return sums
}

// file finds a regular file that is known.
func (t *tree) file(id fileop.ObjID) (*object, error) {
	o := t.objs[id]
	if o == nil {
		return nil, errDropped
	}
	if !o.isReg() {
		return nil, fmt.Errorf("%w: content of %s, which is no file", ErrImpossible, id)
	}
	return o, nil
}

func (t *tree) change(op *fileop.Op) error {
	o, err := t.file(op.Obj)
	if err != nil {
		return err
	}
	switch op.Kind {
	case fileop.Write:
		o.content.write(op.Data, op.Off)
	case fileop.Truncate:
		o.content.truncate(op.Len)
	case fileop.Fallocate:
		err = o.content.fallocate(op.Flags, op.Off, op.Len)
	}
	o.changed(op.Mtime)
	return err
}

// changed notes a change of content.
func (o *object) changed(mtime fileop.Time) {
	if !mtime.IsZero() {
		o.attr.Mtime = mtime
	}
	o.dropXattr(capability)
}

func (t *tree) copyRange(op *fileop.Op) error {
	from, err := t.file(op.Obj)
	if err != nil {
		return err
	}
	to, err := t.file(op.Obj2)
	if err != nil {
		return err
	}
	to.content.write(from.content.read(op.Off, op.Len), op.Off2)
	to.changed(op.Mtime)
	return nil
}
