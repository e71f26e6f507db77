// Package fsx is the seam to the file system calls that Go's os package does not
// offer: identity, handles, attributes by descriptor, and the raw *at calls.
package fsx

import (
	"encoding/binary"
	"errors"
	"hash/fnv"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// Handle is a kernel file handle: it names an object for its whole life within its
// file system.
type Handle struct {
	Type  int32
	Bytes []byte
}

// Identify returns the identity of name below dirfd (of dirfd itself with an empty
// name), its handle and its stat, without following a symbolic link. A file system
// without handles gives an empty handle; then birth time stands in for the generation.
func Identify(dirfd int, name string) (fileop.ObjID, Handle, unix.Stat_t, error) {
	var st unix.Stat_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Fstatat(dirfd, name, &st, flags); err != nil {
		return fileop.ObjID{}, Handle{}, st, err
	}
	hflags := 0
	if name == "" {
		hflags = unix.AT_EMPTY_PATH
	}
	h, _, err := unix.NameToHandleAt(dirfd, name, hflags)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EOVERFLOW) {
			id, err := identifyByBirth(dirfd, name, flags, &st)
			return id, Handle{}, st, err
		}
		return fileop.ObjID{}, Handle{}, st, err
	}
	handle := Handle{h.Type(), h.Bytes()}
	return handle.Object(st.Ino), handle, st, nil
}

// Object is the identity of the object with this handle and inode number.
func (h Handle) Object(ino uint64) fileop.ObjID { return fileop.ObjID{Ino: ino, Gen: h.digest()} }

func (h Handle) digest() uint64 {
	f := fnv.New64a()
	var t [4]byte
	binary.LittleEndian.PutUint32(t[:], uint32(h.Type))
	f.Write(t[:])
	f.Write(h.Bytes)
	return f.Sum64()
}

func identifyByBirth(dirfd int, name string, flags int, st *unix.Stat_t) (fileop.ObjID, error) {
	var sx unix.Statx_t
	if err := unix.Statx(dirfd, name, flags, unix.STATX_BTIME, &sx); err != nil {
		return fileop.ObjID{}, err
	}
	return fileop.ObjID{Ino: st.Ino, Gen: uint64(sx.Btime.Sec)*1e9 + uint64(sx.Btime.Nsec)}, nil
}

// AttrOf converts a stat to the attributes that travel. Access time is left zero.
func AttrOf(st *unix.Stat_t) fileop.Attr {
	return fileop.Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: st.Rdev, Mtime: TimeOf(st.Mtim)}
}

// TimeOf converts a kernel time.
func TimeOf(t unix.Timespec) fileop.Time { return fileop.Time{Sec: t.Sec, Nsec: uint32(t.Nsec)} }

// Timespec converts back.
func Timespec(t fileop.Time) unix.Timespec { return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)} }
