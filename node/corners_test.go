package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// corners are changes that a capture by events easily misses. out is a place on the same
// file system, outside of the protected directory; follow waits for the replica.
var corners = []struct {
	name string
	do   func(t *testing.T, out, dir string, follow func())
}{
	{"replaced", func(t *testing.T, _, dir string, follow func()) {
		for _, content := range []string{"one", "two", "three"} {
			put(t, filepath.Join(dir, ".tmp"), content)
			must(t, os.Rename(filepath.Join(dir, ".tmp"), filepath.Join(dir, "f")))
			follow()
		}
	}},
	{"links", func(t *testing.T, out, dir string, follow func()) {
		put(t, filepath.Join(dir, "a"), "first")
		must(t, os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
		follow()
		put(t, filepath.Join(dir, "b"), "by the other name")
		follow()
		must(t, os.Remove(filepath.Join(dir, "a")))
		must(t, os.Chmod(filepath.Join(dir, "b"), 0o600))
	}},
	{"outside-link", func(t *testing.T, out, dir string, follow func()) {
		put(t, out, "made outside")
		follow()
		must(t, os.Link(out, filepath.Join(dir, "in")))
		follow()
		put(t, out, "written outside")
		follow()
		must(t, os.Chmod(out, 0o640))
		must(t, os.Remove(out))
	}},
	{"moved-in", func(t *testing.T, out, dir string, follow func()) {
		must(t, os.MkdirAll(filepath.Join(out, "x/y"), 0o755))
		put(t, filepath.Join(out, "x/y/z"), "brought")
		must(t, os.Rename(out, filepath.Join(dir, "in")))
		follow()
		put(t, filepath.Join(dir, "in/x/y/z"), "changed")
		follow()
		must(t, os.Rename(filepath.Join(dir, "in/x"), out))
		put(t, filepath.Join(out, "y/z"), "not ours")
	}},
	{"chain", func(t *testing.T, _, dir string, follow func()) { // paths told of lead nowhere any more
		must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		put(t, filepath.Join(dir, "a/b/f"), "one")
		follow()
		put(t, filepath.Join(dir, "a/b/f"), "two")
		must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "c")))
		must(t, os.Rename(filepath.Join(dir, "c"), filepath.Join(dir, "d")))
		must(t, os.Rename(filepath.Join(dir, "d/b"), filepath.Join(dir, "e")))
	}},
	{"inside-out", func(t *testing.T, _, dir string, follow func()) {
		must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
		put(t, filepath.Join(dir, "a/b/c/f"), "one")
		follow()
		must(t, os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "b")))
		must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b/c/a")))
	}},
	{"exchange", func(t *testing.T, _, dir string, follow func()) {
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		put(t, filepath.Join(dir, "d/f"), "in a directory")
		put(t, filepath.Join(dir, "g"), "a file")
		follow()
		must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "d"), unix.AT_FDCWD, filepath.Join(dir, "g"), unix.RENAME_EXCHANGE))
	}},
	{"mapped", func(t *testing.T, _, dir string, follow func()) {
		put(t, filepath.Join(dir, "m"), string(make([]byte, 8192)))
		follow()
		storeInChild(t, filepath.Join(dir, "m"))
	}},
	{"unlinked", func(t *testing.T, _, dir string, follow func()) {
		f, err := os.Create(filepath.Join(dir, "open"))
		must(t, err)
		defer f.Close()
		must(t, os.Remove(filepath.Join(dir, "open")))
		_, err = f.WriteString("of no name")
		must(t, err)
		follow()
		must(t, os.Mkdir(filepath.Join(dir, "open"), 0o700))
	}},
	{"attributes", func(t *testing.T, _, dir string, follow func()) {
		put(t, filepath.Join(dir, "f"), "x")
		must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
		follow()
		must(t, os.Chmod(filepath.Join(dir, "d"), 0o711))
		must(t, os.Chown(filepath.Join(dir, "f"), 12, 34))
		must(t, unix.Setxattr(filepath.Join(dir, "f"), "user.a", []byte("b"), 0))
		must(t, os.Truncate(filepath.Join(dir, "f"), 100))
		must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
		must(t, os.Symlink("f", filepath.Join(dir, "l")))
	}},
}

func put(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o644))
}

// storeEnv makes the test program change a file through a shared mapping and end.
const storeEnv = "UNDERSTUDY_STORE"

func storeInChild(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), storeEnv+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("store: %v\n%s", err, out)
	}
}

func storeChild() {
	path := os.Getenv(storeEnv)
	if path == "" {
		return
	}
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	b, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	unix.Close(fd)
	copy(b[5000:], "stored")
	os.Exit(0)
}
