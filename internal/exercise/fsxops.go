package exercise

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// piece draws a range inside the file; n is 0 if the file is empty.
func (x *fsx) piece() (off, n int) {
	if len(x.good) == 0 {
		return 0, 0
	}
	off = x.r.IntN(len(x.good))
	return off, 1 + x.r.IntN(min(len(x.good)-off, 64<<10))
}

// place draws a range that may reach over the end of the file.
func (x *fsx) place() (off, n int) {
	off = x.r.IntN(x.opt.MaxSize)
	if x.r.IntN(3) == 0 {
		off = off / blockSize * blockSize
	}
	return off, 1 + x.r.IntN(min(x.opt.MaxSize-off, 64<<10))
}

func (x *fsx) bytes(n int) []byte {
	b := make([]byte, n)
	v := byte(x.r.Uint32())
	for i := range b {
		b[i] = v + byte(i*7) + byte(i>>9)
	}
	return b
}

// grow makes the copy at least n bytes long.
func (x *fsx) grow(n int) {
	if n > len(x.good) {
		x.good = append(x.good, make([]byte, n-len(x.good))...)
	}
}

func (x *fsx) read() error {
	off, n := x.piece()
	x.trace.add("read %d at %d", n, off)
	return x.check(off, n)
}

func (x *fsx) write() error {
	off, n := x.place()
	b := x.bytes(n)
	x.trace.add("write %d at %d", n, off)
	if err := writeAll(x.fd, b, int64(off)); err != nil {
		return err
	}
	x.grow(off + n)
	copy(x.good[off:], b)
	return nil
}

// writeAll writes at off, or where the descriptor stands if off is negative.
func writeAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		var n int
		err := retry(func() (err error) {
			if off < 0 {
				n, err = unix.Write(fd, b)
			} else {
				n, err = unix.Pwrite(fd, b, off)
			}
			return err
		})
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("write of %d bytes wrote none", len(b))
		}
		b = b[n:]
		if off >= 0 {
			off += int64(n)
		}
	}
	return nil
}

func (x *fsx) append() error {
	room := x.opt.MaxSize - len(x.good)
	if room <= 0 {
		return nil
	}
	b := x.bytes(1 + x.r.IntN(min(room, 16<<10)))
	x.trace.add("append %d to %d", len(b), len(x.good))
	if err := writeAll(x.afd, b, -1); err != nil {
		return err
	}
	x.good = append(x.good, b...)
	return nil
}

func (x *fsx) truncate() error {
	n := x.r.IntN(x.opt.MaxSize)
	x.trace.add("truncate %d to %d", len(x.good), n)
	if err := retry(func() error { return unix.Ftruncate(x.fd, int64(n)) }); err != nil {
		return err
	}
	x.grow(n)
	x.good = x.good[:n:n] // a later growth must not find the old bytes
	return nil
}

// mapped calls f with a mapping of the pages that hold n bytes at off.
func (x *fsx) mapped(off, n int, prot int, f func(b []byte)) error {
	start := off / blockSize * blockSize
	m, err := unix.Mmap(x.fd, int64(start), off-start+n, prot, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(m)
	f(m[off-start:])
	if prot&unix.PROT_WRITE != 0 {
		return unix.Msync(m, unix.MS_SYNC)
	}
	return nil
}

func (x *fsx) mapRead() error {
	off, n := x.piece()
	if n == 0 || x.opt.NoMmap {
		return nil
	}
	x.trace.add("mapped read %d at %d", n, off)
	got := make([]byte, n)
	if err := x.mapped(off, n, unix.PROT_READ, func(b []byte) { copy(got, b) }); err != nil {
		return err
	}
	return x.compare(off, got)
}

func (x *fsx) mapWrite() error {
	off, n := x.piece()
	if n == 0 || x.opt.NoMmap {
		return nil
	}
	b := x.bytes(n)
	x.trace.add("mapped store %d at %d", n, off)
	copy(x.good[off:], b)
	return x.mapped(off, n, unix.PROT_READ|unix.PROT_WRITE, func(m []byte) { copy(m, b) })
}

func (x *fsx) reopen() error {
	x.trace.add("reopen")
	x.close()
	return x.open(0)
}

func (x *fsx) sync() error {
	x.trace.add("fsync")
	return retry(func() error { return unix.Fsync(x.fd) })
}

// copyRange copies within the file, between ranges that do not overlap.
func (x *fsx) copyRange() error {
	off, n := x.piece()
	to, _ := x.place()
	n = min(n, x.opt.MaxSize-to)
	if n == 0 || x.opt.NoCopy || off < to+n && to < off+n {
		return nil
	}
	x.trace.add("copy %d from %d to %d", n, off, to)
	for done := 0; done < n; {
		from, dest := int64(off+done), int64(to+done)
		var k int
		err := retry(func() (err error) {
			k, err = unix.CopyFileRange(x.fd, &from, x.fd, &dest, n-done, 0)
			return err
		})
		if err != nil {
			return err
		}
		if k == 0 {
			return fmt.Errorf("copied %d of %d bytes", done, n)
		}
		done += k
	}
	x.grow(to + n)
	copy(x.good[to:], x.good[off:off+n])
	return nil
}

// fall is fallocate with one mode.
func fall(mode uint32) func(x *fsx) error {
	return func(x *fsx) error {
		if x.opt.NoFalloc {
			return nil
		}
		off, n := x.place()
		shift := mode == unix.FALLOC_FL_COLLAPSE_RANGE || mode == unix.FALLOC_FL_INSERT_RANGE
		if shift {
			off, n = off/blockSize*blockSize, (n/4+blockSize)/blockSize*blockSize
			if off >= len(x.good) || mode == unix.FALLOC_FL_COLLAPSE_RANGE && off+n >= len(x.good) ||
				mode == unix.FALLOC_FL_INSERT_RANGE && len(x.good)+n > x.opt.MaxSize {
				return nil
			}
		}
		x.trace.add("fallocate mode %#x, %d at %d, size %d", mode, n, off, len(x.good))
		err := retry(func() error { return unix.Fallocate(x.fd, mode, int64(off), int64(n)) })
		if err == nil {
			x.fallocated(mode, off, n)
		}
		return err
	}
}

// fallocated does to the copy what fallocate did to the file.
func (x *fsx) fallocated(mode uint32, off, n int) {
	switch {
	case mode == unix.FALLOC_FL_COLLAPSE_RANGE:
		x.good = append(x.good[:off:off], x.good[off+n:]...)
		return
	case mode == unix.FALLOC_FL_INSERT_RANGE:
		tail := append(make([]byte, n), x.good[off:]...)
		x.good = append(x.good[:off:off], tail...)
		return
	case mode&unix.FALLOC_FL_KEEP_SIZE == 0:
		x.grow(off + n)
	}
	if mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 && off < len(x.good) {
		clear(x.good[off:min(off+n, len(x.good))])
	}
}
