package sametree

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// acl is a POSIX ACL (version 2: user::rw-, user:1:rw-, group::r--, mask::rw-, other::---).
var acl = []byte{2, 0, 0, 0,
	1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 1, 0, 0, 0,
	4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// build makes the same tree of every kind of thing each time it is called.
func build(t testing.TB, dir string) {
	t.Helper()
	p := func(name string) string { return filepath.Join(dir, name) }
	big := make([]byte, 300000)
	for i := range big {
		big[i] = byte(i>>8 + i)
	}
	must(t, os.MkdirAll(p("d/deep/er"), 0o755), os.Mkdir(p("d-"), 0o700), os.Mkdir(p("empty"), 0o755),
		os.WriteFile(p("d/file"), []byte("hello\n"), 0o644), os.WriteFile(p("d/big"), big, 0o600),
		os.WriteFile(p("d/deep/er/f"), []byte("deep"), 0o644), os.WriteFile(p("none"), nil, 0o644),
		os.Link(p("d/file"), p("d-/again")), os.Link(p("d/file"), p("third")),
		os.WriteFile(p("pair"), []byte("x"), 0o644), os.Link(p("pair"), p("pair2")),
		os.WriteFile(p("sparse"), nil, 0o644), os.Truncate(p("sparse"), 1<<20),
		os.Symlink("nowhere", p("link")), unix.Mkfifo(p("fifo"), 0o640),
		os.WriteFile(p("name\nwith \xff"), nil, 0o644),
		unix.Setxattr(p("d/file"), "user.colour", []byte("red"), 0),
		unix.Setxattr(p("d"), "user.dir", []byte{0, 1}, 0))
	writeAt(t, p("sparse"), 512<<10, "middle")
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), unix.Lchown(p("link"), 3, 4),
			os.Chown(p("d/big"), 1, 2), unix.Setxattr(p("third"), "system.posix_acl_access", acl, 0),
			unix.Setxattr(p("d"), "system.posix_acl_default", acl, 0), unix.Lsetxattr(p("link"), "trusted.t", []byte("1"), 0))
	}
	settle(t, dir)
}

func writeAt(t testing.TB, path string, off int64, s string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(s), off)
	must(t, err, f.Close())
}

