package lower

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// forms runs a test with Refs as handles and as paths.
func forms(t *testing.T, test func(t *testing.T, root string, tree *Tree)) {
	for _, handles := range []bool{true, false} {
		t.Run(fmt.Sprintf("handles=%v", handles), func(t *testing.T) {
			root := t.TempDir()
			tree := openTree(t, root, nil)
			if handles && !tree.handles {
				t.Skip("no file handles here: not root, or a file system without them")
			}
			tree.handles = handles
			test(t, root, tree)
		})
	}
}

func openTree(t testing.TB, root string, locks Locks) *Tree {
	t.Helper()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	tree := New(fd, locks)
	must(t, unix.Close(fd)) // the tree keeps its own
	t.Cleanup(func() { tree.Close() })
	return tree
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

func rootDir(t testing.TB, tree *Tree) *Dir {
	t.Helper()
	e, err := tree.Root()
	must(t, err)
	d, err := tree.Dir(e)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func entry(t testing.TB, d *Dir, name string) fileop.Entry {
	t.Helper()
	e, err := d.Entry(name)
	must(t, err)
	return e
}

func content(t testing.TB, f *File) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	must(t, err)
	return string(b)
}

func wantGone(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want gone", err)
	}
}

func TestEveryType(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: device nodes and owners")
	}
	forms(t, func(t *testing.T, root string, tree *Tree) {
		write(t, root+"/file", "hello")
		must(t, os.Link(root+"/file", root+"/link"))
		must(t, os.Mkdir(root+"/dir", 0o750))
		must(t, os.Symlink("/etc/passwd", root+"/sym"))
		must(t, unix.Mkfifo(root+"/fifo", 0o600))
		must(t, unix.Mknod(root+"/dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(root+"/sock", unix.S_IFSOCK|0o600, 0))
		must(t, os.Chown(root+"/file", 12, 34))
		when := time.Unix(1e9, 123456789)
		must(t, os.Chtimes(root+"/file", when, when))

		d := rootDir(t, tree)
		names, err := d.Names()
		must(t, err)
		slices.Sort(names)
		if want := []string{"dev", "dir", "fifo", "file", "link", "sock", "sym"}; !slices.Equal(names, want) {
			t.Fatalf("names %q, want %q", names, want)
		}
		types := map[string]uint32{"dev": unix.S_IFCHR, "dir": unix.S_IFDIR, "fifo": unix.S_IFIFO,
			"file": unix.S_IFREG, "link": unix.S_IFREG, "sock": unix.S_IFSOCK, "sym": unix.S_IFLNK}
		for name, typ := range types {
			e := entry(t, d, name)
			if e.Name != name || e.Attr.Mode&unix.S_IFMT != typ || len(e.Ref) == 0 || e.Obj.IsZero() {
				t.Errorf("%s: %+v", name, e)
			}
			e2, f, err := d.OpenEntry(name)
			must(t, err)
			if (f != nil) != (typ == unix.S_IFREG) || e2.Obj != e.Obj || e2.Attr != e.Attr || !bytes.Equal(e2.Ref, e.Ref) || e2.Target != e.Target {
				t.Errorf("%s: OpenEntry gives %+v and file %v, Entry %+v", name, e2, f != nil, e)
			}
			if f != nil {
				must(t, f.Close())
			}
			if _, err := tree.File(e); (err == nil) != (typ == unix.S_IFREG) {
				t.Errorf("%s: File gives %v", name, err)
			}
			l, err := tree.Lookup(name)
			must(t, err)
			if l.Obj != e.Obj {
				t.Errorf("%s: Lookup finds %v, want %v", name, l.Obj, e.Obj)
			}
		}
		file, link := entry(t, d, "file"), entry(t, d, "link")
		if file.Obj != link.Obj || file.Nlink != 2 || file.Size != 5 || file.Attr.UID != 12 || file.Attr.GID != 34 ||
			file.Attr.Mtime != (fileop.Time{Sec: 1e9, Nsec: 123456789}) {
			t.Errorf("file %+v, link %+v", file, link)
		}
		if e := entry(t, d, "sym"); e.Target != "/etc/passwd" {
			t.Errorf("symlink target %q", e.Target)
		}
		if e := entry(t, d, "dev"); e.Attr.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("device %x", e.Attr.Rdev)
		}
	})
}

