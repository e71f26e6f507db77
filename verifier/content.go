package verifier

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"understudy/fileop"
	"understudy/internal/digest"
)

var buffers = sync.Pool{New: func() any { b := make([]byte, fileop.MaxData); return &b }}

func splitPath(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// object compares a file whose name has the right object on the target: its content, where
// that is asked for or the size or date tells nothing, and its attributes. likely: these
// were seen to be equal, so that equal content is enough.
func (r *run) object(root *Root, dir string, e fileop.Entry, likely bool) error {
	file, err := root.Tree.File(e)
	if err != nil {
		return err
	}
	defer file.Close()
	c := comparison{r: r, root: root, file: file, e: e, block: int64(r.cfg.BlockSize)}
	if r.opts.Checksum {
		if err := c.content(); err != nil {
			return c.passed(err)
		}
	}
	if likely && c.blocks == 0 {
		return nil
	}
	if err := c.attributes(dir); err != nil {
		return c.passed(err)
	}
	if len(c.kinds) > 0 {
		if slices.Contains(c.kinds, Size) || slices.Contains(c.kinds, Time) && !r.opts.Checksum {
			c.bytes = max(c.bytes, c.size)
		}
		r.tell(root, dir, &e, Difference{Kinds: c.kinds, Bytes: c.bytes, Blocks: c.blocks, Seq: c.seq})
	}
	return nil
}

// comparison is one file under comparison.
type comparison struct {
	r     *run
	root  *Root
	file  File
	e     fileop.Entry
	block int64

	kinds         []Kind
	blocks, bytes int64 // of content that differs
	size          int64
	seq           fileop.Seq
}

// passed counts what could not be compared because it never rested.
func (c *comparison) passed(err error) error {
	if !errors.Is(err, errMoved) {
		return err
	}
	c.r.count(func(t *Totals) { t.Unsettled++ })
	return nil
}

func (c *comparison) attributes(dir string) error {
	var now fileop.Entry
	a, err := c.exactly(&now, 0, 0, nil)
	if err != nil || !a.There {
		return err
	}
	now.Name, c.size, c.seq = c.e.Name, now.Size, a.Applied
	ours := c.r.asTarget(c.root, dir, &now)
	kinds := attrs(&ours, &a.Entry)
	if c.blocks > 0 {
		at := 0
		if len(kinds) > 0 && kinds[0] == Size {
			at = 1
		}
		kinds = slices.Insert(kinds, at, Content)
	}
	c.kinds = kinds
	return nil
}

// exactly asks about the file and n bytes of its content at off; sums gets the digests of
// the source's.
func (c *comparison) exactly(now *fileop.Entry, off, n int64, sums *[]fileop.Sum) (fileop.ProbeReply, error) {
	read := func() (q *fileop.Probe, err error) {
		if *now, err = c.file.Self(); err != nil {
			return nil, err
		}
		q = &fileop.Probe{Tree: c.root.Index, Obj: c.e.Obj}
		if n > 0 {
			q.Off, q.Len, q.Block = off, n, int(c.block)
			*sums, err = c.sums(off, n)
		}
		return q, err
	}
	return c.r.exactly(c.root, c.file.WithLock, read, func() bool {
		again, err := c.file.Self()
		return err == nil && again.Ctime == now.Ctime
	})
}

// sums are the digests of the blocks of n bytes at off, at most MaxData, as the source
// has them.
func (c *comparison) sums(off, n int64) (out []fileop.Sum, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	got, err := c.file.ReadAt((*buf)[:n], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read at byte %d: %w", off, err)
	}
	for at := int64(0); at < int64(got); at += c.block {
		out = append(out, digest.Block((*buf)[at:min(at+c.block, int64(got))]))
	}
	c.r.count(func(t *Totals) { t.Read += uint64(got) })
	return out, nil
}

// content compares block by block: quickly, and what seems to differ exactly.
func (c *comparison) content() error {
	part := fileop.MaxData / c.block * c.block
	window := fileop.DigestMax / c.block * c.block
	for off := int64(0); off < c.e.Size; off += window {
		ours, held, err := c.window(off, window, part)
		if err != nil {
			return err
		}
		for at := int64(0); at < min(window, c.e.Size-off); at += part {
			if slices.Equal(slice(ours, at/c.block, part/c.block), slice(held, at/c.block, part/c.block)) {
				continue
			}
			if err := c.confirm(off+at, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// window reads a part of the file here while the target does the same.
func (c *comparison) window(off, size, part int64) (ours, held []fileop.Sum, err error) {
	asked := make(chan error, 1)
	go func() {
		d, err := c.r.cfg.Target.Digests(c.r.ctx, fileop.DigestQuery{Tree: c.root.Index, Obj: c.e.Obj, Off: off, Len: size, Block: int(c.block)})
		held = d.Sums
		asked <- err
	}()
	for at := int64(0); err == nil && at < min(size, c.e.Size-off); at += part {
		var sums []fileop.Sum
		if sums, err = c.sums(off+at, part); err == nil {
			ours = append(ours, sums...)
			err = c.r.ctx.Err()
		}
	}
	if failed := <-asked; failed != nil {
		return nil, nil, fatal{fmt.Errorf("ask target for digests: %w", failed)}
	}
	return ours, held, err
}

func slice(s []fileop.Sum, from, n int64) []fileop.Sum {
	from = min(from, int64(len(s)))
	return s[from:min(from+n, int64(len(s)))]
}

// confirm compares a part of the file exactly.
func (c *comparison) confirm(off, n int64) error {
	var now fileop.Entry
	var ours []fileop.Sum
	a, err := c.exactly(&now, off, n, &ours)
	if err != nil || !a.There {
		return err
	}
	for i := range max(len(ours), len(a.Sums)) {
		if i < len(ours) && i < len(a.Sums) && ours[i] == a.Sums[i] {
			continue
		}
		c.blocks++
		if start := off + int64(i)*c.block; start < now.Size {
			c.bytes += min(c.block, now.Size-start)
		}
	}
	return nil
}
