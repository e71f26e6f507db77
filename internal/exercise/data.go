package exercise

import (
	"os"

	"golang.org/x/sys/unix"
)

// data draws up to n bytes; a third of it is zeros, which a copy might take for holes.
func (w *worker) data(n int) []byte {
	b := make([]byte, 1+w.r.IntN(n))
	if w.r.IntN(3) == 0 {
		return b
	}
	v := byte(w.r.Uint32())
	for i := range b {
		b[i] = v + byte(i*5) + byte(i>>8)
	}
	return b
}

// place draws an offset; half of them at a block.
func (w *worker) place() int64 {
	off := w.r.IntN(w.opt.MaxFileSize)
	if w.r.IntN(2) == 0 {
		off = off / blockSize * blockSize
	}
	return int64(off)
}

func (w *worker) write() error {
	f, err := w.some()
	if err != nil {
		return err
	}
	b, off := w.data(16<<10), w.place()
	if f.append {
		off = -1 // pwrite would append too, but only Linux says so
	}
	w.trace.add("write %d bytes to %d at %d", len(b), f.fd, off)
	return w.bounded(f, func() error { return writeAll(f.fd, b, off) })
}

// bounded keeps files that only grow from growing for ever.
func (w *worker) bounded(f openFile, write func() error) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	if st.Size > int64(2*w.opt.MaxFileSize) {
		return retry(func() error { return unix.Ftruncate(f.fd, int64(w.r.IntN(4096))) })
	}
	return write()
}

// appendData writes through any descriptor that appends.
func (w *worker) appendData() error {
	for _, f := range w.fds {
		if f.append {
			b := w.data(4 << 10)
			w.trace.add("append %d bytes to %d", len(b), f.fd)
			return w.bounded(f, func() error { return writeAll(f.fd, b, -1) })
		}
	}
	return errSkip
}

func (w *worker) truncate() error {
	rel, ok := w.world.file(w.r)
	if !ok {
		return errSkip
	}
	n := w.place()
	w.trace.add("truncate %q to %d", rel, n)
	if err := w.regular(rel); err != nil {
		return err
	}
	return retry(func() error { return unix.Truncate(w.world.abs(rel), n) })
}

func (w *worker) ftruncate() error {
	f, err := w.some()
	if err != nil {
		return err
	}
	n := w.place()
	w.trace.add("truncate %d to %d", f.fd, n)
	return retry(func() error { return unix.Ftruncate(f.fd, n) })
}

var fallModes = []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
	unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
	unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}

func (w *worker) fallocate() error {
	f, err := w.some()
	if err != nil || w.opt.NoFalloc {
		return errSkip
	}
	mode, off, n := fallModes[w.r.IntN(len(fallModes))], w.place(), int64(1+w.r.IntN(64<<10))
	if mode == unix.FALLOC_FL_COLLAPSE_RANGE || mode == unix.FALLOC_FL_INSERT_RANGE {
		off, n = off/blockSize*blockSize, (n/4+blockSize)/blockSize*blockSize
	}
	w.trace.add("fallocate %d mode %#x, %d at %d", f.fd, mode, n, off)
	return w.bounded(f, func() error { return retry(func() error { return unix.Fallocate(f.fd, mode, off, n) }) })
}

func (w *worker) copyRange() error {
	from, err := w.some()
	if err != nil {
		return err
	}
	to, _ := w.some()
	off, off2, n := w.place(), w.place(), 1+w.r.IntN(64<<10)
	if to.append {
		return errSkip // EBADF by definition
	}
	w.trace.add("copy %d bytes from %d at %d to %d at %d", n, from.fd, off, to.fd, off2)
	return retry(func() error {
		_, err := unix.CopyFileRange(from.fd, &off, to.fd, &off2, n, 0)
		return err
	})
}

func (w *worker) read() error {
	f, err := w.some()
	if err != nil {
		return err
	}
	off := w.place()
	w.trace.add("read %d at %d", f.fd, off)
	return retry(func() error { _, err := unix.Pread(f.fd, make([]byte, 8<<10), off); return err })
}

func (w *worker) readdir() error {
	rel, ok := w.world.subdir(w.r)
	if !ok {
		return errSkip
	}
	w.trace.add("readdir %q", rel)
	f, err := os.Open(w.world.abs(rel))
	if err != nil {
		w.forget(rel, err)
		return err
	}
	defer f.Close()
	_, err = f.Readdirnames(-1)
	return err
}

func (w *worker) fsync() error {
	f, err := w.some()
	if err != nil {
		return err
	}
	w.trace.add("fsync %d", f.fd)
	return retry(func() error { return unix.Fsync(f.fd) })
}

func (w *worker) fdatasync() error {
	f, err := w.some()
	if err != nil {
		return err
	}
	w.trace.add("fdatasync %d", f.fd)
	return retry(func() error { return unix.Fdatasync(f.fd) })
}
