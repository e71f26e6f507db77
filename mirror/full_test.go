package mirror

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"understudy/fileop"
)

// all selects everything below a directory.
type all struct{ dir string }

func (a all) Selects(p string, dir bool) bool { return below(p, a.dir) }
func (a all) Leads(p string) bool             { return below(p, a.dir) }
func (a all) SameBelow(x, y string) bool      { return true }
func (a all) Everything(string) bool          { return true }

// pattern selects files by a pattern of their last name; all directories lead.
type pattern struct{ dir, glob, except string }

func (p pattern) Selects(at string, dir bool) bool {
	if !below(at, p.dir) || p.except != "" && below(at, p.except) {
		return false
	}
	ok, _ := path.Match(p.glob, path.Base(at))
	return !dir && ok
}
func (p pattern) Leads(at string) bool {
	return below(at, p.dir) && (p.except == "" || !below(at, p.except))
}
func (p pattern) SameBelow(x, y string) bool {
	if p.except != "" && (below(p.except, x) || below(p.except, y)) {
		return x == y
	}
	return p.Leads(x) == p.Leads(y)
}

// pair is a source, a mirror and a target.
type pair struct {
	*source
	*wire
	m *Mirror
}

func newPair(t testing.TB, rules func(dir string) Rules, compare bool) *pair {
	p := newPairAt(t, rules, compare, "")
	t.Cleanup(p.close)
	return p
}

// newPairAt has the set's root at sub below the tree.
func newPairAt(t testing.TB, rules func(dir string) Rules, compare bool, sub string) *pair {
	p := &pair{source: newSource(t), wire: newWire()}
	if sub != "" {
		p.mkdir(sub)
	}
	if rules == nil {
		rules = func(dir string) Rules { return all{dir} }
	}
	cfg := Config{Roots: []Root{{Tree: p.tree, TreePath: p.dir, Dir: join(p.dir, sub)}}, Rules: rules(p.dir), Log: p.wire, BlockSize: 4096, PartSize: 512, Busy: p.wire.tellBusy}
	if compare {
		cfg.Target = p.wire
	}
	p.m = New(cfg, nil)
	p.sinks = []*Border{p.m.Border(0)}
	return p
}

// anew gives the pair a mirror that knows nothing.
func (p *pair) anew() {
	p.wire.busy.Store(true)
	p.m = New(p.m.cfg, nil)
}

func (p *pair) run(t testing.TB, o Options) {
	t.Helper()
	if err := p.m.Run(ctxFor(t), o); err != nil {
		t.Fatal(err)
	}
}

// equal fails unless the target holds what of the source is in the set.
func (p *pair) equal(t testing.TB) {
	t.Helper()
	p.drain(t)
	if d := diffLines(p.source.describe(p.m.place(0)), p.rep.describe()); d != "" {
		t.Fatalf("source and target differ:\n%s", d)
	}
}

func diffLines(want, got []string) string {
	has := func(set []string) map[string]bool {
		m := map[string]bool{}
		for _, s := range set {
			m[s] = true
		}
		return m
	}
	w, g := has(want), has(got)
	var b strings.Builder
	for _, s := range want {
		if !g[s] {
			fmt.Fprintf(&b, "source: %s\n", s)
		}
	}
	for _, s := range got {
		if !w[s] {
			fmt.Fprintf(&b, "target: %s\n", s)
		}
	}
	return b.String()
}

// populate makes a small tree with everything in it.
func (p *pair) populate() {
	p.mkdir("a")
	p.mkdir("a/b")
	p.mkdir("empty")
	p.create("a/small")
	p.write("a/small", 0, []byte("hello"))
	p.create("a/zero")
	p.create("a/b/large")
	p.write("a/b/large", 0, bytes.Repeat([]byte("0123456789abcdef"), 100<<10))
	p.create("a/b/holes")
	p.write("a/b/holes", 300<<10, []byte("after a hole"))
	p.truncate("a/b/holes", 1<<20)
	p.symlink("a/link", "b/large")
	p.mkfifo("a/fifo")
	p.link("a/small", "a/b/same")
	p.link("a/b/large", "large2")
	p.chmod("a/small", 0o4711)
	p.setxattr("a/small", "user.k", "v")
}

// TestFullMirror: every kind of object, to a target that knows nothing (B7.2, B5.38).
func TestFullMirror(t *testing.T) {
	p := newPair(t, nil, false)
	p.populate()
	if p.drain(t); len(p.rep.objs) != 0 {
		t.Fatal("the target took operations before it knew the root")
	}
	p.run(t, Options{Mode: Full})
	p.equal(t)
	if p.rep.ends != 1 || p.rep.dropped == 0 {
		t.Fatalf("%d mirror ends, %d records dropped", p.rep.ends, p.rep.dropped)
	}
	p.write("a/b/large", 5, []byte("live"))
	p.rename("a", "empty/a")
	p.equal(t)
	if got := p.m.Progress(); got.State != Done || got.Percent != 100 || got.Files != 8 || got.Dirs != 4 {
		t.Fatalf("progress %+v", got)
	}
}

// TestFullMirrorTwice: a full mirror onto a target that holds other things settles
// everything and removes what the source does not have (B7.2).
func TestFullMirrorTwice(t *testing.T) {
	p := newPair(t, nil, false)
	p.populate()
	p.run(t, Options{Mode: Full})
	p.equal(t)
	p.sinks = nil // changes that nobody captures
	p.remove("a/zero")
	p.truncate("a/b/large", 70<<10)
	p.write("a/small", 0, []byte("other"))
	p.rename("a/b", "moved")
	p.sinks = []*Border{p.m.Border(0)}
	p.run(t, Options{Mode: Full})
	p.equal(t)
}

// TestLargeDirectory: a list of names over one record's limits (FlagMore).
func TestLargeDirectory(t *testing.T) {
	p := newPair(t, nil, true)
	p.mkdir("d")
	for i := range 20000 {
		if err := os.WriteFile(p.path(fmt.Sprintf("d/a-name-of-some-length-%d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.run(t, Options{Mode: Full})
	p.equal(t)
	lists, more := 0, 0
	for _, o := range p.ops {
		if o.Kind == fileop.MirrorDir && o.Path == "d" {
			lists++
			if o.Flags&fileop.FlagMore != 0 {
				more++
			}
		}
	}
	if lists != 3 || more != 2 {
		t.Fatalf("%d lists, %d of them go on", lists, more)
	}
	_, before, _ := p.marks()
	p.run(t, Options{Mode: Diff})
	p.equal(t)
	if _, after, _ := p.marks(); after-before > 3 {
		t.Fatalf("%d records for a difference of nothing", after-before)
	}
}
