package mirror

import (
	"bytes"
	"os"
	"testing"
	"time"

	"understudy/fileop"
)

// TestNothingDiffers: a difference mirror of equal trees sends its frame alone (B7.9).
func TestNothingDiffers(t *testing.T) {
	for name, o := range map[string]Options{
		"date and size": {Mode: Diff}, "checksum": {Mode: Diff, Checksum: true}, "checksum all": {Mode: Diff, Checksum: true, ChecksumAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, nil, true)
			p.populate()
			p.run(t, Options{Mode: Full})
			p.equal(t)
			_, m, bytes := p.marks()
			p.run(t, o)
			p.equal(t)
			_, m2, bytes2 := p.marks()
			limit := fileop.Seq(2)
			if o.ChecksumAll { // each file is compared, and said to be right
				limit = 20
			}
			if m2-m > limit || bytes2-bytes > 200 {
				t.Fatalf("%d records with %d bytes of content", m2-m, bytes2-bytes)
			}
			if got := p.m.Progress(); !o.ChecksumAll && got.Skipped != got.Files {
				t.Fatalf("progress %+v", got)
			}
		})
	}
}

// TestTable is B7.7 row by row, B7.4, B7.8 and B7.10. Each file differs in one way.
func TestTable(t *testing.T) {
	const size = 64 * 4096
	body := bytes.Repeat([]byte{7}, size)
	old, new := time.Unix(1000, 0), time.Unix(4000000000, 0)
	files := map[string]func(p *pair){
		"same":    func(p *pair) {},
		"later":   func(p *pair) { p.write("later", 5000, []byte("x")); stamp(t, p, "later", new) },
		"earlier": func(p *pair) { p.write("earlier", 5000, []byte("x")); stamp(t, p, "earlier", old) },
		"hidden": func(p *pair) { // content differs, date and size do not
			st, _ := os.Stat(p.path("hidden"))
			p.write("hidden", 5000, []byte("x"))
			stamp(t, p, "hidden", st.ModTime())
		},
		"mode": func(p *pair) { p.chmod("mode", 0o600) },
		"size": func(p *pair) { p.write("size", size, []byte("more")); stamp(t, p, "size", new) },
	}
	const whole, block, none = int64(size), int64(512), int64(0) // of a block what differs
	rows := []struct {
		name string
		o    Options
		want map[string]int64 // bytes of content sent; absent: file left as it is
	}{
		{"differences", Options{Mode: Diff}, map[string]int64{"same": 0, "later": whole, "earlier": whole, "mode": none, "size": whole + 4, "missing": whole}},
		{"newer", Options{Mode: Diff, Newer: true}, map[string]int64{"same": 0, "later": whole, "mode": none, "size": whole + 4, "missing": whole}},
		{"checksum", Options{Mode: Diff, Checksum: true}, map[string]int64{"same": 0, "later": block, "earlier": block, "mode": none, "size": 4, "missing": whole}},
		{"checksum all", Options{Mode: Diff, Checksum: true, ChecksumAll: true}, map[string]int64{"same": 0, "later": block, "earlier": block, "hidden": block, "mode": none, "size": 4, "missing": whole}},
		{"newer, checksum", Options{Mode: Diff, Newer: true, Checksum: true}, map[string]int64{"same": 0, "later": block, "mode": none, "size": 4, "missing": whole}},
		{"attributes only", Options{Mode: Diff, AttributesOnly: true}, map[string]int64{"same": 0, "mode": none}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p := newPair(t, nil, true)
			for f := range files {
				p.create(f)
				p.write(f, 0, body)
			}
			p.run(t, Options{Mode: Full})
			p.equal(t)
			p.sinks = nil
			for _, change := range files {
				change(p)
			}
			p.create("missing")
			p.write("missing", 0, body)
			n := p.logged()
			p.anew() // a new connection: nobody saw what changed
			p.run(t, row.o)
			sent := map[string]int64{}
			p.wire.onPut, p.wire.lagging = nil, false
			checkSent(t, p, n, sent, row.want)
		})
	}
}

func stamp(t *testing.T, p *pair, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(p.path(name), at, at); err != nil {
		t.Fatal(err)
	}
}

