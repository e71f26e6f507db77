package inotify

import (
	"slices"
	"testing"
)

func TestWatchesFollowPaths(t *testing.T) {
	w := newWatches()
	for i, p := range []string{"", "a", "a/b", "a/b/c", "ab", "x/y"} {
		w.set(p, uint64(i+1))
	}
	if p, ok := w.where(4); p != "a/b/c" || !ok {
		t.Errorf("inode 4 at %q", p)
	}
	var gone []string
	each := func(p string) { gone = append(gone, p) }
	w.drop("a", each)
	w.drop("x", each)
	w.drop("none/at/all", each)
	slices.Sort(gone)
	if want := []string{"a", "a/b", "a/b/c", "x/y"}; !slices.Equal(gone, want) {
		t.Errorf("dropped %q, want %q", gone, want)
	}
	if _, ok := w.where(2); ok || w.inode("a/b") != 0 || w.inode("ab") != 5 || w.inode("") != 1 {
		t.Error("wrong ones dropped")
	}
	if len(w.top.below) != 1 || len(w.byIno) != 2 {
		t.Errorf("left over: %d names, %d inodes", len(w.top.below), len(w.byIno))
	}
}
