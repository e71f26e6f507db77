package verifier

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

func target(mode uint32) fileop.TargetEntry {
	return fileop.TargetEntry{Name: "n", Obj: fileop.ObjID{Ino: 7, Gen: 1}, Size: 5, Nlink: 1,
		Attr: fileop.Attr{Mode: mode, UID: 1, GID: 2, Mtime: fileop.Time{Sec: 3, Nsec: 4}}}
}

// Each difference has its kind and no other, and equal things have none.
func TestAttrs(t *testing.T) {
	for _, c := range []struct {
		what   string
		mode   uint32
		change func(*fileop.TargetEntry)
		want   []Kind
	}{
		{"equal", unix.S_IFREG | 0o644, func(*fileop.TargetEntry) {}, nil},
		{"size of a file", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Size++ }, []Kind{Size}},
		{"size of a directory", unix.S_IFDIR | 0o755, func(e *fileop.TargetEntry) { e.Size++ }, nil},
		{"size of a link", unix.S_IFLNK | 0o777, func(e *fileop.TargetEntry) { e.Size++ }, nil},
		{"a nanosecond", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Attr.Mtime.Nsec++ }, []Kind{Time}},
		{"set-id bit", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Attr.Mode |= unix.S_ISUID }, []Kind{Mode}},
		{"owner", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Attr.UID++ }, []Kind{Owner}},
		{"group", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Attr.GID++ }, []Kind{Owner}},
		{"device", unix.S_IFCHR | 0o644, func(e *fileop.TargetEntry) { e.Attr.Rdev++ }, []Kind{Device}},
		{"device number of a file", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Attr.Rdev++ }, nil},
		{"link", unix.S_IFLNK | 0o777, func(e *fileop.TargetEntry) { e.Target = "x" }, []Kind{Link}},
		{"xattrs", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Xattrs[0]++ }, []Kind{Xattrs}},
		{"names outside the set", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Nlink++ }, nil},
		{"access time", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Attr.Atime.Sec++ }, nil},
		{"two", unix.S_IFREG | 0o644, func(e *fileop.TargetEntry) { e.Size++; e.Attr.UID++ }, []Kind{Size, Owner}},
	} {
		ours, held := target(c.mode), target(c.mode)
		c.change(&held)
		if got := attrs(&ours, &held); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		if likely(&ours, &held) != (c.want == nil) {
			t.Errorf("%s: likely %v", c.what, c.want != nil)
		}
	}
	ours, held := target(unix.S_IFREG), target(unix.S_IFREG)
	if held.Obj.Gen++; likely(&ours, &held) {
		t.Error("another object is likely the same")
	}
}

// What a name has on both sides decides before attributes do.
func TestPlaced(t *testing.T) {
	file, dir := target(unix.S_IFREG|0o644), target(unix.S_IFDIR|0o755)
	other := file
	other.Obj.Ino++
	e := fileop.Entry{Name: "n", Obj: file.Obj, Attr: file.Attr}
	for _, c := range []struct {
		what string
		have bool
		r    fileop.ProbeReply
		want Kind
	}{
		{"both", true, fileop.ProbeReply{There: true, Entry: file}, ""},
		{"neither", false, fileop.ProbeReply{}, ""},
		{"only the source", true, fileop.ProbeReply{}, Missing},
		{"only the target", false, fileop.ProbeReply{There: true, Entry: file}, Orphan},
		{"another type", true, fileop.ProbeReply{There: true, Entry: dir}, Type},
		{"another object", true, fileop.ProbeReply{There: true, Entry: other}, Replaced},
	} {
		if got, differs := placed(&e, c.have, &c.r); got != c.want || differs != (c.want != "") {
			t.Errorf("%s: %q %v, want %q", c.what, got, differs, c.want)
		}
	}
}
