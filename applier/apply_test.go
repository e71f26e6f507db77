package applier

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

const (
	kDir  = unix.S_IFDIR
	kFifo = unix.S_IFIFO
)

func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	got := treeText(t, dir)
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("tree is\n%s\nwant\n%s", got, w)
	}
}

func TestEveryKind(t *testing.T) {
	cfg := testConfig(t, t.TempDir())
	s := newScript(t, 1, 4)
	r := startRig(t, cfg, s)
	s.add(
		fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.Mkdir, Obj: id(10), Parent: rootID, Name: "d", Attr: dirAttr(0o2755, 1), PMtime: at(2)},
		fileop.Op{Kind: fileop.Create, Obj: id(11), Parent: id(10), Name: "f", Attr: fileAttr(0o4751, 3), PMtime: at(4),
			Xattrs: []fileop.Xattr{{Name: "user.a", Value: []byte("1")}}},
		fileop.Op{Kind: fileop.Write, Obj: id(11), Data: []byte("hello world"), Mtime: at(5)},
		fileop.Op{Kind: fileop.Write, Obj: id(11), Data: []byte("W"), Off: 6, Mtime: at(6)},
		fileop.Op{Kind: fileop.Truncate, Obj: id(11), Len: 8, Mtime: at(7)},
		fileop.Op{Kind: fileop.Link, Obj: id(11), Parent: rootID, Name: "g", PMtime: at(8)},
		fileop.Op{Kind: fileop.Symlink, Obj: id(12), Parent: rootID, Name: "l", Data: []byte("/etc/passwd"),
			Attr: &fileop.Attr{Mode: unix.S_IFLNK | 0o777, UID: 5, GID: 6, Mtime: at(9)}, PMtime: at(9)},
		fileop.Op{Kind: fileop.Mknod, Obj: id(13), Parent: rootID, Name: "p", Attr: &fileop.Attr{Mode: kFifo | 0o622, Mtime: at(10)}, PMtime: at(10)},
		fileop.Op{Kind: fileop.Mknod, Obj: id(14), Parent: rootID, Name: "null",
			Attr: &fileop.Attr{Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3), Mtime: at(11)}, PMtime: at(11)},
		fileop.Op{Kind: fileop.Create, Obj: id(15), Attr: fileAttr(0o600, 12)}, // O_TMPFILE
		fileop.Op{Kind: fileop.Write, Obj: id(15), Data: []byte("tmp"), Mtime: at(13)},
		fileop.Op{Kind: fileop.Link, Obj: id(15), Parent: rootID, Name: "t", PMtime: at(14)},
		fileop.Op{Kind: fileop.SetAttr, Obj: id(15), Attr: &fileop.Attr{Mode: unix.S_IFREG | 0o644, UID: 77, GID: 78, Mtime: at(15)}},
		fileop.Op{Kind: fileop.SetXattr, Obj: id(10), Xattrs: []fileop.Xattr{{Name: "user.b", Value: []byte("2")}, {Name: "user.c", Value: []byte("3")}}},
		fileop.Op{Kind: fileop.RemoveXattr, Obj: id(10), Xattrs: []fileop.Xattr{{Name: "user.c"}}},
		fileop.Op{Kind: fileop.Rename, Obj: id(13), Parent: rootID, Name: "p", Parent2: id(10), Name2: "q", PMtime: at(16), PMtime2: at(17)},
		fileop.Op{Kind: fileop.Rename, Flags: fileop.RenameExchange, Obj: id(10), Parent: rootID, Name: "d", Obj2: id(15), Parent2: rootID, Name2: "t", PMtime: at(18), PMtime2: at(18)},
		fileop.Op{Kind: fileop.CopyRange, Obj: id(11), Off: 0, Obj2: id(15), Off2: 3, Len: 5, Mtime: at(19)},
		fileop.Op{Kind: fileop.Fallocate, Obj: id(15), Off: 0, Len: 4, Flags: unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, Mtime: at(20)},
		fileop.Op{Kind: fileop.Unlink, Obj: id(14), Parent: rootID, Name: "null", Last: true, PMtime: at(21)},
		fileop.Op{Kind: fileop.Unlink, Obj: id(11), Parent: id(10), Name: "f", PMtime: at(22)},
		fileop.Op{Kind: fileop.Sync}, fileop.Op{Kind: fileop.Barrier, Path: "b"},
	)
	r.settled()
	want := []string{
		". 40755 0:0 1000000021.22",
		`d 100644 77:78 1000000020.21 1 "\x00\x00\x00\x00ello"`,
		`g 104751 0:0 1000000007.8 1 "hello Wo" user.a=31`,
		"l 120777 5:6 1000000009.10 -> /etc/passwd",
		"t 42755 0:0 1000000022.23 user.b=32",
		"t/q 10622 0:0 1000000010.11",
	}
	wantTree(t, r.dir, want...)
	if st := r.Stats(); st.Unknown != 0 || st.Dropped != 0 || st.Lost != 0 {
		t.Errorf("stats %+v", st)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	wantTree(t, r.dir, want...)
	if m, _ := filepath.Glob(filepath.Join(filepath.Dir(r.dir), ".understudy*")); len(m) != 0 {
		t.Errorf("staging directory left: %v", m)
	}
	// A clean restart goes on without recovery.
	s.add(fileop.Op{Kind: fileop.Rmdir, Flags: fileop.FlagTree, Obj: id(10), Parent: rootID, Name: "t", Last: true, PMtime: at(30)})
	r = startRig(t, cfg, s)
	r.settled()
	wantTree(t, r.dir, ". 40755 0:0 1000000030.31", want[1], want[2], want[3])
}

