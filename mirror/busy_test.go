package mirror

import "testing"

// TestContinuedMirror: a mirror that goes on behind a former process's in a quiet moment
// begins with nothing and is quiet; in another moment it gives the former one up and
// stays busy until a difference mirror has ended.
func TestContinuedMirror(t *testing.T) {
	p := newPair(t, nil, true)
	p.populate()
	p.run(t, Options{Mode: Full})
	if p.busy.Load() {
		t.Fatal("busy behind a mirror that reached its end")
	}
	n := p.logged()
	p.anew()
	p.sinks = []*Border{p.m.Border(0)}
	p.m.Continue(p.queue, true)
	if p.busy.Load() || p.logged() != n || !p.m.Idle() {
		t.Fatal("not quiet, or something was logged")
	}
	p.copyRange("a/b/large", "a/small", 0, 0, 5) // passed only where the target surely holds its source
	if kinds := p.since(n); len(kinds) != 1 || kinds[0].String() != "copy-range" {
		t.Fatalf("logged %v", kinds)
	}
	p.equal(t)

	p.anew()
	p.sinks = []*Border{p.m.Border(0)}
	n = p.logged()
	p.m.Continue(p.queue, false)
	if kinds := p.since(n); len(kinds) != 1 || kinds[0].String() != "mirror-abort" || !p.busy.Load() {
		t.Fatalf("logged %v, busy %v", kinds, p.busy.Load())
	}
	p.write("a/zero", 0, []byte("changed meanwhile"))
	p.run(t, Options{Mode: Diff, Checksum: true})
	if p.busy.Load() {
		t.Fatal("still busy")
	}
	p.equal(t)
}
