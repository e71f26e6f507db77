package mirror

import (
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
	off  int64
	sums []fileop.Sum
	err  error
	done chan struct{}
}

// ask asks for the digests of the window at off.
func (c *copier) ask(off int64) *window {
	w := &window{off: off, done: make(chan struct{})}
	c.r.queries.Go(func() {
		defer close(w.done)
		w.sums, w.err = c.digests(off)
	})
	return w
}

// digests returns none where the target has nothing, or is too far behind to tell.
func (c *copier) digests(off int64) ([]fileop.Sum, error) {
	r := c.r
	block := r.m.cfg.BlockSize
	q := fileop.DigestQuery{Tree: r.m.cfg.Roots[c.f.root].Index, Obj: c.f.e.Obj, After: c.f.after, Off: off,
		Len: c.span(), Block: block}
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

// window compares one window. done: the file ended in it.
func (c *copier) window(w *window) (done bool, err error) {
	<-w.done // ends with the run's context
	if w.err != nil {
		return false, w.err
	}
	block := int64(c.r.m.cfg.BlockSize)
	end := w.off + c.span()
	sent := 0
	for c.off < end && !done {
		if err := c.r.m.gate.pass(c.r.ctx); err != nil {
			return false, fatal{err}
		}
		if err := c.r.credit(sent + recordOverhead); err != nil {
			return false, err
		}
		err := c.file.WithLock(func() (err error) {
			if c.file.Shifts() != c.shifts {
				return errShifted
			}
			sent, done, err = c.segment(w, min(end-c.off, fileop.MaxData/block*block))
			return err
		})
		if err != nil {
			return false, err
		}
	}
	return done, nil
}

// segment compares the next n bytes and sends what differs, neighbours together. The
// file is locked.
func (c *copier) segment(w *window, n int64) (sent int, done bool, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	got, err := c.file.ReadAt((*buf)[:n], c.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, false, fmt.Errorf("read at byte %d: %w", c.off, err)
	}
	done = int64(got) < n
	b := (*buf)[:got]
	block := c.r.m.cfg.BlockSize
	from := -1 // start in b of the differing blocks not sent yet
	for i := 0; i < len(b); i += block {
		part := b[i:min(i+block, len(b))]
		k := int(c.off-w.off+int64(i)) / block
		if k < len(w.sums) && digest.Block(part) == w.sums[k] {
			if err := c.flush(b, from, i); err != nil {
				return sent, false, err
			}
			from = -1
			continue
		}
		if from < 0 {
			from = i
		}
		sent += len(part)
	}
	if err := c.flush(b, from, len(b)); err != nil {
		return sent, false, err
	}
	c.off += int64(got)
	if !done {
		return sent, false, nil
	}
	self, err := c.file.Self()
	if err != nil {
		return sent, false, err
	}
	return sent, true, c.settle(&self)
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
