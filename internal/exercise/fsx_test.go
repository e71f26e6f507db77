package exercise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFSX: the kernel's own file system passes, with every kind of call made.
func TestFSX(t *testing.T) {
	for seed := range int64(3) {
		s, err := FSX(t.TempDir(), seed, 2000, FSXOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range fsxOps {
			if s.Done[o.name] == 0 && s.Failed[o.name+" EOPNOTSUPP"] == 0 {
				t.Errorf("seed %d never did %s: %v", seed, o.name, s)
			}
		}
	}
}

// TestFSXDetects: a byte changed behind its back is found and the calls are named.
func TestFSXDetects(t *testing.T) {
	dir := t.TempDir()
	x := &fsx{path: filepath.Join(dir, "f"), opt: FSXOptions{MaxSize: 1 << 16}, fd: -1, afd: -1, stats: newStats()}
	if err := x.open(unix.O_CREAT); err != nil {
		t.Fatal(err)
	}
	defer x.close()
	x.good = []byte("right")
	if err := os.WriteFile(x.path, []byte("rigHt"), 0o644); err != nil {
		t.Fatal(err)
	}
	x.trace.add("planted")
	err := x.check(0, 5)
	if err == nil || !strings.Contains(err.Error(), "byte 3 is 0x48, must be 0x68") {
		t.Error(err)
	}
	if err := x.trace.wrap(err); !strings.Contains(err.Error(), "0: planted") {
		t.Error(err)
	}
	x.good = x.good[:4]
	if err := x.checkSize(); err == nil {
		t.Error("wrong size not found")
	}
}
