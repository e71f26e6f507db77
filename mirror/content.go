package mirror

import (
	"errors"
	"fmt"
	"io"

	"understudy/fileop"
)

// errShifted: the file's content moved to other offsets while it was read.
var errShifted = errors.New("content moved")

// A file that is cut more often than it can be read is read in one lock hold after
// manyShifts attempts, if it is no larger than lockedFile: that much the log has to
// take without credit. A larger one is given up after maxShiftsPerFile.
const (
	manyShifts       = 8
	maxShiftsPerFile = 64
	lockedFile       = 16 << 20
)

// content sends a regular file's content from the work list.
func (r *run) content(f *frame) error {
	r.m.prog.at(join(f.dir, f.e.Name))
	r.m.prog.contents.Add(1)
	file, err := r.m.cfg.Roots[f.root].Tree.File(f.e)
	if err != nil {
		return err
	}
	defer file.Close()
	c := &copier{r: r, f: f, file: file, at: spot{root: f.root, dir: f.dir}}
	for try := range maxShiftsPerFile {
		c.patient = try >= manyShifts
		attempt := c.run
		if r.opts.Mode == Diff && (r.opts.Checksum || f.blocks) && !f.fresh && !c.patient {
			attempt = c.blocks
		}
		if err = attempt(); !errors.Is(err, errShifted) {
			return err
		}
	}
	return fmt.Errorf("%w while it was read, %d times", errShifted, maxShiftsPerFile)
}

// copier sends one file's content chunk by chunk.
type copier struct {
	r       *run
	f       *frame
	file    File
	at      spot
	shifts  uint64 // File.Shifts when the present attempt began
	off     int64
	patient bool // the file is cut all the time: keep its lock from start to end
}

func (c *copier) run() error {
	c.off = 0
	if c.patient {
		if self, err := c.file.Self(); err != nil || self.Size <= lockedFile {
			return c.file.WithLock(c.whole)
		}
	}
	if err := c.file.WithLock(c.shiftsNow); err != nil {
		return err
	}
	for done := false; !done; {
		if err := c.r.m.gate.pass(c.r.ctx); err != nil {
			return fatal{err}
		}
		if err := c.r.credit(fileop.MaxData + recordOverhead); err != nil {
			return err
		}
		err := c.file.WithLock(func() (err error) {
			if c.file.Shifts() != c.shifts {
				return errShifted
			}
			done, err = c.chunk()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) shiftsNow() error {
	c.shifts = c.file.Shifts()
	return nil
}

// whole sends everything in one lock hold.
func (c *copier) whole() error {
	for {
		if done, err := c.chunk(); done || err != nil {
			return err
		}
	}
}

// chunk sends the next hole and the next data, or the end. The file is locked.
func (c *copier) chunk() (done bool, err error) {
	start, end, err := c.file.Data(c.off)
	if errors.Is(err, io.EOF) {
		return true, c.end()
	}
	if err != nil {
		return false, fmt.Errorf("find data: %w", err)
	}
	if start > c.off {
		if err := c.hole(c.off, start); err != nil {
			return false, err
		}
		c.off = start
	}
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	n, err := c.file.ReadAt((*b)[:min(int64(len(*b)), end-start)], start)
	if n > 0 {
		err = c.block(start, (*b)[:n])
		c.off += int64(n)
		return false, err
	}
	if errors.Is(err, io.EOF) {
		return true, c.end()
	}
	return false, fmt.Errorf("read at byte %d: %w", start, err)
}

func (c *copier) op(k fileop.Kind) fileop.Op {
	return fileop.Op{Kind: k, Tree: c.r.m.cfg.Roots[c.f.root].Index, Obj: c.f.e.Obj}
}

func (c *copier) block(off int64, b []byte) error {
	o := c.op(fileop.MirrorBlock)
	o.Off, o.Data = off, b
	_, err := c.r.m.putMirror(&o)
	c.r.m.prog.sent.Add(uint64(len(b)))
	c.r.m.prog.bytes.Add(uint64(len(b)))
	return err
}

func (c *copier) hole(off, end int64) error {
	if end <= off {
		return nil
	}
	o := c.op(fileop.MirrorBlock)
	o.Off, o.Len, o.Flags = off, end-off, fileop.FlagHole
	_, err := c.r.m.putMirror(&o)
	c.r.m.prog.bytes.Add(uint64(end - off))
	return err
}

// end sends the hole at the end and what settles the file. The file is locked.
func (c *copier) end() error {
	self, err := c.file.Self()
	if err != nil {
		return err
	}
	if err := c.hole(c.off, self.Size); err != nil {
		return err
	}
	return c.settle(&self)
}

// settle ends the file; what was sent and the live changes together are its content.
func (c *copier) settle(self *fileop.Entry) error {
	self.Name = c.f.e.Name
	o := c.r.endOp(c.at, self)
	c.r.m.mu.Lock()
	defer c.r.m.mu.Unlock()
	_, err := c.r.m.putMirror(&o)
	c.r.seen.clear(c.r.key(c.f.root, c.f.e.Obj), seenOpen)
	return err
}
