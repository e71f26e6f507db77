package lower

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// File is an open regular file. Its methods may be called by several goroutines at
// once, but none after Close.
type File struct {
	t   *Tree
	fd  int
	id  fileop.ObjID
	ref []byte
}

// WithLock calls fn while no captured operation changes the file, and returns its
// error.
func (f *File) WithLock(fn func() error) error {
	if f.t.locks == nil {
		return fn()
	}
	unlock := f.t.locks.LockFile(f.id)
	defer unlock()
	return fn()
}

// ReadAt reads len(p) bytes at off as io.ReaderAt does.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], off+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("read file at byte %d: %w", off+int64(done), err)
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// Data finds the next range at or after off that is not a hole; io.EOF if there is
// none. A file system that does not know its holes has one range.
func (f *File) Data(off int64) (start, end int64, err error) {
	start, err = unix.Seek(f.fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.EINVAL) {
		return f.wholeRange(off)
	}
	if err == nil {
		end, err = unix.Seek(f.fd, start, unix.SEEK_HOLE)
	}
	if errors.Is(err, unix.ENXIO) { // past the end, or cut between the two questions
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find data at byte %d: %w", off, err)
	}
	return start, end, nil
}

func (f *File) wholeRange(off int64) (start, end int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, 0, fmt.Errorf("find data at byte %d: %w", off, err)
	}
	if off < 0 {
		return 0, 0, fmt.Errorf("find data at byte %d: %w", off, unix.EINVAL)
	}
	if off >= st.Size {
		return 0, 0, io.EOF
	}
	return off, st.Size, nil
}

// Self is the file's present state; its Name is "". In path form its Ref stays the
// one it was opened by.
func (f *File) Self() (fileop.Entry, error) {
	e, err := f.t.stat(f.fd, "", "")
	if err == nil {
		e.Xattrs, err = xattrs(f.fd)
	}
	if err != nil {
		return e, fmt.Errorf("look at file: %w", err)
	}
	e.Ref = f.ref
	return e, nil
}

// Shifts counts the captured operations on this file that moved or cut its content;
// 0 for ever without Locks.
func (f *File) Shifts() uint64 {
	if f.t.locks == nil {
		return 0
	}
	return f.t.locks.Shifts(f.id)
}

// Close releases the file.
func (f *File) Close() error { return unix.Close(f.fd) }
