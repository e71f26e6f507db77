package mirror

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"understudy/fileop"
)

// monkey does random things to a source, in a name space so small that they meet.
type monkey struct {
	*source
	r    *rand.Rand
	base string
}

var dirNames = []string{"a", "b", "c"}
var fileNames = []string{"x.db", "y.tmp", "z.db", "w.db", "v.tmp"}

func (k *monkey) dir() string {
	d := k.base
	for range k.r.IntN(4) {
		d = join(d, dirNames[k.r.IntN(len(dirNames))])
	}
	return d
}

func (k *monkey) name() string { return join(k.dir(), fileNames[k.r.IntN(len(fileNames))]) }
func (k *monkey) any() string {
	if k.r.IntN(3) == 0 {
		if d := k.dir(); d != k.base {
			return d
		}
	}
	return k.name()
}

func (k *monkey) bytes() []byte {
	n := k.r.IntN(200)
	switch k.r.IntN(12) {
	case 0:
		n = k.r.IntN(200 << 10)
	case 1:
		n = 70 << 10
	}
	return bytes.Repeat([]byte{byte(k.r.IntN(250) + 1)}, n)
}

func (k *monkey) off() int64 {
	if k.r.IntN(8) == 0 {
		return int64(k.r.IntN(1 << 20))
	}
	return int64(k.r.IntN(300))
}

func (k *monkey) act() {
	switch k.r.IntN(22) {
	case 0, 1, 2:
		k.create(k.name())
	case 3, 4, 5, 6:
		k.write(k.name(), k.off(), k.bytes())
	case 7:
		k.truncate(k.name(), int64(k.r.IntN(100<<10)))
	case 8, 9:
		k.mkdir(k.dir())
	case 10:
		k.symlink(k.name(), fmt.Sprint("to", k.r.IntN(9)))
	case 11:
		k.mkfifo(k.name())
	case 12:
		k.link(k.name(), k.name())
	case 13:
		k.remove(k.any())
	case 14, 15, 16:
		k.rename(k.any(), k.any())
	case 17:
		k.renameFlags(k.any(), k.any(), unix.RENAME_EXCHANGE)
	case 18:
		k.chmod(k.any(), uint32(0o700+k.r.IntN(64)))
	case 19:
		k.setxattr(k.name(), fmt.Sprint("user.", k.r.IntN(3)), fmt.Sprint(k.r.IntN(9)))
	case 20:
		modes := []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, 0}
		k.fallocate(k.name(), modes[k.r.IntN(len(modes))], int64(k.r.IntN(8))*4096, 4096)
	case 21:
		k.copyRange(k.name(), k.name(), k.off(), k.off(), 5000)
	}
}

// settle waits until no follow-up run is left to do.
func (p *pair) settle(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; runtime.Gosched() {
		p.m.mu.Lock()
		idle := p.m.run == nil && p.m.entries == 0
		p.m.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(end) {
			t.Fatal("follow-up run does not end")
		}
	}
}

// serve runs follow-up runs until the test ends.
func (p *pair) serve(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.m.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// beside runs f while n monkeys act.
func (p *pair) beside(n int, seed uint64, f func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			pace := time.NewTicker(time.Duration(n) * 300 * time.Microsecond)
			defer pace.Stop()
			k := &monkey{source: p.source, r: rand.New(rand.NewPCG(seed, uint64(i))), base: p.m.place(0).rel()}
			for {
				select {
				case <-stop:
					return
				case <-pace.C: // some 3,000 changes a second
					k.act()
				}
			}
		})
	}
	f()
	close(stop)
	wg.Wait()
}

// slow makes reading slow enough for much to happen meanwhile.
type slow struct {
	*wire
	mu sync.Mutex
	r  *rand.Rand
}

func (s *slow) Credit(ctx context.Context, n int) error {
	s.mu.Lock()
	d := s.r.IntN(1000)
	s.mu.Unlock()
	for start := time.Now(); time.Since(start) < time.Duration(d)*time.Microsecond; {
		runtime.Gosched()
	}
	return ctx.Err()
}

// TestArrivalsAreWalkedOnce: a directory and one below it are moved about before a mirror
// came to them. Both are sent where they are then, and walked once each.
func TestArrivalsAreWalkedOnce(t *testing.T) {
	for name, o := range map[string]Options{"full": {Mode: Full}, "diff": {Mode: Diff, Checksum: true}} {
		p := newPair(t, nil, true)
		for _, dir := range []string{"a", "a/p", "a/p/q", "a/p/q/r"} {
			p.mkdir(dir)
			p.create(dir + "/file")
		}
		gate := make(chan struct{})
		p.m.cfg.Log = &gated{p.wire, gate}
		done := make(chan error, 1)
		go func() { done <- p.m.Run(ctxFor(t), o) }()
		gate <- struct{}{} // the root's list
		gate <- struct{}{} // its entries
		await(t, "the list of a", func() bool { return p.m.Progress().Dirs == 2 })
		p.rename("a/p", "p")
		p.rename("p/q", "q")
		p.rename("q", "p/q")
		close(gate)
		if err := <-done; err != nil {
			t.Fatal(name, err)
		}
		walks := map[fileop.ObjID]int{}
		for i := range p.ops {
			if p.ops[i].Kind == fileop.MirrorDirEnd {
				walks[p.ops[i].Obj]++
			}
		}
		for _, dir := range []string{"p", "p/q", "p/q/r"} {
			if id, _, ok := p.id(dir); !ok || walks[id] != 1 {
				t.Errorf("%s: %s was walked %d times", name, dir, walks[id])
			}
		}
		p.equal(t)
	}
}

