package repset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func write(t *testing.T, path string, n int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, n), 0o644); err != nil {
		t.Fatal(err)
	}
}

// here are the roots of r, read where they are.
func here(r *Rules) (out []Place) {
	for _, root := range r.Roots() {
		out = append(out, Place{root, root})
	}
	return out
}

func measureAll(t *testing.T, r *Rules) (Size, error) {
	t.Helper()
	return Measure(t.Context(), r, here(r), nil)
}

// TestMeasureElsewhere reads a root by another path, as beneath a mount.
func TestMeasureElsewhere(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/at/one", 10)
	write(t, dir+"/at/sub/two", 5)
	r := mustCompile(t, dir+"/root inc", dir+"/root/sub exc")
	got, err := Measure(t.Context(), r, []Place{{dir + "/root", dir + "/at"}}, nil)
	if want := (Size{Files: 1, Dirs: 1, Bytes: 10}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a/one", 100)
	write(t, dir+"/a/sub/two", 20)
	write(t, dir+"/a/sub/skip.tmp", 1000)
	write(t, dir+"/a/out/three", 1000)
	write(t, dir+"/b/four", 3)
	write(t, dir+"/b/elsewhere", 5000)
	for _, err := range []error{
		os.Link(dir+"/a/one", dir+"/a/sub/again"),
		os.Symlink(dir+"/b", dir+"/a/link"), // counts as itself, is not followed
		syscall.Mkfifo(dir+"/a/fifo", 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := mustCompile(t, dir+"/a inc", dir+"/a/*.tmp exc", dir+"/a/out exc", dir+"/b/four inc")
	var last Size
	got, err := Measure(t.Context(), r, here(r), func(s Size) { last = s })
	want := Size{Files: 5, Dirs: 3, Bytes: 123} // /a, /a/sub, /b
	if err != nil || got != want || last != want {
		t.Errorf("%+v, last %+v, %v", got, last, err)
	}
}

// TestMeasureStaysOnItsFileSystem needs a second file system below the first.
func TestMeasureStaysOnItsFileSystem(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	write(t, dir+"/one", 10)
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir+"/mnt", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir+"/mnt", syscall.MNT_DETACH) })
	write(t, dir+"/mnt/two", 10)
	got, err := measureAll(t, mustCompile(t, dir+" inc"))
	if want := (Size{Files: 1, Dirs: 2, Bytes: 10}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeasureEnds(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 * measureStep / 2 {
		write(t, fmt.Sprintf("%s/%d", dir, i), 0)
	}
	r := mustCompile(t, dir+" inc")
	stop := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	got, err := Measure(ctx, r, here(r), func(Size) { cancel(stop) })
	if !errors.Is(err, stop) || got.Files > measureStep {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := measureAll(t, mustCompile(t, dir+"/missing inc")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
