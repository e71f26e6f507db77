package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"understudy/fileop"
	"understudy/internal/digest"
)

// How long to wait for a target that has not applied the last shift of a file yet,
// before its blocks are sent without comparing.
const (
	stateTries = 5
	stateWait  = 20 * time.Millisecond
)

// blocks sends only the blocks that differ (B7.5). The target's digests are of an
// earlier place in the order than the content read here; what happened in between sets
// equal bytes on both sides, unless it moved them, and then the file is started again.
func (c *copier) blocks() error {
	c.off = 0
	if err := c.file.WithLock(c.shiftsNow); err != nil {
		return err
	}
	w, next := c.ask(0), (*window)(nil)
	for ; ; w = next {
		if next = nil; w.off+c.span() < c.f.e.Size {
			next = c.ask(w.off + c.span())
		}
		done, err := c.window(w)
		if done || err != nil {
			return err
		}
		if next == nil { // it grew
			next = c.ask(c.off)
		}
	}
}

// span is the length of a window: whole blocks.
func (c *copier) span() int64 {
	block := c.r.m.cfg.BlockSize
	return int64(fileop.DigestMax / block * block)
}

// window is span bytes of a file and the target's digests of them.
type window struct {
	off   int64
	sums  []fileop.Sum
	err   error
	done  chan struct{}
	parts map[int][]fileop.Sum // of blocks that differ
}

// ask asks for the digests of the window at off.
func (c *copier) ask(off int64) *window {
	w := &window{off: off, done: make(chan struct{})}
	c.r.queries.Go(func() {
		defer close(w.done)
		w.sums, w.err = c.digests(fileop.DigestQuery{Off: off, Len: c.span(), Block: c.r.m.cfg.BlockSize})
	})
	return w
}

// digests asks for those of the file. It returns none where the target has nothing, or is
// too far behind to tell.
func (c *copier) digests(q fileop.DigestQuery) ([]fileop.Sum, error) {
	r := c.r
	q.Tree, q.Obj, q.After = r.m.cfg.Roots[c.f.root].Index, c.f.e.Obj, c.f.after
	for range stateTries {
		a, err := r.m.cfg.Target.Digests(r.ctx, q)
		if err != nil {
			return nil, fatal{fmt.Errorf("ask target for digests: %w", err)}
		}
		if !a.Known {
			return nil, nil
		}
		if a.Applied >= r.m.shifts.last(r.key(c.f.root, c.f.e.Obj)) {
			return a.Sums, nil
		}
		select {
		case <-r.ctx.Done():
		case <-time.After(stateWait):
		}
	}
	return nil, nil
}

// window compares one window and sends what differs. done: the file ended in it.
//
// It is read without the file's lock first: what equals the target's digests is equal,
// whatever is written meanwhile, as long as nothing moved; and that is looked at under the
// lock before the file is settled. Only what differs is read under the lock.
func (c *copier) window(w *window) (done bool, err error) {
	<-w.done // ends with the run's context
	if w.err != nil {
		return false, w.err
	}
	for end := w.off + c.span(); c.off < end && !done; {
		if err := c.r.m.gate.pass(c.r.ctx); err != nil {
			return false, fatal{err}
		}
		differ, last, err := c.differing(w, end)
		if err == nil {
			err = c.finer(w, differ)
		}
		if err != nil {
			return false, err
		}
		if last >= 0 && (len(differ) == 0 || differ[len(differ)-1] != last) {
			differ = append(differ, last)
		}
		if done, err = c.sendDiffering(w, differ); err != nil {
			return false, err
		}
		if last < 0 {
			c.off = end
		}
	}
	return done, nil
}

// differing finds the blocks between c.off and end that are not what the target has. last
// is the block in which the file ended, or -1.
func (c *copier) differing(w *window, end int64) (differ []int, last int, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	block := c.r.m.cfg.BlockSize
	for at := c.off; at < end; {
		if c.r.ctx.Err() != nil {
			return nil, 0, fatal{context.Cause(c.r.ctx)}
		}
		n := min(end-at, int64(fileop.MaxData/block*block))
		got, err := c.file.ReadAt((*buf)[:n], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, fmt.Errorf("read at byte %d: %w", at, err)
		}
		first := int(at-w.off) / block
		for i := 0; i < got; i += block {
			if !w.equal(first+i/block, (*buf)[i:min(i+block, got)]) {
				differ = append(differ, first+i/block)
			}
		}
		if int64(got) < n {
			return differ, first + got/block, nil
		}
		at += n
	}
	return differ, -1, nil
}