// settle gives everything one modification time, so that a planted difference does
// not show as another time too.
func settle(t testing.TB, dir string) {
	t.Helper()
	ts := []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 1e9, Nsec: 123456789}}
	must(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

func chtime(p string, nsec int64) error {
	ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9, Nsec: nsec}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// plants are differences made in the second tree, and the lines expected for them:
// all of them, and nothing else. The times are settled afterwards unless keep is set.
var plants = []struct {
	name string
	root bool // needs root
	keep bool
	do   func(p func(string) string) error
	want []string // what each line begins with
}{
	{"nothing", false, false, func(p func(string) string) error { return nil }, nil},
	{"file missing", false, false, func(p func(string) string) error { return os.Remove(p("none")) }, []string{`"none": only in the first`}},
	{"file more", false, false, func(p func(string) string) error { return os.WriteFile(p("d/new"), nil, 0o644) }, []string{`"d/new": only in the second`}},
	{"directory missing", false, false, func(p func(string) string) error { return os.RemoveAll(p("d/deep")) }, []string{`"d/deep": only in the first tree (directory)`}},
	{"empty directory missing", false, false, func(p func(string) string) error { return os.Remove(p("empty")) }, []string{`"empty": only`}},
	{"renamed", false, false, func(p func(string) string) error { return os.Rename(p("none"), p("some")) }, []string{`"none": only in the first`, `"some": only in the second`}},
	{"odd name", false, false, func(p func(string) string) error { return os.Remove(p("name\nwith \xff")) }, []string{`"name\nwith \xff": only`}},
	{"other type", false, false, func(p func(string) string) error {
		os.Remove(p("fifo"))
		return os.WriteFile(p("fifo"), nil, 0o640)
	}, []string{`"fifo": type fifo, file`}},
	{"directory to file", false, false, func(p func(string) string) error {
		os.RemoveAll(p("d/deep"))
		return os.WriteFile(p("d/deep"), nil, 0o755)
	}, []string{`"d/deep": type directory, file`}},
	{"one byte", false, false, func(p func(string) string) error { return patch(p("d/big"), 299999) }, []string{`"d/big": content of 1 blocks differs, first between bytes 299008 and`}},
	{"two blocks", false, false, func(p func(string) string) error {
		patch(p("d/big"), 5000)
		return patch(p("d/big"), 200000)
	}, []string{`"d/big": content of 2 blocks differs, first between bytes 4096`}},
	{"longer", false, false, func(p func(string) string) error { return os.Truncate(p("d/big"), 300001) }, []string{`"d/big": size`}},
	{"shorter", false, false, func(p func(string) string) error { return os.Truncate(p("d/big"), 100) }, []string{`"d/big": size 300000, 100`}},
	{"data in a hole", false, false, func(p func(string) string) error { return patch(p("sparse"), 99) }, []string{`"sparse": content of 1`, `"sparse": data at`}},
	{"zeros in a hole", false, false, func(p func(string) string) error { return zeros(p("sparse")) }, []string{`"sparse": data at [{524288 528384}], [{8192 12288} {524288 528384}]`}},
	{"mode", false, false, func(p func(string) string) error { return os.Chmod(p("none"), 0o645) }, []string{`"none": mode 0644, 0645`}},
	{"set-user-id", false, false, func(p func(string) string) error { return unix.Chmod(p("none"), 0o4644) }, []string{`"none": mode 0644, 4644`}},
	{"sticky directory", false, false, func(p func(string) string) error { return unix.Chmod(p("empty"), 0o1755) }, []string{`"empty": mode`}},
	{"mode of the root", false, false, func(p func(string) string) error { return unix.Chmod(p("."), 0o711) }, []string{`".": mode`}},
	{"owner", true, false, func(p func(string) string) error { return os.Chown(p("none"), 7, -1) }, []string{`"none": owner 0:0, 7:0`}},
	{"group of a link", true, false, func(p func(string) string) error { return os.Lchown(p("link"), -1, 8) }, []string{`"link": owner 3:4, 3:8`}},
	{"time of a file", false, true, func(p func(string) string) error { return chtime(p("none"), 123456788) }, []string{`"none": modified 2001-09-09 01:46:40.123456789, 2001-09-09 01:46:40.123456788`}},
	{"time of a directory", false, true, func(p func(string) string) error { return chtime(p("d/deep"), 0) }, []string{`"d/deep": modified`}},
	{"time of a link", false, true, func(p func(string) string) error { return chtime(p("link"), 0) }, []string{`"link": modified`}},
	{"attribute value", false, false, func(p func(string) string) error {
		return unix.Setxattr(p("d/file"), "user.colour", []byte("blue"), 0)
	}, []string{`"d-/again": attribute user.colour 3 bytes "red", 4`, `"d/file": attribute`, `"third": attribute`}},
	{"attribute missing", false, false, func(p func(string) string) error { return unix.Removexattr(p("d"), "user.dir") }, []string{`"d": attribute user.dir 2 bytes "\x00\x01", missing`}},
	{"empty attribute more", false, false, func(p func(string) string) error { return unix.Setxattr(p("none"), "user.e", nil, 0) }, []string{`"none": attribute user.e missing, 0 bytes`}},
	{"attribute of a link", true, false, func(p func(string) string) error { return unix.Lremovexattr(p("link"), "trusted.t") }, []string{`"link": attribute trusted.t`}},
	{"default ACL", true, false, func(p func(string) string) error {
		return unix.Removexattr(p("d"), "system.posix_acl_default")
	}, []string{`"d": attribute system.posix_acl_default 44 bytes`}},
	{"link group split", false, false, func(p func(string) string) error {
		os.Remove(p("pair2"))
		return os.WriteFile(p("pair2"), []byte("x"), 0o644)
	}, []string{`"pair2": hard link: same file as "pair", a file of its own`}},
	{"link groups joined", false, false, func(p func(string) string) error {
		os.Remove(p("none"))
		os.WriteFile(p("empty/x"), nil, 0o644)
		os.Link(p("empty/x"), p("none"))
		return os.Link(p("empty/x"), p("empty/y"))
	}, []string{`"empty/x": only`, `"empty/y": only`}},
	{"link in the other group", false, false, func(p func(string) string) error {
		os.Remove(p("pair2"))
		os.Remove(p("none"))
		os.WriteFile(p("pair2"), []byte("x"), 0o644)
		return os.Link(p("pair2"), p("none"))
	}, []string{`"none": size 0, 1`, `"pair2": hard link: same file as "pair", same file as "none"`}},
	{"link target", false, false, func(p func(string) string) error {
		os.Remove(p("link"))
		os.Symlink("somewhere", p("link"))
		if os.Geteuid() == 0 {
			os.Lchown(p("link"), 3, 4)
			return unix.Lsetxattr(p("link"), "trusted.t", []byte("1"), 0)
		}
		return nil
	}, []string{`"link": points to "nowhere", "somewhere"`}},
	{"device number", true, false, func(p func(string) string) error {
		os.Remove(p("null"))
		return unix.Mknod(p("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
	}, []string{`"null": device 1:3, 1:5`}},
}

func patch(path string, off int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{0xfe}, off)
	return err
}

func zeros(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 4096), 8192)
	return err
}

