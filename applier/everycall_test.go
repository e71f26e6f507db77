package applier

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/failpoint"
	"understudy/internal/fsx"
)

// callErrnos are what system calls on the target are made to fail with.
var callErrnos = []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EACCES, unix.EPERM, unix.ETXTBSY, unix.EBUSY, unix.EMFILE,
	unix.ENFILE, unix.ENOMEM, unix.EINTR, unix.EINVAL, unix.ENOTSUP, unix.EMLINK, unix.ENAMETOOLONG, unix.ESTALE, unix.EAGAIN, unix.EXDEV}

// everyKind is a stream with every kind of operation and mirror record, in the ways that
// take different system calls: replacing, crossing directories, without a name.
func everyKind() []fileop.Op {
	file := func(n uint64, parent fileop.ObjID, name string, sec int64) fileop.Op {
		return fileop.Op{Kind: fileop.Create, Obj: id(n), Parent: parent, Name: name, Attr: fileAttr(0o640, sec), PMtime: at(sec)}
	}
	write := func(n uint64, off int64, data string, sec int64) fileop.Op {
		return fileop.Op{Kind: fileop.Write, Obj: id(n), Off: off, Data: []byte(data), Mtime: at(sec)}
	}
	move := func(n uint64, p fileop.ObjID, name string, p2 fileop.ObjID, name2 string, old uint64, sec int64) fileop.Op {
		op := fileop.Op{Kind: fileop.Rename, Obj: id(n), Parent: p, Name: name, Parent2: p2, Name2: name2, PMtime: at(sec), PMtime2: at(sec)}
		if old != 0 {
			op.Obj2, op.Last = id(old), true
		}
		return op
	}
	whole := func(n uint64, parent fileop.ObjID, name, data string, nlink uint32) fileop.Op {
		return fileop.Op{Kind: fileop.MirrorEntry, Flags: fileop.FlagWhole, Obj: id(n), Parent: parent, Name: name, Attr: fileAttr(0o604, 60),
			Data: []byte(data), Len: int64(len(data)), Nlink: nlink}
	}
	x := func(name, value string) []fileop.Xattr { return []fileop.Xattr{{Name: name, Value: []byte(value)}} }
	return []fileop.Op{
		{Kind: fileop.Gap},
		{Kind: fileop.SetAttr, Obj: rootID, Attr: dirAttr(0o755, 1)},
		{Kind: fileop.Mkdir, Obj: id(10), Parent: rootID, Name: "d", Attr: dirAttr(0o2750, 2), PMtime: at(2)},
		{Kind: fileop.Mkdir, Obj: id(20), Parent: id(10), Name: "sub", Attr: dirAttr(0o700, 2), PMtime: at(2)},
		{Kind: fileop.Create, Obj: id(11), Parent: id(10), Name: "f", Attr: &fileop.Attr{Mode: unix.S_IFREG | 0o4751, UID: 7, GID: 8, Mtime: at(3)},
			PMtime: at(3), Xattrs: x("user.a", "1")},
		write(11, 0, "hello, world", 4),
		{Kind: fileop.Truncate, Obj: id(11), Len: 9, Mtime: at(5)},
		{Kind: fileop.Link, Obj: id(11), Parent: rootID, Name: "g", PMtime: at(6)},
		{Kind: fileop.Symlink, Obj: id(12), Parent: rootID, Name: "l", Data: []byte("nowhere"), Attr: &fileop.Attr{Mode: unix.S_IFLNK | 0o777, UID: 5, Mtime: at(7)}, PMtime: at(7)},
		{Kind: fileop.Mknod, Obj: id(13), Parent: rootID, Name: "p", Attr: &fileop.Attr{Mode: kFifo | 0o622, Mtime: at(8)}, PMtime: at(8)},
		{Kind: fileop.Mknod, Obj: id(14), Parent: rootID, Name: "null", Attr: &fileop.Attr{Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3), Mtime: at(9)}, PMtime: at(9)},
		{Kind: fileop.Create, Obj: id(15), Attr: fileAttr(0o600, 10)}, // without a name
		write(15, 3, "tmp", 11),
		{Kind: fileop.Link, Obj: id(15), Parent: rootID, Name: "t", PMtime: at(12)},
		{Kind: fileop.SetAttr, Obj: id(15), Attr: &fileop.Attr{Mode: unix.S_IFREG | 0o644, UID: 77, GID: 78, Mtime: at(13)}},
		{Kind: fileop.SetXattr, Obj: id(10), Xattrs: append(x("user.b", "2"), x("user.c", "3")...)},
		{Kind: fileop.RemoveXattr, Obj: id(10), Xattrs: x("user.c", "")},
		{Kind: fileop.CopyRange, Obj: id(11), Obj2: id(15), Off2: 3, Len: 5, Mtime: at(14)},
		{Kind: fileop.Fallocate, Obj: id(15), Len: 4, Flags: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Mtime: at(15)},
		write(11, 2, "LL", 16), // its content was read: it is saved first
		file(16, rootID, "new", 17), write(16, 0, "one", 17),
		move(16, rootID, "new", rootID, "g2", 0, 18),
		file(17, rootID, "new", 19), write(17, 0, "two", 19),
		move(17, rootID, "new", rootID, "g2", 16, 20), // replaces
		move(13, rootID, "p", id(20), "q", 0, 21),
		{Kind: fileop.Rename, Flags: fileop.RenameExchange, Obj: id(10), Parent: rootID, Name: "d", Obj2: id(15), Parent2: rootID, Name2: "t", PMtime: at(22), PMtime2: at(22)},
		{Kind: fileop.Unlink, Obj: id(14), Parent: rootID, Name: "null", Last: true, PMtime: at(23)},
		{Kind: fileop.Unlink, Obj: id(11), Parent: id(10), Name: "f", PMtime: at(24)},
		{Kind: fileop.Mkdir, Obj: id(18), Parent: id(20), Name: "x", Attr: dirAttr(0o755, 25), PMtime: at(25)},
		file(19, id(18), "y", 26),
		{Kind: fileop.Rmdir, Flags: fileop.FlagTree, Obj: id(18), Parent: id(20), Name: "x", Last: true, PMtime: at(27)},
		{Kind: fileop.Sync},
		{Kind: fileop.MirrorBegin, Len: 1},
		{Kind: fileop.MirrorEntry, Obj: rootID, Attr: dirAttr(0o711, 50)},
		whole(30, rootID, "whole", "content", 2),
		whole(30, id(10), "twin", "content", 2),
		whole(17, id(10), "moved", "two, again", 1),
		{Kind: fileop.MirrorEntry, Obj: id(31), Parent: rootID, Name: "big", Attr: fileAttr(0o644, 51), Len: 12, Nlink: 1},
		{Kind: fileop.MirrorBlock, Obj: id(31), Off: 4, Data: []byte("block")},
		{Kind: fileop.MirrorBlock, Obj: id(31), Off: 0, Len: 2, Flags: fileop.FlagHole},
		{Kind: fileop.MirrorFileEnd, Obj: id(31), Len: 12, Attr: fileAttr(0o4644, 52), Xattrs: x("user.k", "v")},
		{Kind: fileop.MirrorEntry, Obj: id(12), Parent: rootID, Name: "l", Data: []byte("elsewhere"), Attr: &fileop.Attr{Mode: unix.S_IFLNK | 0o777, Mtime: at(53)}},
		{Kind: fileop.MirrorEntry, Obj: id(13), Parent: id(20), Name: "q", Data: []byte("x"), Attr: &fileop.Attr{Mode: unix.S_IFLNK | 0o777, Mtime: at(54)}},
		{Kind: fileop.MirrorDir, Obj: rootID, Names: []string{"whole", "big", "l", "t", "d"}},
		{Kind: fileop.MirrorDir, Obj: id(10), Names: []string{"twin", "moved", "sub"}},
		{Kind: fileop.MirrorDirEnd, Obj: id(20), Attr: dirAttr(0o700, 55)},
		{Kind: fileop.MirrorDirEnd, Obj: id(10), Attr: dirAttr(0o750, 56)},
		{Kind: fileop.MirrorDirEnd, Obj: rootID, Attr: dirAttr(0o711, 57)},
		{Kind: fileop.MirrorEnd, Len: 1},
		write(31, 6, "live", 58),
	}
}