func TestLongSymlink(t *testing.T) {
	root := t.TempDir()
	tree := openTree(t, root, nil)
	target := string(bytes.Repeat([]byte("x/"), 2000))
	must(t, os.Symlink(target, root+"/sym"))
	if e := entry(t, rootDir(t, tree), "sym"); e.Target != target {
		t.Fatalf("target of %d bytes, want %d", len(e.Target), len(target))
	}
}

func TestNoLinkIsFollowed(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		outside := t.TempDir()
		write(t, outside+"/secret", "x")
		must(t, os.Symlink(outside, root+"/out"))
		must(t, os.Mkdir(root+"/dir", 0o755))
		must(t, os.Symlink("../..", root+"/dir/up"))
		for _, p := range []string{"out/secret", "dir/up/x", "../x", "dir/../dir/..", "/etc/passwd", "dir/", "dir//up", "."} {
			if e, err := tree.Lookup(p); err == nil {
				t.Errorf("%q found %+v", p, e)
			}
		}
		d := rootDir(t, tree)
		for _, name := range []string{"..", ".", "", "out/secret", "a\x00b"} {
			if _, err := d.Entry(name); err == nil {
				t.Errorf("entry %q exists", name)
			}
		}
		e := entry(t, d, "dir")
		must(t, os.Remove(root+"/dir/up"))
		must(t, os.Rename(root+"/dir", root+"/old"))
		must(t, os.Symlink(outside, root+"/dir"))
		if dir, err := tree.Dir(e); err == nil {
			if names, _ := dir.Names(); len(names) > 0 {
				t.Errorf("lists %q outside", names)
			}
			dir.Close()
		} else {
			wantGone(t, err)
		}
		_, err := tree.Lookup("dir/secret")
		wantGone(t, err)
	})
}

func TestXattrsAndACLs(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		must(t, os.Mkdir(root+"/dir", 0o755))
		write(t, root+"/file", "x")
		acl := []byte{2, 0, 0, 0,
			1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 6, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
			0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff}
		if err := unix.Setxattr(root+"/dir", "system.posix_acl_default", acl, 0); errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("no ACLs on the file system of the test's directory")
		}
		must(t, unix.Setxattr(root+"/file", "system.posix_acl_access", acl, 0))
		big := bytes.Repeat([]byte{7}, 1000)
		must(t, unix.Setxattr(root+"/file", "user.big", big, 0))
		must(t, unix.Setxattr(root+"/file", "user.empty", nil, 0))

		d := rootDir(t, tree)
		if e := entry(t, d, "dir"); len(e.Xattrs) != 1 || e.Xattrs[0].Name != "system.posix_acl_default" || !bytes.Equal(e.Xattrs[0].Value, acl) {
			t.Errorf("directory: %v", e.Xattrs)
		}
		e, f, err := d.OpenEntry("file")
		must(t, err)
		defer f.Close()
		self, err := f.Self()
		must(t, err)
		for _, e := range []fileop.Entry{entry(t, d, "file"), e, self} {
			got := map[string][]byte{}
			for _, x := range e.Xattrs {
				got[x.Name] = x.Value
			}
			if len(got) != 3 || !bytes.Equal(got["user.big"], big) || len(got["user.empty"]) != 0 || !bytes.Equal(got["system.posix_acl_access"], acl) {
				t.Errorf("file: %v", e.Xattrs)
			}
		}
		sub, err := tree.Dir(entry(t, d, "dir"))
		must(t, err)
		defer sub.Close()
		if self, err := sub.Self(); err != nil || len(self.Xattrs) != 1 || self.Name != "" {
			t.Errorf("self %+v, %v", self, err)
		}
	})
}