// checkSent compares the content sent for each file, and which files are equal now.
func checkSent(t *testing.T, p *pair, n int, sent, want map[string]int64) {
	t.Helper()
	p.drain(t)
	source, target := map[string]string{}, map[string]string{}
	for _, s := range p.source.describe(p.m.place(0)) {
		source[firstQuoted(s)] = s
	}
	for _, s := range p.rep.describe() {
		target[firstQuoted(s)] = s
	}
	names := map[fileop.ObjID]string{}
	for name := range source {
		if id, _, ok := p.id(name); ok {
			names[id] = name
		}
	}
	for i, o := range p.ops[n:] {
		if o.Kind == fileop.MirrorBlock || o.Kind == fileop.MirrorEntry {
			sent[names[o.Obj]] += p.sizes[n+i]
		}
	}
	for name := range source {
		if name == "" {
			continue
		}
		w, changed := want[name]
		if sent[name] != w {
			t.Errorf("%s: %d bytes sent, want %d", name, sent[name], w)
		}
		if equal := source[name] == target[name]; equal != changed {
			t.Errorf("%s: equal %t, want %t\n%s\n%s", name, equal, changed, source[name], target[name])
		}
	}
}

func firstQuoted(s string) string {
	i := bytes.IndexByte([]byte(s[1:]), '"')
	return s[1 : 1+i]
}

// TestLiveWriteOnStaleFile: a live write gives a file that is old on the target the
// source's date; a difference mirror by date and size compares it all the same.
func TestLiveWriteOnStaleFile(t *testing.T) {
	p := newPair(t, nil, true)
	p.create("f")
	p.write("f", 0, bytes.Repeat([]byte{1}, 100<<10))
	p.run(t, Options{Mode: Full})
	p.equal(t)
	sinks := p.sinks
	p.sinks = nil
	p.write("f", 10, []byte("nobody saw this"))
	p.anew()
	for i := range sinks {
		sinks[i] = p.m.Border(i)
	}
	p.sinks = sinks
	p.write("f", 5000, []byte("captured"))
	p.drain(t)
	p.run(t, Options{Mode: Diff})
	p.equal(t)
}

// TestIdentityLost: large files of unknown identity are compared by checksums and not
// sent again.
func TestIdentityLost(t *testing.T) {
	p := newPair(t, nil, true)
	p.populate()
	p.remove("a/b/same")
	p.remove("large2")
	p.run(t, Options{Mode: Full})
	p.equal(t)
	p.rep.forgetIdentities()
	_, _, b := p.marks()
	p.run(t, Options{Mode: Diff})
	p.equal(t)
	if _, _, b2 := p.marks(); b2-b > 3*4096 {
		t.Fatalf("%d bytes of content sent", b2-b)
	}
}

// TestPagesOfBlocks: of blocks that differ only the pages that differ are sent (B7.5), by a
// target that knows of pages; else the blocks.
func TestPagesOfBlocks(t *testing.T) {
	const block, page, size = 32768, 4096, 3<<20 + 1000
	for name, old := range map[string]bool{"pages": false, "an older target": true} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, nil, true)
			p.m.cfg.BlockSize, p.m.cfg.PartSize = block, page
			p.old.Store(old)
			p.create("f")
			p.write("f", 0, bytes.Repeat([]byte("12345678"), size/8))
			p.run(t, Options{Mode: Full})
			p.equal(t)
			sinks := p.sinks
			p.sinks = nil
			for _, k := range []int64{0, 7, 9, 33, 95} { // blocks; the last is not whole
				p.write("f", k*block+2*page+10, []byte("x"))
			}
			p.write("f", 96*block, bytes.Repeat([]byte("y"), 3*page)) // it grows
			_, _, before := p.marks()
			p.anew()
			p.sinks = sinks
			p.run(t, Options{Mode: Diff, Checksum: true})
			p.equal(t)
			_, _, after := p.marks()
			if limit := int64(5*page + 4*page); !old && after-before > limit+2048 {
				t.Errorf("%d bytes sent, want %d", after-before, limit)
			}
			if after-before < 5*page {
				t.Errorf("%d bytes sent of %d pages", after-before, 5)
			}
		})
	}
}