func TestUnknownAndReplaced(t *testing.T) {
	s := newScript(t, 1, 100)
	r := startRig(t, testConfig(t, t.TempDir()), s)
	s.add(
		fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.Create, Obj: id(10), Parent: rootID, Name: "a", Attr: fileAttr(0o600, 1), PMtime: at(1)},
		fileop.Op{Kind: fileop.Create, Obj: id(11), Parent: rootID, Name: "b", Attr: fileAttr(0o600, 1), PMtime: at(1)},
		fileop.Op{Kind: fileop.Write, Obj: id(99), Data: []byte("x")},
		fileop.Op{Kind: fileop.Rename, Obj: id(99), Parent: rootID, Name: "z", Parent2: rootID, Name2: "a", Obj2: id(10), Last: true, PMtime: at(2), PMtime2: at(2)},
		fileop.Op{Kind: fileop.Rename, Obj: id(11), Parent: rootID, Name: "b", Parent2: id(98), Name2: "b", PMtime: at(3)},
		fileop.Op{Kind: fileop.Create, Obj: id(12), Parent: id(98), Name: "c", Attr: fileAttr(0o600, 1)},
	)
	r.settled()
	wantTree(t, r.dir, ". 40755 0:0 1000000003.4")
	if st := r.Stats(); st.Unknown != 4 {
		t.Errorf("stats %+v", st)
	}
}

// A symbolic link planted on the target in place of a directory is not followed.
func TestPlantedLink(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	os.Mkdir(outside, 0o755)
	cfg := testConfig(t, dir)
	s := newScript(t, 1, 1)
	r := startRig(t, cfg, s)
	s.add(
		fileop.Op{Kind: fileop.Gap},
		fileop.Op{Kind: fileop.Mkdir, Obj: id(10), Parent: rootID, Name: "d", Attr: dirAttr(0o755, 1), PMtime: at(1)},
		fileop.Op{Kind: fileop.Create, Obj: id(11), Parent: id(10), Name: "f", Attr: fileAttr(0o644, 1), PMtime: at(1)},
	)
	r.settled()
	r.stop()
	os.Rename(filepath.Join(r.dir, "d"), filepath.Join(r.dir, "old"))
	os.Symlink(outside, filepath.Join(r.dir, "d"))
	os.WriteFile(filepath.Join(outside, "f"), []byte("mine"), 0o600)
	s.add(
		fileop.Op{Kind: fileop.Create, Obj: id(12), Parent: id(10), Name: "evil", Attr: fileAttr(0o644, 1), PMtime: at(1)},
		fileop.Op{Kind: fileop.Write, Obj: id(11), Data: []byte("evil")},
		fileop.Op{Kind: fileop.Unlink, Obj: id(11), Parent: id(10), Name: "f", Last: true},
		fileop.Op{Kind: fileop.Rmdir, Flags: fileop.FlagTree, Obj: id(10), Parent: rootID, Name: "d", Last: true},
	)
	r = startRig(t, cfg, s)
	r.settled()
	if b, _ := os.ReadFile(filepath.Join(outside, "f")); string(b) != "mine" {
		t.Errorf("file outside changed to %q", b)
	}
	if _, err := os.Lstat(filepath.Join(outside, "evil")); err == nil {
		t.Error("file created outside")
	}
	if st := r.Stats(); st.Lost == 0 || !r.Position().Remirror {
		t.Errorf("somebody's change was not noticed: %+v", st)
	}
}

// An exchange of which one side, or both, are elsewhere on the target, as before a mirror
// came to them, moves each to where it is now; neither replaces the other.
func TestExchangeOfMisplaced(t *testing.T) {
	for name, want := range map[string]string{"a b": "a=two b=one", "c b": "a=two b=one", "a c": "a=two b=one", "c d": "a=two b=one", "b a": "a=two b=one"} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, 1, 100)
			r := startRig(t, testConfig(t, t.TempDir()), s)
			one, two, _ := strings.Cut(name, " ")
			s.add(
				fileop.Op{Kind: fileop.Gap},
				fileop.Op{Kind: fileop.Create, Obj: id(10), Parent: rootID, Name: one, Attr: fileAttr(0o600, 1), PMtime: at(1)},
				fileop.Op{Kind: fileop.Write, Obj: id(10), Data: []byte("one"), Mtime: at(1)},
				fileop.Op{Kind: fileop.Create, Obj: id(11), Parent: rootID, Name: two, Attr: fileAttr(0o600, 1), PMtime: at(1)},
				fileop.Op{Kind: fileop.Write, Obj: id(11), Data: []byte("two"), Mtime: at(1)},
				fileop.Op{Kind: fileop.Rename, Flags: fileop.RenameExchange, Obj: id(10), Parent: rootID, Name: "a",
					Obj2: id(11), Parent2: rootID, Name2: "b", PMtime: at(2), PMtime2: at(2)},
			)
			r.settled()
			var got []string
			for _, n := range filesBelow(t, r.dir) {
				b, err := os.ReadFile(filepath.Join(r.dir, n))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, n+"="+string(b))
			}
			if g := strings.Join(got, " "); g != want {
				t.Errorf("got %s, want %s", g, want)
			}
		})
	}
}
