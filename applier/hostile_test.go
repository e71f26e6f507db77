package applier

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"understudy/fileop"
)

var allKinds = []fileop.Kind{fileop.Create, fileop.Mkdir, fileop.Mknod, fileop.Symlink, fileop.Link, fileop.Unlink, fileop.Rmdir,
	fileop.Rename, fileop.Write, fileop.Truncate, fileop.Fallocate, fileop.CopyRange, fileop.SetAttr, fileop.SetXattr, fileop.RemoveXattr,
	fileop.Sync, fileop.Gap, fileop.MirrorBegin, fileop.MirrorEntry, fileop.MirrorBlock, fileop.MirrorFileEnd, fileop.MirrorDir,
	fileop.MirrorEnd, fileop.MirrorAbort, fileop.MirrorDirEnd}

// nonsense is a record that passes the decoder and means anything.
func nonsense(t *rapid.T) fileop.Op {
	n := func(limit int) int { return rapid.IntRange(0, limit-1).Draw(t, "n") }
	ids := []fileop.ObjID{rootID, rootID, id(10), id(11), id(12), id(13)}
	if n(20) == 0 {
		ids[0] = fileop.ObjID{}
	}
	names := []string{"a", "b", insideStage, "o-a-136", "c"}
	types := []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFIFO, unix.S_IFLNK, 0, unix.S_IFDIR}
	op := fileop.Op{Kind: allKinds[n(len(allKinds))], Obj: ids[n(6)], Obj2: ids[n(6)], Parent: ids[n(6)], Parent2: ids[n(6)],
		Off: int64(n(3)) << n(63), Off2: int64(n(100)), Len: int64(n(5000)), Flags: uint32(n(64)), Last: n(2) == 0, Nlink: uint32(n(3)),
		Mtime: at(int64(n(9))), PMtime: at(int64(n(9))), Tree: uint32(n(200) / 199)}
	op.Name, op.Name2 = names[n(5)], names[n(5)]
	op.Attr = &fileop.Attr{Mode: types[n(6)] | uint32(n(0o10000)), Mtime: at(1)}
	if n(2) == 0 {
		op.Data = []byte("../../outside")
	}
	if op.Kind == fileop.MirrorDir {
		op.Names = names[:n(5)]
	}
	if op.Kind == fileop.MirrorEntry && n(8) == 0 || op.Kind == fileop.Create && n(4) == 0 {
		op.Name = ""
	}
	return op
}

// G: no record makes the applier panic or reach outside the target directory; it either
// executes, drops or refuses it.
func TestNonsense(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := memDir(t)
		os.Mkdir(filepath.Join(dir, "outside"), 0o755)
		cfg := testConfig(t, dir)
		cfg.RetryEvery, cfg.RetryMax = time.Nanosecond, 2
		s := newScript(t, 1, 7)
		s.add(fileop.Op{Kind: fileop.Gap})
		for range rapid.IntRange(1, 150).Draw(rt, "records") {
			op := nonsense(rt)
			if op.Check() == nil {
				s.add(op)
			}
		}
		s.send()
		a, err := Open(cfg, quiet())
		if err != nil {
			rt.Fatal(err)
		}
		r := runRig(t, a, cfg, s)
		r.awaitEnd(s.q.Next() - 1)
		r.cancel()
		err = <-r.result
		r.result <- err
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, context.Canceled) {
			rt.Fatal(err)
		}
		if err := a.Close(); err != nil {
			rt.Fatal(err)
		}
		ents, _ := os.ReadDir(dir)
		for _, e := range ents {
			if n := e.Name(); n != "state" && n != "target" && n != "outside" && n != a.trees[0].stageName {
				rt.Fatalf("%s made outside", n)
			}
		}
		if in, _ := os.ReadDir(filepath.Join(dir, "outside")); len(in) > 0 {
			rt.Fatal("something was made outside")
		}
		os.RemoveAll(dir)
	})
}