// TestPlanted: every planted difference is found, and nothing else.
func TestPlanted(t *testing.T) {
	unix.Umask(0)
	a := t.TempDir()
	build(t, a)
	for _, c := range plants {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			b := t.TempDir()
			must(t, unix.Chmod(a, 0o755), unix.Chmod(b, 0o755))
			build(t, b)
			must(t, c.do(func(name string) string { return filepath.Join(b, name) }))
			if !c.keep {
				settle(t, b)
			}
			lines, err := Diff(a, b, Options{Holes: true})
			must(t, err)
			if len(lines) != len(c.want) {
				t.Errorf("%d lines, want %d:\n%s", len(lines), len(c.want), strings.Join(lines, "\n"))
			}
			slices.Sort(lines)
			for i, w := range c.want {
				if i < len(lines) && !strings.HasPrefix(lines[i], w) {
					t.Errorf("line %s\nwant %s", lines[i], w)
				}
			}
		})
	}
}

// TestOptions: what is left out is left out, and no more.
func TestOptions(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	build(t, a)
	build(t, b)
	p := func(name string) string { return filepath.Join(b, name) }
	must(t, os.WriteFile(p("d/x.tmp"), nil, 0o644), os.MkdirAll(p("skip/below"), 0o755), os.Remove(p("d/deep/er/f")),
		unix.Setxattr(p("none"), "user.a", nil, 0), os.Chmod(p("none"), 0o600), chtime(p("pair"), 1), unix.Chmod(b, 0o712), unix.Chmod(a, 0o755))
	all := Options{Ignore: []string{"*.tmp", "skip", "d/deep/er/f"}, IgnoreXattrs: []string{"user.a*"}, NoRoot: true, NoMtime: true, NoMode: true}
	Check(t, a, b, all)
	for name, c := range map[string]struct {
		o    func(*Options)
		want int
	}{
		"ignore": {func(o *Options) { o.Ignore = nil }, 3}, "xattrs": {func(o *Options) { o.IgnoreXattrs = nil }, 1},
		"root": {func(o *Options) { o.NoRoot, o.NoMode = false, false }, 2}, "mode": {func(o *Options) { o.NoMode = false }, 1},
		"directory times": {func(o *Options) { o.NoMtime, o.NoDirMtime = false, true }, 2},
		"times":           {func(o *Options) { o.NoMtime = false }, 4},
	} {
		o := all
		c.o(&o)
		lines, err := Diff(a, b, o)
		if err != nil || len(lines) != c.want {
			t.Errorf("%s: %q, %v", name, lines, err)
		}
	}
}

// TestRemembered: a snapshot outlives its tree.
func TestRemembered(t *testing.T) {
	dir := t.TempDir()
	build(t, dir)
	before, err := Snapshot(dir)
	must(t, err, patch(filepath.Join(dir, "d/big"), 7))
	settle(t, dir)
	after, err := Snapshot(dir)
	must(t, err)
	if lines := DiffTrees(before, after, Options{}); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
	must(t, os.RemoveAll(dir))
	CheckTrees(t, before, before, Options{Holes: true})
	if _, err := Snapshot(dir); err == nil {
		t.Error("a missing tree was read")
	}
}

// TestCopyIsSame: what "cp -a" copies is the same, and a copy by content is not.
func TestCopyIsSame(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	build(t, a)
	if out, err := exec.Command("cp", "-a", "--sparse=auto", a+"/.", b).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	Check(t, a, b, Options{})
}
