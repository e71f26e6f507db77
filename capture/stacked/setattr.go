package stacked

import (
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// SetAttr is chmod, chown, utimensat and truncate in one.
func (f *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	file := -1
	if fh, ok := in.GetFh(); ok {
		if o := f.files.get(fh); o != nil {
			file = o.fd
		}
	}
	if size, ok := in.GetSize(); ok {
		f.sinks.pace()
		if size > 0 { // the rest of a block is cleared in place
			f.touching(n, fd, int64(size))
		}
	}
	var st unix.Stat_t
	err = f.change(n, fd, func(c *changes) error {
		err := c.setAttr(in, file)
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
		return err
	})
	if err != nil {
		return status(err)
	}
	f.attrOut(&st, out)
	return fuse.OK
}

// setAttr does one thing after the other; times come last, because truncating sets one.
func (c *changes) setAttr(in *fuse.SetAttrIn, file int) error {
	uid, okUID := in.GetUID()
	gid, okGID := in.GetGID()
	if okUID || okGID { // an id not given is -1: unchanged
		if err := unix.Fchownat(c.fd, "", int(int32(uid)), int(int32(gid)), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		c.attrChanged = true
	}
	if mode, ok := in.GetMode(); ok {
		if err := unix.Chmod(fsx.ProcPath(c.fd), mode); err != nil {
			return err
		}
		c.attrChanged = true
	}
	if size, ok := in.GetSize(); ok {
		if err := c.truncate(file, int64(size), in.Valid&fuse.FATTR_KILL_SUIDGID != 0); err != nil {
			return err
		}
	}
	return c.setTimes(in)
}

func (c *changes) setTimes(in *fuse.SetAttrIn) error {
	ts := []unix.Timespec{
		timeArg(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec),
		timeArg(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec),
	}
	if ts[0].Nsec == unix.UTIME_OMIT && ts[1].Nsec == unix.UTIME_OMIT {
		return nil
	}
	if err := unix.UtimesNanoAt(c.fd, "", ts, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	c.attrChanged = true
	c.atime = ts[0].Nsec != unix.UTIME_OMIT
	return nil
}

func timeArg(valid, given, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case valid&given != 0:
		return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
	}
	return unix.Timespec{Nsec: unix.UTIME_OMIT}
}

// Names of ACLs as extended attributes.
const (
	aclAccessName  = "system.posix_acl_access"
	aclDefaultName = "system.posix_acl_default"
)

// GetXAttr reads one extended attribute.
func (f *fileSystem) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return 0, status(err)
	}
	defer f.fds.release(n)
	size, err := unix.Getxattr(fsx.ProcPath(fd), name, dest)
	return uint32(max(size, 0)), status(err)
}

// ListXAttr lists the names of extended attributes.
func (f *fileSystem) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return 0, status(err)
	}
	defer f.fds.release(n)
	size, err := unix.Listxattr(fsx.ProcPath(fd), dest)
	return uint32(max(size, 0)), status(err)
}

// SetXAttr sets an extended attribute. An access ACL may change the mode too.
func (f *fileSystem) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return fuse.OK
	}
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	return status(f.change(n, fd, func(c *changes) error {
		if f.tab != nil && in.Flags&unix.XATTR_CREATE != 0 && !hasXattr(fd, name) { // the other forms may be done again
			c.intend(in.Unique, fileop.SetXattr, name)
		}
		return c.xattr(name, func() error {
			if err := unix.Setxattr(fsx.ProcPath(fd), name, data, int(in.Flags)); err != nil {
				return err
			}
			if c.listening() {
				c.add(&fileop.Op{Kind: fileop.SetXattr, Xattrs: []fileop.Xattr{{Name: name, Value: data}}})
			}
			if in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0 {
				return c.dropSetGID()
			}
			return nil
		})
	}))
}

// RemoveXAttr removes one.
func (f *fileSystem) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	if f.open.settled(in.Unique) != nil {
		return fuse.OK
	}
	n, fd, err := f.hold(in.NodeId)
	if err != nil {
		return status(err)
	}
	defer f.fds.release(n)
	return status(f.change(n, fd, func(c *changes) error {
		if f.tab != nil && hasXattr(fd, name) {
			c.intend(in.Unique, fileop.RemoveXattr, name)
		}
		return c.xattr(name, func() error {
			if err := unix.Removexattr(fsx.ProcPath(fd), name); err != nil {
				return err
			}
			if c.listening() {
				c.add(&fileop.Op{Kind: fileop.RemoveXattr, Xattrs: []fileop.Xattr{{Name: name}}})
			}
			return nil
		})
	}))
}

// hasXattr reports whether an attribute is there.
func hasXattr(fd int, name string) bool {
	_, err := unix.Getxattr(fsx.ProcPath(fd), name, nil)
	return err == nil
}

// intend notes that an attribute is going to be made or removed.
func (c *changes) intend(unique uint64, kind fileop.Kind, name string) {
	c.it = c.f.open.intend(unique, name, "", intentFields{kind: kind, node: c.n, obj: c.n.obj})
}

// xattr runs set and looks whether the mode changed with an ACL.
func (c *changes) xattr(name string, set func() error) error {
	if !strings.HasPrefix(name, "system.posix_acl_") {
		return set()
	}
	var before, after unix.Stat_t
	err := unix.Fstat(c.fd, &before)
	if err == nil {
		err = set()
	}
	if name == aclDefaultName {
		c.n.acl = aclUnknown
	}
	if err == nil {
		err = unix.Fstat(c.fd, &after)
	}
	c.attrChanged = err == nil && before.Mode != after.Mode
	return err
}

// dropSetGID is what the kernel below would do for a caller outside the file's group.
func (c *changes) dropSetGID() error {
	var st unix.Stat_t
	if err := unix.Fstat(c.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_ISGID == 0 {
		return nil
	}
	return unix.Chmod(fsx.ProcPath(c.fd), st.Mode&0o7777&^unix.S_ISGID)
}
