package applier

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"understudy/fileop"
	"understudy/internal/exercise"
)

// G: stopped after any operation, the tree is the source's state after exactly that
// operation, modification times included.
func TestPrefixTruth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "n") })
		states := map[fileop.Seq]string{2: m.text()}
		for range rapid.IntRange(5, 80).Draw(rt, "steps") {
			m.step()
			states[fileop.Seq(len(m.ops))] = m.text()
		}
		s := newScript(t, 1, rapid.IntRange(1, 30).Draw(rt, "per frame"))
		s.add(m.ops...)
		s.send()
		cfg := testConfig(t, memDir(t))
		a, err := Open(cfg, quiet())
		if err != nil {
			rt.Fatal(err)
		}
		at := fileop.Seq(rapid.IntRange(2, len(m.ops)).Draw(rt, "stop"))
		for states[at] == "" {
			at++
		}
		a.StopAfter(at)
		r := runRig(t, a, cfg, s)
		defer r.kill()
		if err := r.WaitStopped(deadline(t)); err != nil {
			rt.Fatal(err)
		}
		if got := r.Position().Applied; got != at {
			rt.Fatalf("stopped at %d instead of %d", got, at)
		}
		if got := treeText(t, r.dir); got != states[at] {
			rt.Fatalf("after %d the tree is\n%s\nwant\n%s", at, got, states[at])
		}
		r.Resume()
		r.await(fileop.Seq(len(m.ops)), 0)
		if got := treeText(t, r.dir); got != m.text() {
			rt.Fatalf("at the end the tree is\n%s\nwant\n%s", got, m.text())
		}
	})
}

// relatives are the sequences that a replay from too early would destroy.
func relatives() map[string][]fileop.Op {
	file := func(n uint64, parent fileop.ObjID, name, data string) []fileop.Op {
		return []fileop.Op{
			{Kind: fileop.Create, Obj: id(n), Parent: parent, Name: name, Attr: fileAttr(0o644, int64(n)), PMtime: at(int64(n))},
			{Kind: fileop.Write, Obj: id(n), Data: []byte(data), Mtime: at(int64(n))}}
	}
	mv := func(n uint64, p fileop.ObjID, name string, p2 fileop.ObjID, name2 string, old uint64) fileop.Op {
		op := fileop.Op{Kind: fileop.Rename, Obj: id(n), Parent: p, Name: name, Parent2: p2, Name2: name2, PMtime: at(90), PMtime2: at(90)}
		if old != 0 {
			op.Obj2, op.Last = id(old), true
		}
		return op
	}
	mkdir := func(n uint64, p fileop.ObjID, name string) fileop.Op {
		return fileop.Op{Kind: fileop.Mkdir, Obj: id(n), Parent: p, Name: name, Attr: dirAttr(0o755, int64(n)), PMtime: at(int64(n))}
	}
	ln := func(n uint64, p fileop.ObjID, name string) fileop.Op {
		return fileop.Op{Kind: fileop.Link, Obj: id(n), Parent: p, Name: name, PMtime: at(91)}
	}
	rm := func(n uint64, p fileop.ObjID, name string, last bool) fileop.Op {
		return fileop.Op{Kind: fileop.Unlink, Obj: id(n), Parent: p, Name: name, Last: last, PMtime: at(92)}
	}
	join := func(parts ...[]fileop.Op) (out []fileop.Op) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	one := func(op ...fileop.Op) []fileop.Op { return op }
	return map[string][]fileop.Op{
		"rename, create, write": join(file(10, rootID, "a", "old"), one(mv(10, rootID, "a", rootID, "b", 0)), file(11, rootID, "a", "new")),
		"saved over twice": join(file(10, rootID, "f", "one"), file(11, rootID, "t", "two"), one(mv(11, rootID, "t", rootID, "f", 10)),
			file(12, rootID, "t", "three"), one(mv(12, rootID, "t", rootID, "f", 11))),
		"swap by three renames": join(file(10, rootID, "a", "A"), file(11, rootID, "b", "B"),
			one(mv(10, rootID, "a", rootID, "t", 0), mv(11, rootID, "b", rootID, "a", 0), mv(10, rootID, "t", rootID, "b", 0))),
		"link, unlink, create": join(file(10, rootID, "a", "A"), one(ln(10, rootID, "b"), rm(10, rootID, "a", false)), file(11, rootID, "a", "new"), one(rm(10, rootID, "b", true))),
		"directories turned over": join(one(mkdir(20, rootID, "x"), mkdir(21, id(20), "y")), file(10, id(21), "f", "F"),
			one(mv(21, id(20), "y", rootID, "y", 0), mv(20, rootID, "x", id(21), "x", 0))),
		"directory moved into a new one": join(one(mkdir(20, rootID, "x")), file(10, id(20), "f", "F"),
			one(mkdir(21, rootID, "n"), mv(20, rootID, "x", id(21), "x", 0)), file(11, rootID, "x", "file now")),
		"tree removed and made again": join(one(mkdir(20, rootID, "x"), mkdir(21, id(20), "y")), file(10, id(21), "f", "F"),
			one(fileop.Op{Kind: fileop.Rmdir, Flags: fileop.FlagTree, Obj: id(20), Parent: rootID, Name: "x", Last: true, PMtime: at(93)},
				mkdir(22, rootID, "x")), file(11, id(22), "y", "again")),
		"copied, changed, removed": join(file(10, rootID, "a", "0123456789"), file(11, rootID, "b", "bbbbbbbbbb"),
			one(fileop.Op{Kind: fileop.CopyRange, Obj: id(10), Obj2: id(11), Off: 2, Off2: 0, Len: 4, Mtime: at(94)},
				fileop.Op{Kind: fileop.Write, Obj: id(10), Off: 0, Data: []byte("XXXXXXXX"), Mtime: at(95)},
				fileop.Op{Kind: fileop.CopyRange, Obj: id(10), Obj2: id(10), Off: 0, Off2: 5, Len: 5, Mtime: at(95)},
				rm(10, rootID, "a", true))),
		"default ACL after children": join(one(mkdir(20, rootID, "x")), file(10, id(20), "f", "F"), one(mkdir(21, id(20), "y")), file(11, id(21), "g", "G"),
			one(fileop.Op{Kind: fileop.SetXattr, Obj: id(20), Xattrs: []fileop.Xattr{{Name: defaultACL, Value: exercise.ACL(7, 5, 7, 1, 5)}}})),
	}
}

