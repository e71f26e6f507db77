package exercise

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/internal/sametree"
)

// TestStressRepeats: one worker, one seed, one tree.
func TestStressRepeats(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		s, err := Stress(dir, 7, 1, 5000, StressOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(s)
		for _, o := range stressOps {
			if s.Done[o.name] == 0 {
				t.Errorf("never did %s", o.name)
			}
		}
	}
	// Not where the file system allocates: ext4 decides that by more than the calls.
	sametree.Check(t, a, b, sametree.Options{NoMtime: true})
	c := t.TempDir()
	if _, err := Stress(c, 8, 1, 5000, StressOptions{}); err != nil {
		t.Fatal(err)
	}
	if lines, err := sametree.Diff(a, c, sametree.Options{NoMtime: true}); err != nil || len(lines) == 0 {
		t.Errorf("another seed gave the same tree: %v", err)
	}
}

// TestStressTogether: workers beside each other meet only errors that may be.
func TestStressTogether(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Chmod(filepath.Dir(dir), 0o755); err != nil { // user 1000 must get here
		t.Fatal(err)
	}
	s, err := Stress(dir, 1, 4, 12000, StressOptions{UID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s)
	tree, err := sametree.Snapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[uint32]int{}
	for _, n := range tree.Nodes {
		kinds[n.Mode&unix.S_IFMT]++
	}
	if len(kinds) < 4 || s.Ops < 5000 {
		t.Errorf("%d names of kinds %v after %d calls", len(tree.Nodes), kinds, s.Ops)
	}
}

// TestUnexpectedFails: an error a broken mount gives ends the run and shows the calls.
func TestUnexpectedFails(t *testing.T) {
	for _, e := range []unix.Errno{unix.EIO, unix.ENOTCONN, unix.EBADF, unix.ESTALE, unix.ENOSYS} {
		w := &worker{stats: newStats(), r: newRand(1)}
		err := w.one([]stressOp{{"rename", 1, func(w *worker) error {
			w.trace.add("rename this")
			return fmt.Errorf("wrapped: %w", e)
		}}})
		if !errors.Is(err, e) || !strings.Contains(err.Error(), "0: rename this") {
			t.Error(err)
		}
	}
	w := &worker{stats: newStats(), r: newRand(1)}
	if err := w.one([]stressOp{{"rename", 1, func(*worker) error { return unix.ENOENT }}}); err != nil || w.stats.Failed["rename ENOENT"] != 1 {
		t.Error(err, w.stats)
	}
	if _, err := Stress(t.TempDir()+"/missing", 1, 1, 100, StressOptions{UID: 1}); err == nil {
		t.Error("a missing directory was taken")
	}
}
