package exercise

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// chmod changes modes, set-id bits among them, by path (through a symbolic link: of
// what it points to) or by descriptor.
func (w *worker) chmod() error {
	mode := uint32(w.r.IntN(0o10000)) | 0o600
	if f, err := w.some(); err == nil && w.r.IntN(2) == 0 {
		w.trace.add("chmod %d %#o", f.fd, mode)
		return retry(func() error { return unix.Fchmod(f.fd, mode) })
	}
	rel := w.world.any(w.r)
	if rel == "" {
		return errSkip // keeps the directory usable for every worker
	}
	mode |= 0o100
	if w.opt.UID != 0 {
		mode |= 0o777 // of a directory: keep it usable for the other workers
	}
	w.trace.add("chmod %q %#o", rel, mode)
	err := retry(func() error { return unix.Chmod(w.world.abs(rel), mode) })
	w.forget(rel, err)
	return err
}

func (w *worker) chown() error {
	uid, gid := w.r.IntN(5)-1, w.r.IntN(5)-1
	if os.Geteuid() != 0 {
		uid, gid = -1, -1
	}
	rel := w.world.any(w.r)
	if rel == "" {
		return errSkip
	}
	w.trace.add("chown %q %d:%d", rel, uid, gid)
	return retry(func() error { return unix.Lchown(w.world.abs(rel), uid, gid) })
}

// utimens sets times to the nanosecond, one of them, or access time alone.
func (w *worker) utimens() error {
	draw := func() unix.Timespec {
		switch w.r.IntN(6) {
		case 0:
			return unix.Timespec{Nsec: unix.UTIME_OMIT}
		case 1:
			return unix.Timespec{Nsec: unix.UTIME_NOW}
		}
		return unix.Timespec{Sec: w.r.Int64N(2e9), Nsec: w.r.Int64N(1e9)}
	}
	ts := []unix.Timespec{draw(), draw()}
	rel := w.world.any(w.r)
	w.trace.add("utimens %q %v", rel, ts)
	return retry(func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, w.world.abs(rel), ts, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (w *worker) attrName() string {
	space := "user"
	if os.Geteuid() == 0 && !w.opt.NoTrusted && w.r.IntN(3) == 0 {
		space = "trusted"
	}
	return fmt.Sprintf("%s.a%d", space, w.r.IntN(4))
}

func (w *worker) setxattr() error {
	name, value := w.attrName(), w.data(100)
	if w.r.IntN(10) == 0 {
		value = nil
	}
	flags := []int{0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE}[w.r.IntN(4)]
	if f, err := w.some(); err == nil && w.r.IntN(2) == 0 {
		w.trace.add("setxattr %d %s %d bytes flags %d", f.fd, name, len(value), flags)
		return retry(func() error { return unix.Fsetxattr(f.fd, name, value, flags) })
	}
	rel := w.world.any(w.r)
	w.trace.add("setxattr %q %s %d bytes flags %d", rel, name, len(value), flags)
	w.attrs[w.r.IntN(len(w.attrs))] = [2]string{rel, name}
	return retry(func() error { return unix.Lsetxattr(w.world.abs(rel), name, value, flags) })
}

// removexattr removes an attribute that was likely set before.
func (w *worker) removexattr() error {
	rel, name := w.world.any(w.r), w.attrName()
	if was := w.attrs[w.r.IntN(len(w.attrs))]; was[1] != "" {
		rel, name = was[0], was[1]
	}
	w.trace.add("removexattr %q %s", rel, name)
	return retry(func() error { return unix.Lremovexattr(w.world.abs(rel), name) })
}

// acl sets or removes an access ACL, or a directory's default ACL, which what is made
// in it inherits.
func (w *worker) acl() error {
	name := "system.posix_acl_access"
	rel, ok := w.world.file(w.r)
	if w.r.IntN(2) == 0 {
		if rel, ok = w.world.subdir(w.r); w.r.IntN(3) > 0 {
			name = "system.posix_acl_default"
		}
	}
	if !ok {
		return errSkip
	}
	if w.r.IntN(4) == 0 {
		w.trace.add("remove %s of %q", name, rel)
		return retry(func() error { return unix.Lremovexattr(w.world.abs(rel), name) })
	}
	perm := func() uint16 { return uint16(w.r.IntN(8)) }
	value := ACL(7, perm(), perm(), w.r.Uint32N(4), perm())
	if w.opt.UID != 0 {
		value = ACL(7, perm(), 7, w.r.Uint32N(4), 7) // as in chmod
	}
	w.trace.add("set %s of %q to %x", name, rel, value)
	return retry(func() error { return unix.Lsetxattr(w.world.abs(rel), name, value, 0) })
}

// ACL returns a POSIX ACL as the kernel keeps it in an extended attribute: the
// permissions of the owner, the group and others, and of one further user.
func ACL(owner, group, other uint16, uid uint32, perm uint16) []byte {
	const undefined = ^uint32(0)
	b := binary.LittleEndian.AppendUint32(nil, 2) // version
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, owner, undefined}, {0x02, perm, uid}, {0x04, group, undefined}, {0x10, perm | group, undefined}, {0x20, other, undefined}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}
