package stacked

import (
	"bytes"
	"encoding/binary"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// OpenDir opens a directory for listing.
func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	dir, err := f.fds.retry(func() (int, error) {
		return unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return status(err)
	}
	o := &openDir{n: n, fd: dir}
	out.Fh = f.dirs.add(o)
	o.at = f.tab.opened(slotDir, out.Fh, in.Unique, n, 0)
	f.held(n, fd)
	return fuse.OK
}

// ReleaseDir closes a listing.
func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) {
	if d, ok := f.dirs.remove(in.Fh); ok {
		f.tab.drop(d.at)
		d.n.opens.Add(-1)
		d.close()
	}
}

// ReadDir lists names. Offsets are those of the file system below, so they mean the
// same place whatever was created or removed meanwhile.
func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(in, func(_ *openDir, e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus lists names and looks each up; the kernel asks for it when it saw that
// the listing process does that.
func (f *fileSystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.readDir(in, func(d *openDir, e fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if e.Name != "." && e.Name != ".." {
			if err := f.lookup(in.Unique, d.n, d.fd, e.Name, entry); err != nil {
				*entry = fuse.EntryOut{} // a name without a node: the kernel looks for itself
			}
		}
		return true
	})
}

func (f *fileSystem) readDir(in *fuse.ReadIn, add func(*openDir, fuse.DirEntry) bool) fuse.Status {
	f.requests.Add(1)
	d := f.dirs.get(in.Fh)
	if d == nil {
		return fuse.EBADF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if in.Offset != d.next || in.Offset == 0 {
		if _, err := unix.Seek(d.fd, int64(in.Offset), unix.SEEK_SET); err != nil {
			return status(err)
		}
		d.rest, d.next = nil, in.Offset
	}
	for {
		if len(d.rest) == 0 {
			if err := d.fill(); err != nil {
				return status(err)
			}
			if len(d.rest) == 0 {
				return fuse.OK
			}
		}
		e, size := parseDirent(d.rest)
		if size == 0 {
			return fuse.EIO
		}
		if e.Ino != 0 && !add(d, e) {
			return fuse.OK
		}
		d.rest, d.next = d.rest[size:], e.Off
	}
}

// direntBytes is the buffer of one getdents64(2): what the C library asks for.
const direntBytes = 32 << 10

func (d *openDir) fill() error {
	if d.buf == nil {
		d.buf = make([]byte, direntBytes)
	}
	n, err := noEINTR(func() (int, error) { return unix.Getdents(d.fd, d.buf) })
	if err != nil {
		return err
	}
	d.rest = d.buf[:n]
	return nil
}

// direntHeader is what stands before the name in struct linux_dirent64.
const direntHeader = 19

// parseDirent reads the first entry and its size, 0 if there is none.
func parseDirent(b []byte) (fuse.DirEntry, int) {
	if len(b) < direntHeader {
		return fuse.DirEntry{}, 0
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < direntHeader || size > len(b) {
		return fuse.DirEntry{}, 0
	}
	name := b[direntHeader:size]
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	return fuse.DirEntry{Ino: binary.NativeEndian.Uint64(b), Off: binary.NativeEndian.Uint64(b[8:]),
		Mode: uint32(b[18]) << 12, Name: string(name)}, size
}
