package fanotify

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOutsideOfAClone: seen through a copy of a mount that shows only the captured
// directory, what lies outside is outside. The kernel calls it "/", like the root.
func TestOutsideOfAClone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("copying a mount needs root")
	}
	dir := t.TempDir()
	for _, d := range []string{"tree/sub", "other/sub"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount, err := unix.OpenTree(unix.AT_FDCWD, filepath.Join(dir, "tree"), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mount)
	root, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for d, want := range map[string]struct {
		rel string
		err error
	}{"tree": {"", nil}, "tree/sub": {"sub", nil}, "other": {"", errOutside}, "other/sub": {"", errOutside}} {
		h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(dir, d), 0)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.OpenByHandleAt(root, h, unix.O_PATH|unix.O_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := relative(root, fd)
		unix.Close(fd)
		if rel != want.rel || !errors.Is(err, want.err) {
			t.Errorf("%s: %q, %v", d, rel, err)
		}
	}
}
