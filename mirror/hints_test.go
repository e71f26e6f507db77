package mirror

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// hinted is a pair whose source is not captured but hinted at.
func hinted(t testing.TB) (*pair, func()) {
	p := newPair(t, nil, true)
	p.sinks = nil
	p.populate()
	p.run(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.m.RunHints(ctx) }()
	return p, func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// dirty hints at paths and waits until all was looked at.
func (p *pair) dirty(t testing.TB, deep bool, paths ...string) {
	t.Helper()
	for _, at := range paths {
		p.m.Dirty(0, at, deep)
	}
	p.quiet(t)
}

func (p *pair) quiet(t testing.TB) {
	t.Helper()
	await(t, "hints done", func() bool { return p.m.Idle() })
}

func TestHints(t *testing.T) {
	p, stop := hinted(t)
	defer stop()
	p.create("a/new")
	p.write("a/new", 0, []byte("new"))
	p.dirty(t, false, "a/new")
	p.equal(t)
	p.write("a/b/large", 70000, []byte("changed"))
	_, _, b := p.marks()
	p.dirty(t, false, "a/b/large")
	p.equal(t)
	if _, _, b2 := p.marks(); b2-b > 3*4096 {
		t.Fatalf("%d bytes for a small change of a large file", b2-b)
	}
	p.remove("a/new")
	p.dirty(t, false, "a/new")
	p.equal(t)
	n := p.logged()
	p.rename("a/b", "empty/moved")
	p.dirty(t, false, "a", "empty")
	p.equal(t)
	for i, o := range p.ops[n:] {
		if p.sizes[n+i] > 4096 {
			t.Fatalf("%s of %d bytes for a rename", o.Kind, p.sizes[n+i])
		}
	}
	p.mkdir("x")
	p.mkdir("x/y")
	p.create("x/y/z")
	p.dirty(t, true, "x/y") // its parent is not known either
	p.equal(t)
	p.chmod("x", 0o700)
	p.dirty(t, false, "x")
	p.equal(t)
	p.chmod("", 0o711)
	p.dirty(t, false, "")
	p.equal(t)
	p.write("x/y/z", 0, bytes.Repeat([]byte("z"), 1<<20))
	p.wire.down.Store(true)
	p.m.Dirty(0, "x/y/z", false)
	await(t, "asked in vain", func() bool { return p.wire.down.Load() && p.m.Pending() > 0 })
	p.wire.down.Store(false)
	p.quiet(t)
	p.equal(t)
}

// TestHintsConverge: whatever happened, once every place was called dirty the target is
// equal.
func TestHintsConverge(t *testing.T) {
	for seed := range uint64(8) {
		p, stop := hinted(t)
		k := &monkey{source: p.source, r: rand.New(rand.NewPCG(seed, 5))}
		for range 10 {
			for range 15 {
				k.act()
			}
			for _, l := range p.source.describe(p.m.place(0)) {
				if path := firstQuoted(l); k.r.IntN(2) == 0 && !strings.Contains(path, `\`) {
					p.m.Dirty(0, path, k.r.IntN(10) == 0)
				}
			}
		}
		p.dirty(t, true, "")
		p.equal(t)
		stop()
	}
}

// TestHintsBounded: at the bound the places become one.
func TestHintsBounded(t *testing.T) {
	m := New(Config{Rules: all{"/"}}, nil)
	for i := range maxHints + 5 {
		m.Dirty(0, fmt.Sprint("d/", i), false)
	}
	if got := m.hints.take(); len(got) > 10 || !got[hint{}].deep {
		t.Fatalf("%d places, root %t", len(got), got[hint{}])
	}
}
