package model

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/sametree"
)

func id(n uint64) fileop.ObjID { return fileop.ObjID{Ino: n, Gen: 1} }

func file(mode uint32) *fileop.Attr { return &fileop.Attr{Mode: unix.S_IFREG | mode} }

func dir() *fileop.Attr { return &fileop.Attr{Mode: unix.S_IFDIR | 0o755} }

// run applies operations to a fresh model whose root is object 1.
func run(t *testing.T, ops ...fileop.Op) *Model {
	t.Helper()
	m := New(id(1))
	for i := range ops {
		must(t, m.Apply(&ops[i]))
	}
	return m
}

// show lists the paths, with the content's length of files.
func show(m *Model) string { return strings.Join(m.Snapshot().Paths(), " ") }

// TestUnknown: what concerns unknown objects is dropped, but a name an unknown object
// takes is taken.
func TestUnknown(t *testing.T) {
	known := fileop.Op{Kind: fileop.Create, Obj: id(2), Parent: id(1), Name: "a", Attr: file(0o644)}
	for _, c := range []struct {
		name string
		op   fileop.Op
		want string
	}{
		{"create in an unknown directory", fileop.Op{Kind: fileop.Create, Obj: id(3), Parent: id(9), Name: "b", Attr: file(0)}, ". a"},
		{"write", fileop.Op{Kind: fileop.Write, Obj: id(9), Data: []byte("x")}, ". a"},
		{"attributes", fileop.Op{Kind: fileop.SetAttr, Obj: id(9), Attr: file(0)}, ". a"},
		{"renamed over", fileop.Op{Kind: fileop.Rename, Obj: id(9), Parent: id(8), Name: "x", Parent2: id(1), Name2: "a"}, "."},
		{"linked over", fileop.Op{Kind: fileop.Link, Obj: id(9), Parent: id(1), Name: "a"}, "."},
		{"moved to the unknown", fileop.Op{Kind: fileop.Rename, Obj: id(2), Parent: id(1), Name: "a", Parent2: id(9), Name2: "a"}, "."},
		{"unlinked elsewhere, last", fileop.Op{Kind: fileop.Unlink, Obj: id(2), Parent: id(9), Name: "z", Last: true}, "."},
		{"unlinked elsewhere", fileop.Op{Kind: fileop.Unlink, Obj: id(2), Parent: id(9), Name: "z"}, ". a"},
		{"exchanged with the unknown", fileop.Op{Kind: fileop.Rename, Flags: fileop.RenameExchange, Obj: id(2), Parent: id(1), Name: "a", Parent2: id(1), Name2: "b", Obj2: id(9)}, ". b"},
	} {
		if got := show(run(t, known, c.op)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	m := run(t, known, fileop.Op{Kind: fileop.Write, Obj: id(9)})
	if m.Dropped != 1 || m.Applied != 1 {
		t.Error(m.Applied, m.Dropped)
	}
}

// TestForgotten: a file lives as long as it has a name, or none yet.
func TestForgotten(t *testing.T) {
	m := run(t,
		fileop.Op{Kind: fileop.Create, Obj: id(2), Attr: file(0o600)}, // O_TMPFILE
		fileop.Op{Kind: fileop.Write, Obj: id(2), Data: []byte("early")},
		fileop.Op{Kind: fileop.Link, Obj: id(2), Parent: id(1), Name: "late"},
		fileop.Op{Kind: fileop.Mkdir, Obj: id(3), Parent: id(1), Name: "d", Attr: dir()},
		fileop.Op{Kind: fileop.Create, Obj: id(4), Parent: id(3), Name: "in", Attr: file(0)},
		fileop.Op{Kind: fileop.Link, Obj: id(4), Parent: id(1), Name: "out"},
		fileop.Op{Kind: fileop.Create, Obj: id(5), Parent: id(3), Name: "only", Attr: file(0)},
		fileop.Op{Kind: fileop.Rmdir, Obj: id(3), Parent: id(1), Name: "d", Flags: fileop.FlagTree, Last: true})
	if got := show(m); got != ". late out" {
		t.Error(got)
	}
	if n := m.Snapshot().Nodes["late"]; n.Size != 5 || len(n.Blocks) != 1 {
		t.Errorf("%+v", n)
	}
	for o, want := range map[uint64]int{2: 1, 4: 1, 3: -1, 5: -1} {
		names, ok := m.Known(0, id(o))
		if ok != (want >= 0) || ok && names != want {
			t.Errorf("object %d: %d names, known %t", o, names, ok)
		}
	}
}

// TestMirrorMoves: a difference mirror finds a file under another name. It keeps its
// content, whichever directory is read first.
func TestMirrorMoves(t *testing.T) {
	begin := []fileop.Op{
		{Kind: fileop.Mkdir, Obj: id(2), Parent: id(1), Name: "a", Attr: dir()},
		{Kind: fileop.Mkdir, Obj: id(3), Parent: id(1), Name: "b", Attr: dir()},
		{Kind: fileop.Create, Obj: id(4), Parent: id(2), Name: "f", Attr: file(0)},
		{Kind: fileop.Create, Obj: id(5), Parent: id(2), Name: "gone", Attr: file(0)},
		{Kind: fileop.Write, Obj: id(4), Data: []byte("kept")}}
	leaves := fileop.Op{Kind: fileop.MirrorDir, Obj: id(2)}
	arrives := fileop.Op{Kind: fileop.MirrorEntry, Obj: id(4), Parent: id(3), Name: "g", Attr: file(0o600), Nlink: 1, Len: 4}
	end := fileop.Op{Kind: fileop.MirrorEnd}
	for _, order := range [][]fileop.Op{{leaves, arrives, end}, {arrives, leaves, end}} {
		m := run(t, append(begin[:5:5], order...)...)
		if got := show(m); got != ". a b b/g" || m.Snapshot().Nodes["b/g"].Size != 4 {
			t.Error(got)
		}
		if _, ok := m.Known(0, id(5)); ok {
			t.Error("what the source does not have is still known after the mirror")
		}
	}
	more := leaves
	more.Names, more.Flags = []string{"f"}, fileop.FlagMore
	last := leaves
	last.Names = []string{"gone"}
	if got := show(run(t, append(begin[:5:5], more, last)...)); got != ". a a/f a/gone b" {
		t.Error("a list in two parts:", got)
	}
	link := arrives
	link.Nlink = 2
	if got := show(run(t, append(begin[:5:5], link)...)); got != ". a a/f a/gone b b/g" {
		t.Error("a further name:", got)
	}
}

// TestContent: ranges that cut pages, and what lies past the end.
func TestContent(t *testing.T) {
	c := newContent()
	c.write([]byte("0123456789"), pageSize-5)
	c.truncate(pageSize + 2)
	c.truncate(3 * pageSize)
	if got := string(c.read(pageSize-5, 10)); got != "0123456\x00\x00\x00" {
		t.Errorf("%q", got)
	}
	c.shift(pageSize-4, 3) // not at a page
	if got := string(c.read(pageSize-5, 10)); got != "0\x00\x00\x00123456" || c.size != 3*pageSize+3 {
		t.Errorf("%q, size %d", got, c.size)
	}
	c, fork := c.fork(), c.fork()
	c.write([]byte("x"), pageSize)
	if got := string(fork.read(pageSize, 1)); got != "2" {
		t.Errorf("the fork holds %q", got)
	}
	if sametree.Sum(c.blocks()[1]) == fork.blocks()[1] {
		t.Error("different content, equal digests")
	}
	c.zero(0, 10*pageSize)
	if len(c.blocks()) != 0 || c.size != 3*pageSize+3 {
		t.Errorf("%v", c.blocks())
	}
}

func TestImpossible(t *testing.T) {
	for _, op := range []fileop.Op{
		{Kind: fileop.Create, Obj: id(1), Parent: id(1), Name: "x", Attr: file(0)},
		{Kind: fileop.Write, Obj: id(1), Data: []byte("x")},
		{Kind: fileop.Link, Obj: id(1), Parent: id(1), Name: "x"},
		{Kind: fileop.Rename, Obj: id(1), Parent: id(1), Name: "x", Parent2: id(1), Name2: "y"},
		{Kind: fileop.Sync, Tree: 7},
	} {
		if err := New(id(1)).Apply(&op); !errors.Is(err, ErrImpossible) {
			t.Errorf("%v: %v", op.LogValue(), err)
		}
	}
	if err := New(id(1)).Apply(&fileop.Op{Kind: fileop.Unlink, Name: "a/b"}); !errors.Is(err, fileop.ErrInvalid) {
		t.Error(err)
	}
}
