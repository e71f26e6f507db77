package mirror

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

func dbRules(dir string) Rules {
	return pattern{dir: dir, glob: "*.db", except: filepath.Join(dir, "out")}
}

// inSet fails unless the target holds what is in the set, directory times aside.
func (p *pair) inSet(t testing.TB) {
	t.Helper()
	p.settle(t)
	p.drain(t)
	want, got := withoutDirTimes(p.source.describe(p.m.place(0))), withoutDirTimes(p.rep.describe())
	if d := diffLines(want, got); d != "" {
		t.Fatalf("source and target differ:\n%s", d)
	}
}

// since lists the kinds of the records logged after the first n.
func (p *pair) since(n int) []fileop.Kind {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	var out []fileop.Kind
	for _, o := range p.ops[n:] {
		out = append(out, o.Kind)
	}
	return out
}

func (p *pair) logged() int {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	return len(p.ops)
}

// TestBorder: a rename or link is judged by both ends (B5.26, B5.33, B5.39, B5.41).
func TestBorder(t *testing.T) {
	large := bytes.Repeat([]byte("large"), 1<<20)
	steps := []struct {
		name string
		do   func(p *pair)
		want []fileop.Kind // nil: any
	}{
		{"write a temporary file, rename it into the set", func(p *pair) {
			p.create("in/t.tmp")
			p.write("in/t.tmp", 0, []byte("content"))
			p.setxattr("in/t.tmp", "user.k", "v")
			p.rename("in/t.tmp", "in/new.db")
		}, []fileop.Kind{fileop.SetXattr, fileop.Create, fileop.Write, fileop.SetAttr, fileop.Link}},
		{"the same over a file of the set", func(p *pair) {
			p.create("in/t.tmp")
			p.write("in/t.tmp", 100<<10, []byte("after a hole"))
			p.truncate("in/t.tmp", 1<<20)
			p.rename("in/t.tmp", "in/x.db")
		}, []fileop.Kind{fileop.Create, fileop.Write, fileop.Truncate, fileop.SetAttr, fileop.Link}},
		{"out of the set", func(p *pair) { p.rename("in/x.db", "in/x.tmp") }, []fileop.Kind{fileop.Unlink}},
		{"outside", func(p *pair) { p.rename("out/o.db", "out/p.db"); p.write("out/p.db", 0, []byte("x")) }, []fileop.Kind{}},
		{"within", func(p *pair) { p.rename("in/x.db", "y.db") }, []fileop.Kind{fileop.Rename}},
		{"a large file into the set", func(p *pair) {
			p.create("big.tmp")
			p.write("big.tmp", 0, large)
			p.rename("big.tmp", "big.db")
		}, nil},
		{"a directory out of the set", func(p *pair) { p.rename("in", "out/in") }, []fileop.Kind{fileop.Rmdir}},
		{"a directory into the set", func(p *pair) { p.rename("out/sub", "in/sub") }, nil},
		{"out and back", func(p *pair) { p.rename("in", "out/in"); p.rename("out/in", "in2") }, nil},
		{"the excluded directory renamed into the set", func(p *pair) { p.rename("out", "now-in") }, nil},
		{"a directory takes the excluded name", func(p *pair) { p.rename("out", "now-in"); p.rename("in", "out") }, nil},
		{"exchange across the border", func(p *pair) { p.renameFlags("in/x.db", "out/o.db", unix.RENAME_EXCHANGE) }, nil},
		{"exchange of directories across the border", func(p *pair) { p.renameFlags("in", "out/sub", unix.RENAME_EXCHANGE) }, nil},
		{"exchange of a name in and a name out", func(p *pair) { p.renameFlags("in/x.db", "in/a.tmp", unix.RENAME_EXCHANGE) }, nil},
		{"link out of the set", func(p *pair) { p.link("in/x.db", "in/l.tmp"); p.remove("in/x.db") }, []fileop.Kind{fileop.Unlink}},
		{"link into the set", func(p *pair) {
			p.link("out/o.db", "in/l.db")
			p.write("out/o.db", 1, []byte("through the outside name"))
		}, nil},
		{"one of two names leaves", func(p *pair) {
			p.link("in/x.db", "in/z.db")
			p.rename("in/z.db", "in/z.tmp")
			p.write("in/z.tmp", 0, []byte("seen through x.db"))
		}, nil},
		{"a symbolic link and a fifo come in", func(p *pair) {
			p.symlink("s.tmp", "x")
			p.rename("s.tmp", "s.db")
			p.mkfifo("f.tmp")
			p.rename("f.tmp", "in/x.db")
		}, []fileop.Kind{fileop.Symlink, fileop.Unlink, fileop.Mknod}},
		{"copy into the set", func(p *pair) { p.copyRange("in/a.tmp", "in/x.db", 0, 3, 5) }, []fileop.Kind{fileop.Write}},
		{"names outside", func(p *pair) { p.create("in/q.tmp"); p.write("in/q.tmp", 0, []byte("x")); p.remove("in/q.tmp") }, []fileop.Kind{}},
	}
	for _, s := range steps {
		for _, compare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", s.name, compare), func(t *testing.T) {
				p := newPair(t, dbRules, compare)
				for _, d := range []string{"in", "in/deep", "out", "out/sub"} {
					p.mkdir(d)
				}
				for _, f := range []string{"in/x.db", "in/a.tmp", "in/deep/d.db", "out/o.db", "out/sub/s.db", "out/sub/s.tmp"} {
					p.create(f)
					p.write(f, 0, []byte("in "+f))
				}
				stop := p.serve(t)
				defer stop()
				p.run(t, Options{Mode: Full})
				p.inSet(t)
				n := p.logged()
				s.do(p)
				p.inSet(t)
				if got := p.since(n); s.want != nil && fmt.Sprint(got) != fmt.Sprint(s.want) {
					t.Fatalf("logged %v, want %v", got, s.want)
				}
				p.write("in/deep/d.db", 0, []byte("still captured"))
				p.inSet(t)
			})
		}
	}
}

