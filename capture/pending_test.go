package capture

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestPendingMerges(t *testing.T) {
	var p Pending
	if !p.Empty() || len(p.Take()) != 0 {
		t.Fatal("a new one is not empty")
	}
	p.Add(Hint{Path: "b", Deep: false})
	p.Add(Hint{Path: "a/x", Deep: false})
	p.Add(Hint{Path: "a", Deep: true})
	p.Add(Hint{Path: "a", Deep: false})
	p.Add(Hint{Path: "b", Deep: false})
	if got, want := p.Take(), []Hint{{Path: "a", Deep: true}, {Path: "a/x", Deep: false}, {Path: "b", Deep: false}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !p.Empty() {
		t.Error("not empty after take")
	}
	p.Add(Hint{Path: "a", Deep: false})
	p.Add(Hint{Path: "", Deep: true})
	p.Add(Hint{Path: "b", Deep: false})
	if got, want := p.Take(), []Hint{{Path: "", Deep: true}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPendingIsBounded(t *testing.T) {
	var names, bytes Pending
	for i := range MaxPending + 1 {
		names.Add(Hint{Path: fmt.Sprint(i), Deep: false})
	}
	for i := range 20 {
		bytes.Add(Hint{Path: strings.Repeat("x", 1<<20) + fmt.Sprint(i), Deep: false})
	}
	for _, p := range []*Pending{&names, &bytes} {
		if got := p.Take(); len(got) != 1 || got[0] != (Hint{Path: "", Deep: true}) {
			t.Errorf("%d hints beyond the bound", len(got))
		}
		p.Add(Hint{Path: "again", Deep: false})
		if got := p.Take(); len(got) != 1 || got[0] != (Hint{Path: "again", Deep: false}) {
			t.Errorf("after the bound: %v", got)
		}
	}
}
