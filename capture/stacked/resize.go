package stacked

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// truncate sets the size by file, a descriptor open for writing, or by name if it is -1.
func (c *changes) truncate(file int, size int64, kill bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(c.fd, &st); err != nil {
		return err
	}
	err := error(unix.EINVAL)
	if file >= 0 {
		_, err = noEINTR(func() (int, error) { return 0, unix.Ftruncate(file, size) })
	}
	if errors.Is(err, unix.EINVAL) { // no file, or opened with O_RDONLY|O_TRUNC
		_, err = noEINTR(func() (int, error) { return 0, unix.Truncate(fsx.ProcPath(c.fd), size) })
	}
	if err != nil {
		c.resized(err)
		return err
	}
	if size < st.Size {
		c.f.locks.shifted(c.n.obj)
	}
	if c.listening() {
		c.add(&fileop.Op{Kind: fileop.Truncate, Len: size, Mtime: mtime(c.fd)})
	}
	if kill {
		c.killPriv()
	}
	return nil
}

// resized logs the size a failed call left behind: one that runs out of space may have
// done a part of its work.
func (c *changes) resized(err error) {
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.EIO) {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(c.fd, &st) != nil || !c.listening() {
		return
	}
	c.f.locks.shifted(c.n.obj)
	c.add(&fileop.Op{Kind: fileop.Truncate, Len: st.Size, Mtime: fsx.TimeOf(st.Mtim)})
}

// Fallocate has the modes the kernel forwards: keep size, punch hole, zero range.
func (f *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	o := f.file(in.Fh)
	if o == nil {
		return fuse.EBADF
	}
	f.sinks.pace()
	f.touching(o.n, o.fd, 0)
	return status(f.change(o.n, o.fd, func(c *changes) error { return c.fallocate(in) }))
}

func (c *changes) fallocate(in *fuse.FallocateIn) error {
	off, size := int64(in.Offset), int64(in.Length)
	_, err := noEINTR(func() (int, error) { return 0, unix.Fallocate(c.fd, in.Mode, off, size) })
	if err != nil {
		c.resized(err)
		return err
	}
	if in.Mode&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
		c.f.locks.shifted(c.n.obj)
	}
	if c.listening() {
		c.add(&fileop.Op{Kind: fileop.Fallocate, Off: off, Len: size, Flags: in.Mode, Mtime: mtime(c.fd)})
	}
	if in.Uid != 0 { // no flag says what the caller may; only root is sure to keep the bits
		c.killPriv()
	}
	return nil
}

const (
	// minCopyRange is where a range copied is logged as such: below, the bytes cost less
	// than reading two objects in order on the target.
	minCopyRange = 1 << 20
	// maxCopyRange bounds how long one request holds its two locks.
	maxCopyRange = 16 << 20
)

// CopyFileRange copies below. While a mirror runs the target may lack what is copied
// from, so the bytes are logged.
func (f *fileSystem) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	src, dst := f.file(in.FhIn), f.files.get(in.FhOut)
	if src == nil || dst == nil {
		return 0, fuse.EBADF
	}
	f.sinks.pace()
	f.touching(dst.n, dst.fd, int64(in.OffOut))
	s := f.locks.lockAll(nil, []fileop.ObjID{src.n.obj, dst.n.obj})
	defer s.unlock()
	whole := in.Len >= minCopyRange && f.mirrors.Load() == 0
	size := int(min(in.Len, minCopyRange))
	if whole {
		size = int(min(in.Len, maxCopyRange))
	}
	from, to := int64(in.OffIn), int64(in.OffOut)
	n, err := noEINTR(func() (int, error) {
		from, to = int64(in.OffIn), int64(in.OffOut)
		return unix.CopyFileRange(src.fd, &from, dst.fd, &to, size, int(in.Flags))
	})
	if err != nil || n == 0 {
		return 0, status(err)
	}
	c := changes{f: f, n: dst.n, fd: dst.fd}
	if c.listening() {
		c.copied(src, in, n, whole)
	}
	if in.Uid != 0 {
		c.killPriv()
	}
	c.emit()
	return uint32(n), fuse.OK
}

// copied logs that n bytes were copied from src to c's object: as a range or, reading
// them back, as writes.
func (c *changes) copied(src *openFile, in *fuse.CopyFileRangeIn, n int, whole bool) {
	if !whole {
		data, err := c.f.readBack(c.fd, n, int64(in.OffOut))
		if err == nil {
			c.wrote(data, int64(in.OffOut))
			return
		}
		c.f.log.Error("copied bytes not read back, range logged", "err", err)
	}
	op := &fileop.Op{Kind: fileop.CopyRange, Obj2: c.n.obj, Off: int64(in.OffIn), Off2: int64(in.OffOut),
		Len: int64(n), Mtime: mtime(c.fd)}
	c.add(op)
	op.Obj, op.Path, op.Path2 = src.n.obj, c.f.nodes.path(src.n), c.path
}

// readBack reads n bytes of an object that may not be open for reading.
func (f *fileSystem) readBack(fd, size int, off int64) ([]byte, error) {
	r, err := f.fds.reopen(fd, unix.O_RDONLY|unix.O_NOATIME)
	if err != nil {
		return nil, err
	}
	defer unix.Close(r)
	data := make([]byte, size)
	for done := 0; done < size; {
		got, err := noEINTR(func() (int, error) { return unix.Pread(r, data[done:], off+int64(done)) })
		if err != nil {
			return nil, err
		}
		if got == 0 {
			return nil, unix.EIO // it was just written, under the lock we hold
		}
		done += got
	}
	return data, nil
}