// TestRootMoves: a rename of the set's root directory takes all out of the set (B5.25),
// and what is put in its place comes in.
func TestRootMoves(t *testing.T) {
	p := newPairAt(t, func(dir string) Rules { return all{filepath.Join(dir, "data/set")} }, true, "")
	defer p.close()
	p.mkdir("data")
	p.mkdir("data/set")
	p.m.cfg.Roots[0].Dir = filepath.Join(p.dir, "data/set")
	p.create("data/set/f")
	p.create("outside")
	stop := p.serve(t)
	defer stop()
	p.run(t, Options{Mode: Full})
	p.settle(t)
	p.equal(t)
	p.rename("data", "moved")
	p.settle(t)
	if p.drain(t); len(p.rep.describe()) != 1 {
		t.Fatalf("left on the target: %v", p.rep.describe())
	}
	p.mkdir("other")
	p.mkdir("other/set")
	p.create("other/set/g")
	p.rename("other", "data")
	p.settle(t)
	p.equal(t)
	p.rename("outside", "data/set/h")
	p.settle(t)
	p.equal(t)
}

// TestTwoRootsOfOneTree: a rename between two roots is a removal and an arrival.
func TestTwoRootsOfOneTree(t *testing.T) {
	p := newPairAt(t, nil, true, "")
	defer p.close()
	p.mkdir("one")
	p.mkdir("two")
	p.mkdir("one/d")
	p.create("one/d/f")
	p.write("one/d/f", 0, []byte("hello"))
	roots := []Root{
		{Tree: p.tree, TreePath: p.dir, Dir: p.path("one"), Index: 4},
		{Tree: p.tree, TreePath: p.dir, Dir: p.path("two"), Index: 7},
	}
	p.m = New(Config{Roots: roots, Rules: all{p.dir}, Log: p.wire}, nil)
	p.sinks = []*Border{p.m.Border(0), p.m.Border(1)}
	stop := p.serve(t)
	defer stop()
	p.run(t, Options{})
	n := p.logged()
	p.rename("one/d", "two/d")
	p.settle(t)
	seen := map[string]bool{}
	for _, o := range p.ops[n:] {
		seen[fmt.Sprint(o.Tree, o.Kind, o.Name)] = true
	}
	for _, want := range []string{"4 rmdird", "7 mirror-entryd", "7 mirror-entryf"} {
		if !seen[want] {
			t.Errorf("no %s in %v", want, seen)
		}
	}
}

// TestOversizeAttributesDoNotEndTheConnection: what fits no record is left out and told.
func TestOversizeAttributesDoNotEndTheConnection(t *testing.T) {
	var told error
	m := New(Config{Problem: func(_ string, err error) { told = err }}, nil)
	o := &fileop.Op{Kind: fileop.MirrorEntry}
	for i := range 5 {
		o.Xattrs = append(o.Xattrs, fileop.Xattr{Name: "user." + string(rune('a'+i)), Value: make([]byte, 60<<10)})
	}
	if got := m.fit(o); len(got.Xattrs) != 0 || told == nil || len(o.Xattrs) != 5 {
		t.Errorf("%d attributes stayed, told %v", len(got.Xattrs), told)
	}
	o.Xattrs = o.Xattrs[:2]
	if got := m.fit(o); got != o {
		t.Error("attributes that fit were changed")
	}
}