// callResult is what came of one run.
type callResult struct {
	tree  string
	pos   Position
	stats Stats
	step  fsx.Step // that failed; "": there were fewer calls
}

// failCall applies the stream with system call n failing once; n 0: none.
func failCall(t *testing.T, no unix.Errno, n int64) callResult {
	dir := memDir(t)
	defer os.RemoveAll(dir)
	cfg := testConfig(t, dir)
	cfg.RetryEvery, cfg.CheckpointEvery = 1, 1e15
	f := &faulty{n: n, err: no}
	cfg.Fault = f.fault
	s := newScript(t, 1, 7)
	s.add(everyKind()...)
	r := startRig(t, cfg, s)
	r.settled()
	res := callResult{tree: treeText(t, r.dir), pos: r.Position(), stats: r.Stats()}
	if f.hit.Load() {
		res.step = f.step
	}
	r.kill()
	return res
}

// wrong says what a failed system call left behind; "": nothing.
func (c *callResult) wrong(no unix.Errno, want *callResult) string {
	// Written data that the disk did not take must be mirrored again.
	lost := c.step == fsx.StepSync && (no == unix.EIO || no == unix.ENOSPC || no == unix.EDQUOT)
	switch {
	case c.tree != want.tree:
		return "tree is\n" + c.tree + "\nwant\n" + want.tree
	case c.stats.Dropped > 0 || c.stats.Ops != want.stats.Ops || c.stats.MirrorOps != want.stats.MirrorOps:
		return "operations were left out or repeated"
	case c.stats.NotPermitted > 0:
		return "attributes were left out"
	case !c.pos.Usable() && !lost:
		return "the target is not usable"
	case c.stats.Retrying:
		return "still retrying"
	}
	return ""
}

