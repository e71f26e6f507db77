package inotify

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPendingMerges(t *testing.T) {
	var p pending
	if !p.empty() || len(p.take()) != 0 {
		t.Fatal("a new one is not empty")
	}
	p.add("b", false)
	p.add("a/x", false)
	p.add("a", true)
	p.add("a", false)
	p.add("b", false)
	if got, want := p.take(), []hint{{"a", true}, {"a/x", false}, {"b", false}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !p.empty() {
		t.Error("not empty after take")
	}
	p.add("a", false)
	p.add("", true)
	p.add("b", false)
	if got, want := p.take(), []hint{{"", true}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPendingIsBounded(t *testing.T) {
	var names, bytes pending
	for i := range maxPending + 1 {
		names.add(fmt.Sprint(i), false)
	}
	for i := range 20 {
		bytes.add(strings.Repeat("x", 1<<20)+fmt.Sprint(i), false)
	}
	for _, p := range []*pending{&names, &bytes} {
		if got := p.take(); len(got) != 1 || got[0] != (hint{"", true}) {
			t.Errorf("%d hints beyond the bound", len(got))
		}
		p.add("again", false)
		if got := p.take(); len(got) != 1 || got[0] != (hint{"again", false}) {
			t.Errorf("after the bound: %v", got)
		}
	}
}

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