// equal reports that the target has block k of the window as it is in b.
func (w *window) equal(k int, b []byte) bool { return k < len(w.sums) && digest.Block(b) == w.sums[k] }

// finer asks for digests of the parts of the blocks that differ, so that a page of a
// database costs no more than a page. Where most of a window differs whole blocks are sent.
func (c *copier) finer(w *window, differ []int) error {
	block, part := c.r.m.cfg.BlockSize, c.r.m.cfg.PartSize
	w.parts = nil
	var ask []int
	for _, k := range differ {
		if k < len(w.sums) { // else the target has nothing there
			ask = append(ask, k)
		}
	}
	if len(ask) == 0 || len(ask) > len(w.sums)*3/4 && len(w.sums) > 4 || block%part != 0 || block == part {
		return nil
	}
	sums, err := c.digests(fileop.DigestQuery{Off: w.off, Block: part, Span: block, Spans: ask})
	per := block / part
	if err != nil || len(sums) != len(ask)*per { // an older target answers with none
		return err
	}
	w.parts = map[int][]fileop.Sum{}
	for i, k := range ask {
		w.parts[k] = sums[i*per : (i+1)*per]
	}
	return nil
}

// sendDiffering sends what differs in these blocks. done: the file ended in one of them.
func (c *copier) sendDiffering(w *window, differ []int) (done bool, err error) {
	block := c.r.m.cfg.BlockSize
	for len(differ) > 0 && !done {
		n := 1
		for n < len(differ) && differ[n] == differ[n-1]+1 && (n+1)*block <= fileop.MaxData {
			n++
		}
		if err := c.r.m.gate.pass(c.r.ctx); err != nil {
			return false, fatal{err}
		}
		if err := c.r.credit(n*block + recordOverhead); err != nil {
			return false, err
		}
		err := c.file.WithLock(func() (err error) {
			if c.file.Shifts() != c.shifts {
				return errShifted
			}
			done, err = c.segment(w, differ[0], n)
			return err
		})
		if err != nil {
			return false, err
		}
		differ = differ[n:]
	}
	return done, nil
}

// segment reads n blocks again and sends what differs, neighbours together. The file is
// locked.
func (c *copier) segment(w *window, first, n int) (done bool, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	block := c.r.m.cfg.BlockSize
	c.off = w.off + int64(first*block)
	got, err := c.file.ReadAt((*buf)[:n*block], c.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read at byte %d: %w", c.off, err)
	}
	b := (*buf)[:got]
	from := -1 // start in b of what differs and is not sent yet
	for i := 0; i < got; {
		size, equal := w.compare(first+i/block, b[i:min(i+block-i%block, got)], i%block, c.r.m.cfg.PartSize)
		if equal {
			if err := c.flush(b, from, i); err != nil {
				return false, err
			}
			from = -1
		} else if from < 0 {
			from = i
		}
		i += size
	}
	if err := c.flush(b, from, got); err != nil {
		return false, err
	}
	c.off += int64(got)
	if got == n*block {
		return false, nil
	}
	self, err := c.file.Self()
	if err != nil {
		return false, err
	}
	return true, c.settle(&self)
}

// compare tells whether the target has what begins at byte at of block k, which is b to its
// end, and of how many bytes that is said.
func (w *window) compare(k int, b []byte, at, part int) (size int, equal bool) {
	if at == 0 && w.equal(k, b) {
		return len(b), true
	}
	parts := w.parts[k]
	if parts == nil {
		return len(b), false
	}
	size = min(part, len(b))
	return size, digest.Block(b[:size]) == parts[at/part]
}

// flush sends b[from:to], as a hole if it is one.
func (c *copier) flush(b []byte, from, to int) error {
	if from < 0 || from >= to {
		return nil
	}
	start, end := c.off+int64(from), c.off+int64(to)
	at, _, err := c.file.Data(start)
	if errors.Is(err, io.EOF) || err == nil && at >= end {
		return c.hole(start, end)
	}
	return c.block(start, b[from:to])
}