func TestMovedDirectory(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		must(t, os.MkdirAll(root+"/a/sub", 0o755))
		write(t, root+"/a/file", "x")
		d := rootDir(t, tree)
		e := entry(t, d, "a")
		open, err := tree.Dir(e)
		must(t, err)
		defer open.Close()
		must(t, os.Rename(root+"/a", root+"/b"))

		if p, err := open.Path(); p != "b" {
			t.Errorf("open directory is at %q, %v", p, err)
		}
		if _, err := open.Names(); err != nil {
			t.Error(err)
		}
		f, err := tree.File(entry(t, open, "file")) // listed after the move: both forms find it
		must(t, err)
		must(t, f.Close())

		moved, err := tree.Dir(e) // listed before
		if !tree.handles {
			wantGone(t, err)
			return
		}
		must(t, err)
		defer moved.Close()
		if p, err := moved.Path(); p != "b" {
			t.Errorf("moved directory is at %q, %v", p, err)
		}
		_, err = tree.Lookup("a/file")
		wantGone(t, err)
	})
}

func TestGone(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		must(t, os.Mkdir(root+"/dir", 0o755))
		write(t, root+"/file", "x")
		d := rootDir(t, tree)
		dir, file := entry(t, d, "dir"), entry(t, d, "file")
		open, err := tree.Dir(dir)
		must(t, err)
		defer open.Close()
		held, err := os.Open(root + "/file") // keeps the inode alive
		must(t, err)
		defer held.Close()
		must(t, os.Remove(root+"/dir"))
		must(t, os.Remove(root+"/file"))

		_, err = open.Path()
		wantGone(t, err)
		if names, err := open.Names(); len(names) > 0 || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
			t.Errorf("removed directory lists %q, %v", names, err)
		}
		_, err = tree.File(file)
		wantGone(t, err)
		must(t, open.Close())
		_, err = tree.Dir(dir)
		wantGone(t, err)
		_, err = d.Entry("file")
		wantGone(t, err)
		_, _, err = d.OpenEntry("file")
		wantGone(t, err)
		_, err = tree.Lookup("dir/file")
		wantGone(t, err)
	})
}

func TestMovedOutOfTheTree(t *testing.T) {
	forms(t, func(t *testing.T, parent string, _ *Tree) {
		root := parent + "/root"
		must(t, os.MkdirAll(root+"/dir", 0o755))
		tree := openTree(t, root, nil)
		d, err := tree.Dir(entry(t, rootDir(t, tree), "dir"))
		must(t, err)
		defer d.Close()
		must(t, os.Rename(root+"/dir", parent+"/rootless"))
		_, err = d.Path()
		wantGone(t, err)
		must(t, os.Rename(parent+"/rootless", root+"/back"))
		must(t, os.Rename(root, parent+"/elsewhere")) // the tree goes with its root
		if p, err := d.Path(); p != "back" {
			t.Errorf("path %q, %v", p, err)
		}
	})
}

// An inode number used again must not lead to the new object.
func TestInodeReuse(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		d := rootDir(t, tree)
		reused := 0
		for range 50 {
			write(t, root+"/f", "old")
			old := entry(t, d, "f")
			must(t, os.Remove(root+"/f"))
			write(t, root+"/f", "new")
			if entry(t, d, "f").Obj.Ino == old.Obj.Ino {
				reused++
			}
			_, err := tree.File(old)
			wantGone(t, err)
			must(t, os.Remove(root+"/f"))
		}
		t.Logf("inode number used again %d of 50 times", reused)
	})
}

func TestUnreadableModes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: others may not read files of mode 0")
	}
	forms(t, func(t *testing.T, root string, tree *Tree) {
		write(t, root+"/file", "hidden")
		must(t, os.Mkdir(root+"/dir", 0))
		must(t, os.Chmod(root+"/file", 0))
		d := rootDir(t, tree)
		f, err := tree.File(entry(t, d, "file"))
		must(t, err)
		defer f.Close()
		if got := content(t, f); got != "hidden" {
			t.Errorf("content %q", got)
		}
		sub, err := tree.Dir(entry(t, d, "dir"))
		must(t, err)
		must(t, sub.Close())
	})
}