type story struct {
	rules   func(dir string) Rules
	sub     string // the set's root below the tree
	options Options
	compare bool
	lost    int // changes that nobody captures before the second mirror
	forget  bool
}

// TestMirrorBesideChanges: whatever happens while a mirror runs, at its end and after
// all operations the target holds what the source holds (B7.19, B5.26, B5.38 to B5.41).
func TestMirrorBesideChanges(t *testing.T) {
	db := func(dir string) Rules { return pattern{dir: dir, glob: "*.db", except: filepath.Join(dir, "a/c")} }
	sub := func(dir string) Rules { return all{filepath.Join(dir, "set")} }
	stories := map[string]story{
		"full":               {options: Options{Mode: Full}},
		"full patterns":      {options: Options{Mode: Full}, rules: db},
		"diff blocks":        {options: Options{Mode: Diff, Checksum: true}, compare: true, lost: 40},
		"diff whole":         {options: Options{Mode: Diff}, compare: true, lost: 40},
		"diff all":           {options: Options{Mode: Diff, Checksum: true, ChecksumAll: true}, compare: true, lost: 40},
		"diff patterns":      {options: Options{Mode: Diff, Checksum: true}, compare: true, lost: 40, rules: db},
		"diff unknown":       {options: Options{Mode: Diff, Checksum: true}, compare: true, lost: 10, forget: true},
		"set below the tree": {options: Options{Mode: Diff, Checksum: true}, compare: true, lost: 20, rules: sub, sub: "set"},
	}
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				seed := rapid.Uint64().Draw(rt, "seed")
				s.play(t, rt, seed)
			})
		})
	}
}

func (s *story) play(t *testing.T, rt *rapid.T, seed uint64) {
	listMax = 3
	defer func() { listMax = fileop.ListMax }()
	p := newPairAt(t, s.rules, s.compare, s.sub)
	defer p.close()
	p.m.cfg.Log = &slow{wire: p.wire, r: rand.New(rand.NewPCG(seed, 99))}
	p.rnd = rand.New(rand.NewPCG(seed, 7))
	p.lagging = seed%2 == 0
	p.old.Store(seed%5 == 0)
	stop := p.serve(t)
	k := &monkey{source: p.source, r: rand.New(rand.NewPCG(seed, 1)), base: s.sub}
	for range 60 {
		k.act()
	}
	run := func(o Options) {
		if err := p.m.Run(ctxFor(t), o); err != nil {
			rt.Fatalf("run: %v", err)
		}
	}
	if s.lost > 0 {
		run(Options{Mode: Full})
		sinks := p.sinks
		p.m.Doubt()
		p.sinks = nil
		for range s.lost {
			k.act()
		}
		p.sinks = sinks
	}
	if s.forget {
		p.drain(t)
		p.rep.forgetIdentities()
	}
	p.beside(2, seed, func() { run(s.options) })
	for range 20 {
		k.act()
	}
	p.settle(t)
	stop()
	p.drain(t)
	want, got := p.source.describe(p.m.place(0)), p.rep.describe()
	if s.rules != nil { // names outside the set change the times of directories in it
		want, got = withoutDirTimes(want), withoutDirTimes(got)
	}
	if d := diffLines(want, got); d != "" {
		rt.Fatalf("source and target differ:\n%s\n%s", d, p.history(d))
	}
}

var dirTime = regexp.MustCompile(`( mode=4\d* .*) mtime=\S+`)

func withoutDirTimes(lines []string) []string {
	out := make([]string, len(lines))
	for i, s := range lines {
		out[i] = dirTime.ReplaceAllString(s, "$1")
	}
	return out
}

// history lists the records about the objects named in a list of differences.
func (w *wire) history(differ string) string {
	if os.Getenv("MIRROR_HISTORY") == "" {
		return ""
	}
	var b strings.Builder
	for i := range w.ops {
		o := &w.ops[i]
		for _, id := range []fileop.ObjID{o.Obj, o.Obj2} {
			if !id.IsZero() && (len(w.ops) < 80 || strings.Contains(differ, id.String())) || o.Kind >= fileop.MirrorBegin && o.Obj.IsZero() {
				fmt.Fprintf(&b, "%d/%d %s obj %s parent %s name %q parent2 %s name2 %q obj2 %s off %d len %d flags %x path %q\n",
					o.Seq, o.Other, o.Kind, o.Obj, o.Parent, o.Name, o.Parent2, o.Name2, o.Obj2, o.Off, o.Len, o.Flags, o.Path)
				break
			}
		}
	}
	return b.String()
}
