package stacked

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// openFlags are those of an open below: the kernel above has dealt with the others. It
// gives the offset of appends; its buffers do not suit O_DIRECT; a write to a file
// opened with O_SYNC or O_DSYNC it follows with FSYNC, where no lock is held.
func openFlags(flags uint32) int {
	return int(flags)&(unix.O_ACCMODE|unix.O_NOATIME) | unix.O_CLOEXEC
}

// Open opens a regular file; the kernel serves all other types itself.
func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	file, err := f.fds.reopen(fd, openFlags(in.Flags))
	if err != nil {
		return status(err)
	}
	if in.Flags&unix.O_TRUNC != 0 { // only where it was not asked for as SETATTR
		kill := in.Mode&fuse.OPEN_KILL_SUIDGID != 0
		err := f.change(n, fd, func(c *changes) error { return c.truncate(file, 0, kill) })
		if err != nil {
			unix.Close(file)
			return status(err)
		}
	}
	f.opened(in.Unique, in.Flags, n, fd, file, out)
	return fuse.OK
}

// Release closes an open file.
func (f *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	if o, ok := f.files.remove(in.Fh); ok {
		f.tab.drop(o.at)
		o.n.opens.Add(-1)
		o.close()
	}
}

// Flush has nothing to do at close; the kernel does not ask again after ENOSYS, and
// still writes mapped pages back.
func (f *fileSystem) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// file is an open file and counts the request.
func (f *fileSystem) file(fh uint64) *openFile {
	f.requests.Add(1)
	return f.files.get(fh)
}

// minSplice is the size from which moving pages through a pipe beats copying twice; a
// read shorter than asked for pays extra, and small files are read that way.
const minSplice = 128 << 10

// Read needs no lock: a read beside a write may see either, as natively. The file
// stays open until the answer is sent, because the kernel releases it only then.
func (f *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	o := f.file(in.Fh)
	if o == nil {
		return nil, fuse.EBADF
	}
	if len(buf) >= minSplice {
		return fuse.ReadResultFd(uintptr(o.fd), int64(in.Offset), len(buf)), fuse.OK
	}
	n, err := noEINTR(func() (int, error) { return unix.Pread(o.fd, buf, int64(in.Offset)) })
	if err != nil {
		return nil, status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write writes data, which stays ours until we answer, and logs as much as was written.
func (f *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	o := f.file(in.Fh)
	if o == nil {
		return 0, fuse.EBADF
	}
	f.sinks.pace()
	f.touching(o.n, o.fd, int64(in.Offset))
	n, err := f.write(o, data, int64(in.Offset), in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0)
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}

func (f *fileSystem) write(o *openFile, data []byte, off int64, kill bool) (int, error) {
	l := f.locks.lock(o.n.obj)
	defer f.locks.unlock(l)
	n, err := noEINTR(func() (int, error) { return unix.Pwrite(o.fd, data, off) })
	if err != nil {
		return 0, err
	}
	c := changes{f: f, n: o.n, fd: o.fd}
	c.tapped = f.sinks.tapped()
	c.wrote(data[:n], off)
	if kill {
		c.killPriv()
	}
	c.emit()
	return n, nil
}

// wrote logs data at off, in records of at most fileop.MaxData.
func (c *changes) wrote(data []byte, off int64) {
	if !c.tapped {
		return
	}
	mt := mtime(c.fd)
	for len(data) > 0 {
		n := min(len(data), fileop.MaxData)
		c.add(&fileop.Op{Kind: fileop.Write, Off: off, Data: data[:n], Mtime: mt})
		data, off = data[n:], off+int64(n)
	}
}

// Lseek finds data and holes; the kernel knows the other positions itself.
func (f *fileSystem) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	o := f.file(in.Fh)
	if o == nil {
		return fuse.EBADF
	}
	off, err := unix.Seek(o.fd, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(off)
	return status(err)
}

// fsyncData is the flag of fdatasync(2) in a request.
const fsyncData = 1

// Fsync holds no lock.
func (f *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	o := f.file(in.Fh)
	if o == nil {
		return fuse.EBADF
	}
	return status(f.sync(o.n, o.fd, in.FsyncFlags&fsyncData != 0))
}

// FsyncDir is Fsync of a directory.
func (f *fileSystem) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f.requests.Add(1)
	o := f.dirs.get(in.Fh)
	if o == nil {
		return fuse.EBADF
	}
	return status(f.sync(o.n, o.fd, in.FsyncFlags&fsyncData != 0))
}

// sync flushes to disk and logs that it did.
func (f *fileSystem) sync(n *node, fd int, data bool) error {
	call := unix.Fsync
	if data {
		call = unix.Fdatasync
	}
	if _, err := noEINTR(func() (int, error) { return 0, call(fd) }); err != nil {
		return err
	}
	if f.sinks.tapped() {
		f.sinks.emit(&fileop.Op{Kind: fileop.Sync, Obj: n.obj, Path: f.nodes.path(n)})
		f.sinks.durable()
	}
	return nil
}

// setIDs are the mode bits a write by somebody without CAP_FSETID takes away.
func withoutSetIDs(mode uint32) uint32 {
	mode &^= unix.S_ISUID
	if mode&unix.S_IXGRP != 0 { // without it the bit means mandatory locks
		mode &^= unix.S_ISGID
	}
	return mode
}

// killPriv does what the kernel below does not, because this process is root. The
// kernel above asks by a flag; security.capability it removes itself, by a request.
func (c *changes) killPriv() {
	var st unix.Stat_t
	if err := unix.Fstat(c.fd, &st); err != nil {
		return
	}
	mode := withoutSetIDs(st.Mode)
	if mode == st.Mode {
		return
	}
	if err := unix.Chmod(fsx.ProcPath(c.fd), mode&0o7777); err != nil {
		c.f.log.Error("set-id bits not cleared", "err", err)
		return
	}
	c.attrChanged = true
	// The kernel above would go on honouring the bits it remembers.
	c.f.forgetAttributes(c.n.id)
}
