package verifier

import (
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/digest"
)

const typeBits = unix.S_IFMT

func isDir(mode uint32) bool { return mode&typeBits == unix.S_IFDIR }
func isReg(mode uint32) bool { return mode&typeBits == unix.S_IFREG }
func isLnk(mode uint32) bool { return mode&typeBits == unix.S_IFLNK }

// attrs tells in what an object differs from its copy, but for names and content. Both
// are of the same type. Link counts are not compared: names outside the set count too;
// that each name has the right object proves the group.
func attrs(ours, held *fileop.TargetEntry) (kinds []Kind) {
	mode := ours.Attr.Mode
	add := func(differs bool, k Kind) {
		if differs {
			kinds = append(kinds, k)
		}
	}
	add(isReg(mode) && ours.Size != held.Size, Size)
	add(ours.Attr.Mtime != held.Attr.Mtime, Time)
	add(mode&^typeBits != held.Attr.Mode&^typeBits, Mode)
	add(ours.Attr.UID != held.Attr.UID || ours.Attr.GID != held.Attr.GID, Owner)
	add(ours.Attr.Rdev != held.Attr.Rdev && !isDir(mode) && !isReg(mode), Device)
	add(ours.Target != held.Target, Link)
	add(ours.Xattrs != held.Xattrs, Xattrs)
	return kinds
}

// placed tells whether a name has what it should have on the target.
func placed(e *fileop.Entry, have bool, r *fileop.ProbeReply) (Kind, bool) {
	switch {
	case have && !r.There:
		return Missing, true
	case !have && r.There:
		return Orphan, true
	case !have:
		return "", false
	case e.Attr.Mode&typeBits != r.Entry.Attr.Mode&typeBits:
		return Type, true
	case e.Obj != r.Entry.Obj:
		return Replaced, true
	}
	return "", false
}

// likely reports that two entries look the same.
func likely(ours, held *fileop.TargetEntry) bool {
	return ours.Obj == held.Obj && ours.Attr.Mode&typeBits == held.Attr.Mode&typeBits && len(attrs(ours, held)) == 0
}

// asTarget is an entry as the target would list it if it were equal.
func (r *run) asTarget(root *Root, dir string, e *fileop.Entry) fileop.TargetEntry {
	t := fileop.TargetEntry{Name: e.Name, Obj: e.Obj, Attr: e.Attr, Size: e.Size, Nlink: e.Nlink, Xattrs: digest.Xattrs(e.Xattrs)}
	t.Attr.Atime = fileop.Time{}
	if isLnk(e.Attr.Mode) {
		t.Target = e.Target
		if f := r.cfg.LinkTarget; f != nil {
			t.Target = f(root.abs(join(dir, e.Name)), e.Target)
		}
	}
	return t
}