// G11: whichever system call fails on the target, with whichever error, once: nothing is
// left out, nothing is out of order, and the tree is the same.
func TestEverySystemCallFails(t *testing.T) {
	want := failCall(t, 0, 0)
	if want.stats.Dropped+want.stats.Lost+want.stats.NotPermitted+want.stats.Retries > 0 || !want.pos.Usable() {
		t.Fatalf("without a fault: %+v %+v", want.stats, want.pos)
	}
	runs := 0
	for _, no := range callErrnos {
		for n := int64(1); ; n++ {
			got := failCall(t, no, n)
			if got.step == "" {
				break
			}
			runs++
			if wrong := got.wrong(no, &want); wrong != "" {
				t.Errorf("call %d (%s) fails with %q: %s\n%+v", n, got.step, no, wrong, got.stats)
			}
		}
	}
	t.Logf("%d faults", runs)
}

// The test above notices an applier that leaves out what fails.
func TestEverySystemCallFailsNoticesSkipping(t *testing.T) {
	want := failCall(t, 0, 0)
	if err := failpoint.Arm(string(failpoint.PlantSkip)); err != nil {
		t.Fatal(err)
	}
	defer failpoint.Arm("")
	for n := int64(1); ; n++ {
		got := failCall(t, unix.ENOSPC, n)
		if got.step == "" {
			t.Fatal("operations that failed were left out, and nobody noticed")
		}
		if got.wrong(unix.ENOSPC, &want) != "" {
			return
		}
	}
}