// G: each of the relatives survives a kill at every system call, with the checkpoint
// before every operation.
func TestRelativesFromEveryPoint(t *testing.T) {
	for name, ops := range relatives() {
		ops = append([]fileop.Op{{Kind: fileop.Gap}, {Kind: fileop.SetAttr, Obj: rootID, Attr: dirAttr(0o755, 0)}}, ops...)
		want := ""
		for from := range len(ops) {
			for n := int64(0); ; n++ {
				got, killed := killFrom(t, ops, fileop.Seq(from), n)
				if !killed {
					want = got
					break
				}
				if want != "" && got != want {
					t.Fatalf("%s: checkpoint at %d, killed before call %d:\n%s\nwant\n%s", name, from, n, got, want)
				}
			}
		}
	}
}

// killFrom applies ops up to a checkpoint at from, kills the run n system calls later,
// and starts again.
func killFrom(t *testing.T, ops []fileop.Op, from fileop.Seq, n int64) (string, bool) {
	dir := memDir(t)
	defer os.RemoveAll(dir)
	cfg := testConfig(t, dir)
	cfg.CheckpointEvery = 1e15
	k := newKiller(t, 1<<40)
	cfg.Fault = k.fault
	s := newScript(t, 1, 3)
	s.add(ops...)
	s.send()
	r := checkpointAt(t, cfg, s, from)
	k.left.Store(n)
	r.Resume()
	killed := r.awaitEnd(fileop.Seq(len(ops)))
	r.kill()
	cfg.Fault = nil
	r, err := openRecovered(deadline(t), t, cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	r.await(fileop.Seq(len(ops)), 0)
	got := treeText(t, r.dir)
	r.kill()
	return got, killed
}

// G: collapse and insert, which need a file system that has them, survive a kill at
// every system call.
func TestShiftsFromEveryPoint(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 16<<10))
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096)
	f.Close()
	if err != nil {
		t.Skipf("no collapse range on %s: %v", dir, err)
	}
	ops := []fileop.Op{{Kind: fileop.Gap}, {Kind: fileop.SetAttr, Obj: rootID, Attr: dirAttr(0o755, 0)},
		{Kind: fileop.Create, Obj: id(10), Parent: rootID, Name: "f", Attr: fileAttr(0o600, 1), PMtime: at(1)}}
	for i := range 4 {
		ops = append(ops, fileop.Op{Kind: fileop.Write, Obj: id(10), Off: int64(i) * 4096, Data: bytes.Repeat([]byte{byte('a' + i)}, 4096), Mtime: at(2)})
	}
	ops = append(ops,
		fileop.Op{Kind: fileop.Fallocate, Obj: id(10), Off: 4096, Len: 4096, Flags: unix.FALLOC_FL_COLLAPSE_RANGE, Mtime: at(3)},
		fileop.Op{Kind: fileop.Write, Obj: id(10), Off: 0, Data: []byte("zz"), Mtime: at(4)},
		fileop.Op{Kind: fileop.Fallocate, Obj: id(10), Off: 0, Len: 8192, Flags: unix.FALLOC_FL_INSERT_RANGE, Mtime: at(5)},
		fileop.Op{Kind: fileop.Fallocate, Obj: id(10), Off: 4096, Len: 8192, Flags: unix.FALLOC_FL_COLLAPSE_RANGE, Mtime: at(6)})
	want := ""
	for _, from := range []fileop.Seq{7, 3, 8, 9} {
		for n := int64(0); ; n++ {
			got, killed := shiftOnce(t, dir, fmt.Sprintf("%d-%d", from, n), ops, from, n)
			if want == "" || !killed {
				want = got
			}
			if got != want {
				t.Fatalf("checkpoint at %d, killed before call %d:\n%s\nwant\n%s", from, n, got, want)
			}
			if !killed {
				break
			}
		}
	}
	if !strings.Contains(want, "of 12288") {
		t.Errorf("not collapsed and inserted: %s", want)
	}
}

func shiftOnce(t *testing.T, dir, name string, ops []fileop.Op, from fileop.Seq, n int64) (string, bool) {
	t.Setenv("APPLIER_TEST_DIR", filepath.Join(dir, name))
	return killFrom(t, ops, from, n)
}