func TestStrangeNames(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		names := []string{"new\nline", "\xff\xfe", " ", "-rf", "x (deleted)", string(bytes.Repeat([]byte{'n'}, 255)), "\x01"}
		slices.Sort(names)
		for _, n := range names {
			must(t, os.Mkdir(filepath.Join(root, n), 0o755))
			write(t, filepath.Join(root, n, n), n)
		}
		d := rootDir(t, tree)
		got, err := d.Names()
		must(t, err)
		slices.Sort(got)
		if !slices.Equal(got, names) {
			t.Fatalf("names %q, want %q", got, names)
		}
		for _, n := range names {
			sub, err := tree.Dir(entry(t, d, n))
			must(t, err)
			if p, err := sub.Path(); p != n {
				t.Errorf("path %q, %v, want %q", p, err, n)
			}
			f, err := tree.File(entry(t, sub, n))
			must(t, err)
			if content(t, f) != n {
				t.Errorf("%q holds another file's content", n)
			}
			must(t, f.Close())
			must(t, sub.Close())
		}
	})
}

func TestHolesAndAccessTime(t *testing.T) {
	root := t.TempDir()
	tree := openTree(t, root, nil)
	f, err := os.Create(root + "/sparse")
	must(t, err)
	_, err = f.WriteAt([]byte("data"), 1<<20)
	must(t, err)
	must(t, f.Truncate(4<<20))
	must(t, f.Close())
	past := time.Unix(1e9, 0)
	must(t, os.Chtimes(root+"/sparse", past, time.Unix(2e9, 0))) // older than mtime: relatime would change it

	e, file, err := rootDir(t, tree).OpenEntry("sparse")
	must(t, err)
	defer file.Close()
	start, end, err := file.Data(0)
	must(t, err)
	if start > 1<<20 || end < 1<<20+4 || (start == 0 && end == 4<<20) {
		t.Errorf("data at %d to %d", start, end)
	}
	if _, _, err := file.Data(end); err != io.EOF {
		t.Errorf("after the last data: %v", err)
	}
	if _, _, err := file.Data(e.Size + 1); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	b := make([]byte, 10)
	if n, err := file.ReadAt(b, 4<<20-5); n != 5 || err != io.EOF {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(root+"/sparse", &st))
	if st.Atim.Sec != past.Unix() {
		t.Errorf("access time moved to %d", st.Atim.Sec)
	}
}

func TestManyNames(t *testing.T) {
	root := t.TempDir()
	tree := openTree(t, root, nil)
	const n = 20000
	for i := range n {
		must(t, unix.Mkfifo(fmt.Sprintf("%s/name-%05d", root, i), 0o600))
	}
	d := rootDir(t, tree)
	for range 2 { // from the start at every call
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				names, err := d.Names()
				slices.Sort(names)
				if err != nil || len(slices.Compact(names)) != n {
					t.Errorf("%d names, %v", len(names), err)
				}
			})
		}
		wg.Wait()
	}
}

// recorder is a Locks that counts.
type recorder struct {
	sync.Mutex
	held   []fileop.ObjID
	locked int
}

func (r *recorder) lock(id fileop.ObjID) func() {
	r.Lock()
	r.held, r.locked = append(r.held, id), r.locked+1
	return func() { r.held = r.held[:len(r.held)-1]; r.Unlock() }
}
func (r *recorder) LockDir(id fileop.ObjID) func()  { return r.lock(id) }
func (r *recorder) LockFile(id fileop.ObjID) func() { return r.lock(id) }
func (r *recorder) Shifts(id fileop.ObjID) uint64   { return id.Ino }

func TestLocks(t *testing.T) {
	root := t.TempDir()
	write(t, root+"/f", "x")
	r := &recorder{}
	d := rootDir(t, openTree(t, root, r))
	self, err := d.Self()
	must(t, err)
	must(t, d.WithLock(func() error {
		if !slices.Equal(r.held, []fileop.ObjID{self.Obj}) {
			t.Errorf("held %v", r.held)
		}
		return nil
	}))
	e, f, err := d.OpenEntry("f")
	must(t, err)
	defer f.Close()
	if f.Shifts() != e.Obj.Ino {
		t.Errorf("shifts %d", f.Shifts())
	}
	func() {
		defer func() { recover() }()
		f.WithLock(func() error { panic("in a lock") })
	}()
	boom := errors.New("boom")
	if err := f.WithLock(func() error { return boom }); err != boom || r.locked != 3 || len(r.held) != 0 {
		t.Errorf("%v, %d locks, held %v", err, r.locked, r.held)
	}
}
