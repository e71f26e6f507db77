package lower

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// mountOver mounts for the length of a test.
func mountOver(t *testing.T, source, target, fstype string, flags uintptr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		t.Skipf("mounting is not permitted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// Another file system, and a bind mount of the root into itself, are not entered.
func TestNestedMounts(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		must(t, os.Mkdir(root+"/tmpfs", 0o755))
		must(t, os.Mkdir(root+"/bind", 0o755))
		write(t, root+"/file", "below")
		write(t, root+"/over", "above")
		mountOver(t, "tmpfs", root+"/tmpfs", "tmpfs", 0)
		mountOver(t, root, root+"/bind", "", unix.MS_BIND)
		mountOver(t, root+"/over", root+"/file", "", unix.MS_BIND)
		write(t, root+"/tmpfs/f", "x")

		d := rootDir(t, tree)
		self, err := d.Self()
		must(t, err)
		for _, name := range []string{"tmpfs", "bind"} {
			e, f, err := d.OpenEntry(name)
			must(t, err)
			if f != nil || e.Attr.Mode&unix.S_IFMT != unix.S_IFDIR || e.Obj == self.Obj || e.Obj != entry(t, d, name).Obj {
				t.Errorf("%s: %+v", name, e)
			}
			sub, err := tree.Dir(e)
			must(t, err)
			if names, err := sub.Names(); len(names) > 0 || err != nil {
				t.Errorf("%s lists %q, %v", name, names, err)
			}
			if _, err := sub.Entry("f"); !errors.Is(err, ErrOtherFS) || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: entry gives %v", name, err)
			}
			if s, err := sub.Self(); s.Obj != e.Obj || err != nil {
				t.Errorf("%s: self %+v, %v", name, s, err)
			}
			if p, err := sub.Path(); p != name || err != nil {
				t.Errorf("%s: path %q, %v", name, p, err)
			}
			must(t, sub.WithLock(func() error { return nil }))
			must(t, sub.Close())
			if _, err := tree.Lookup(name + "/f"); !errors.Is(err, ErrOtherFS) || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: look up gives %v", name, err)
			}
		}
		if _, err := d.Entry("file"); !errors.Is(err, ErrOtherFS) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("file mounted over: %v", err)
		}
		got := tree.Mounts()
		slices.Sort(got)
		if want := []string{"bind", "file", "tmpfs"}; !slices.Equal(got, want) {
			t.Errorf("mounts %q, want %q", got, want)
		}
	})
}

// The tree goes on reading the real directory when something is mounted over it.
func TestRootMountedOver(t *testing.T) {
	forms(t, func(t *testing.T, root string, tree *Tree) {
		must(t, os.MkdirAll(root+"/dir/sub", 0o755))
		write(t, root+"/dir/file", "below")
		fd, err := unix.Open(root+"/dir", unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		defer unix.Close(fd)
		mountOver(t, "tmpfs", root+"/dir", "tmpfs", 0)
		write(t, root+"/dir/file", "above")

		handles := tree.handles
		tree = New(fd, nil) // after the mount, by a descriptor from before it
		defer tree.Close()
		tree.handles = handles
		d := rootDir(t, tree)
		if p, err := d.Path(); p != "" || err != nil {
			t.Errorf("root at %q, %v", p, err)
		}
		sub, err := tree.Dir(entry(t, d, "sub"))
		must(t, err)
		defer sub.Close()
		if p, err := sub.Path(); p != "sub" || err != nil {
			t.Errorf("sub at %q, %v", p, err)
		}
		f, err := tree.File(entry(t, d, "file"))
		must(t, err)
		defer f.Close()
		if got := content(t, f); got != "below" {
			t.Errorf("read %q", got)
		}
		must(t, os.Rename(root+"/dir/file", root+"/dir/moved"))
		if _, err := d.Entry("moved"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("sees a name of the mount: %v", err)
		}
	})
}
