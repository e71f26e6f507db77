// Package digest computes the digests by which source and target compare blocks,
// attributes and directories without sending them. Both sides must agree on every
// byte that goes in, so the functions are the format.
package digest

import (
	"encoding/binary"
	"sort"

	"github.com/zeebo/xxh3"

	"understudy/fileop"
)

// Block digests a block of file content.
func Block(b []byte) fileop.Sum { return xxh3.Hash128(b).Bytes() }

// Xattrs digests a complete set of extended attributes, in any order. It is zero for
// none.
func Xattrs(xs []fileop.Xattr) fileop.Sum {
	if len(xs) == 0 {
		return fileop.Sum{}
	}
	sorted := append([]fileop.Xattr(nil), xs...)
	sort.Slice(sorted, func(i, j int) bool { return sorted[i].Name < sorted[j].Name })
	var b []byte
	for _, x := range sorted {
		b = appendString(b, x.Name)
		b = appendString(b, string(x.Value))
	}
	return xxh3.Hash128(b).Bytes()
}

// Dir digests a directory's entries, which must be sorted by name. It covers name,
// identity, type, mode, owner, device, modification time, size (of files), link
// count (of everything but directories), symbolic link target and extended attributes.
func Dir(entries []fileop.TargetEntry) fileop.Sum { return Content(entries, nil) }

// Content is Dir with the digest of each entry's content (Block), zero for what has none or
// was not read.
func Content(entries []fileop.TargetEntry, contents []fileop.Sum) fileop.Sum {
	h := xxh3.New128()
	var b []byte
	for i := range entries {
		b = appendEntry(b[:0], &entries[i])
		if contents != nil {
			b = append(b, contents[i][:]...)
		}
		h.Write(b)
	}
	return h.Sum128().Bytes()
}

const (
	typeMask = 0o170000
	typeDir  = 0o040000
	typeReg  = 0o100000
)

func appendEntry(b []byte, e *fileop.TargetEntry) []byte {
	b = appendString(b, e.Name)
	b = binary.LittleEndian.AppendUint64(b, e.Obj.Ino)
	b = binary.LittleEndian.AppendUint64(b, e.Obj.Gen)
	b = binary.LittleEndian.AppendUint32(b, e.Attr.Mode)
	b = binary.LittleEndian.AppendUint32(b, e.Attr.UID)
	b = binary.LittleEndian.AppendUint32(b, e.Attr.GID)
	b = binary.LittleEndian.AppendUint64(b, e.Attr.Rdev)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Attr.Mtime.Sec))
	b = binary.LittleEndian.AppendUint32(b, e.Attr.Mtime.Nsec)
	var size, nlink uint64
	if e.Attr.Mode&typeMask == typeReg {
		size = uint64(e.Size)
	}
	if e.Attr.Mode&typeMask != typeDir {
		nlink = uint64(e.Nlink)
	}
	b = binary.LittleEndian.AppendUint64(b, size)
	b = binary.LittleEndian.AppendUint64(b, nlink)
	b = appendString(b, e.Target)
	return append(b, e.Xattrs[:]...)
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// Entry digests a key and its value, which add up to a set by exclusive or.
func Entry(k, v []byte) uint64 {
	b := make([]byte, 0, 4+len(k)+len(v))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(k)))
	return xxh3.Hash(append(append(b, k...), v...))
}
