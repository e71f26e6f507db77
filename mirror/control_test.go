package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// await waits for a condition, up to a deadline.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestPauseResumeStop: B7.23 to B7.28.
func TestPauseResumeStop(t *testing.T) {
	p := newPair(t, nil, false)
	p.mkdir("d")
	for i := range 200 {
		p.create(fmt.Sprint("d/f", i))
	}
	p.create("large")
	p.write("large", 0, bytes.Repeat([]byte{3}, 4<<20))
	started := make(chan struct{})
	p.wire.onPut = func(o *fileop.Op) {
		if o.Kind == fileop.MirrorBegin {
			close(started)
		}
	}
	gate := make(chan struct{})
	p.m.cfg.Log = &gated{p.wire, gate}
	done := make(chan error, 1)
	start := func() { go func() { done <- p.m.Run(ctxFor(t), Options{TotalFiles: 201, TotalBytes: 4 << 20}) }() }
	start()
	<-started
	p.wire.mu.Lock()
	p.wire.onPut = nil
	p.wire.mu.Unlock()
	for range 3 {
		gate <- struct{}{}
	}
	p.m.Pause()
	if err := p.m.Run(ctxFor(t), Options{}); !errors.Is(err, ErrRunning) {
		t.Fatalf("second run: %v", err)
	}
	offer(gate) // what was begun is finished
	await(t, "paused", func() bool { return p.m.Progress().State == Paused })
	p.create("d/while-paused")
	p.rename("d", "e") // replication goes on (B7.27)
	p.m.Resume()
	close(gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p.equal(t)
	if got := p.m.Progress(); got.State != Done || got.Bytes != 4<<20 {
		t.Fatalf("progress %+v", got)
	}
	p.m.cfg.Log = &gated{p.wire, make(chan struct{})}
	start()
	await(t, "mirroring", func() bool { return p.m.Progress().State == Mirroring })
	p.m.cfg.Log.(*gated).gate <- struct{}{}
	p.m.Stop()
	offer(p.m.cfg.Log.(*gated).gate)
	if err := <-done; !errors.Is(err, ErrStopped) {
		t.Fatalf("stopped run: %v", err)
	}
	if got := p.m.Progress().State; got != Stopped || p.rep.ends != 1 {
		t.Fatalf("state %v, %d mirror ends", got, p.rep.ends)
	}
	p.m.cfg.Log = p.wire
	p.run(t, Options{})
	p.equal(t)
}

// offer lets one more credit pass, if somebody wants it now or soon.
func offer(gate chan struct{}) {
	select {
	case gate <- struct{}{}:
	case <-time.After(100 * time.Millisecond):
	}
}

// gated gives credit one by one.
type gated struct {
	*wire
	gate chan struct{}
}

func (g *gated) Credit(ctx context.Context, n int) error {
	select {
	case <-g.gate:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestAborted: records were lost; MirrorAbort tells the target, and a difference mirror
// repairs it.
func TestAborted(t *testing.T) {
	p := newPair(t, nil, true)
	p.populate()
	var asked sync.WaitGroup
	p.wire.onPut = func(o *fileop.Op) {
		if o.Kind == fileop.MirrorBlock {
			asked.Go(func() { p.m.Aborted() })
			p.wire.onPut = nil
		}
	}
	gate := make(chan struct{}, 1000)
	p.m.cfg.Log = &gated{p.wire, gate}
	asked.Go(func() {
		for range 5 {
			gate <- struct{}{}
		}
		await(t, "aborted", func() bool {
			p.m.gate.mu.Lock()
			defer p.m.gate.mu.Unlock()
			return p.m.gate.aborted || len(gate) == 0
		})
		p.m.Aborted()
		close(gate)
	})
	if err := p.m.Run(ctxFor(t), Options{}); !errors.Is(err, ErrAborted) {
		t.Fatalf("run: %v", err)
	}
	last := p.ops[len(p.ops)-1]
	if last.Kind != fileop.MirrorAbort || last.Len != p.m.Progress().Run || p.m.Progress().State != Aborted {
		t.Fatalf("last record %s of run %d", last.Kind, last.Len)
	}
	asked.Wait()
	p.m.cfg.Log = p.wire
	p.run(t, Options{Mode: Diff})
	p.equal(t)
}

// TestAbortedAtTheVeryEnd: that records were lost becomes known behind a run's last record,
// just before it ends. It does not end well, whichever way it ends, or nobody would release
// the target that waits for them.
func TestAbortedAtTheVeryEnd(t *testing.T) {
	for name, end := range map[string]func(r *run) error{
		"done":    func(r *run) error { _, err := r.end(); return r.leave(err) },
		"failed":  func(r *run) error { return r.leave(errors.New("no answer")) },
		"stopped": func(r *run) error { return r.leave(ErrStopped) },
	} {
		p := newPair(t, nil, true)
		p.populate()
		r := p.m.begin(ctxFor(t), Options{Mode: Diff})
		if p.m.Aborted() {
			t.Errorf("%s: a run is under way", name)
		}
		want := ErrAborted
		if name == "stopped" {
			want = ErrStopped // by the operator: no other run is to follow
		}
		if err := end(r); !errors.Is(err, want) {
			t.Errorf("%s: the run ended with %v", name, err)
		}
		if last := p.ops[len(p.ops)-1]; last.Kind != fileop.MirrorAbort {
			t.Errorf("%s: the last record is %s", name, last.Kind)
		}
		p.run(t, Options{Mode: Diff})
		p.equal(t)
	}
}

// TestAbortedBesideHints: records of a batch of hints were lost. No run of the operator's is
// under way, so whoever tells of it hears that a mirror is due; that brings what was lost.
func TestAbortedBesideHints(t *testing.T) {
	p, stop := hinted(t)
	defer stop()
	gate := make(chan struct{})
	p.m.cfg.Log = &gated{p.wire, gate}
	p.create("a/new")
	p.m.Dirty(0, "a/new", false)
	await(t, "a batch", func() bool { return p.m.quiet.hints.Load() })
	if p.m.Idle() || !p.m.Aborted() {
		t.Error("a mirror will follow by itself")
	}
	p.wire.mu.Lock()
	last := p.ops[len(p.ops)-1].Kind
	p.wire.mu.Unlock()
	if last != fileop.MirrorAbort {
		t.Errorf("the last record is %s", last)
	}
	close(gate)
	p.quiet(t)
	p.run(t, Options{Mode: Diff})
	p.equal(t)
}

// TestLogRefuses: a log that ends ends the run.
func TestLogRefuses(t *testing.T) {
	p := newPair(t, nil, true)
	p.populate()
	p.wire.onPut = func(o *fileop.Op) {
		if o.Kind == fileop.MirrorDir {
			p.wire.refuse = errors.New("queue full")
		}
	}
	if err := p.m.Run(ctxFor(t), Options{}); !errors.Is(err, ErrAborted) {
		t.Fatalf("run: %v", err)
	}
	p.create("while-refused")
	p.wire.refuse, p.wire.onPut = nil, nil
	p.run(t, Options{Mode: Diff})
	p.equal(t)
}

// broken is a tree in which one object cannot be read.
type broken struct {
	Tree
	dir  string // its names
	file string // its content
}

type brokenDir struct {
	Dir
	b broken
}

func (b broken) Dir(e fileop.Entry) (Dir, error) {
	d, err := b.Tree.Dir(e)
	if err != nil {
		return nil, err
	}
	return brokenDir{d, b}, nil
}

func (d brokenDir) Names() ([]string, error) {
	if p, _ := d.Path(); p == d.b.dir {
		return nil, unix.EIO
	}
	return d.Dir.Names()
}

func (b broken) File(e fileop.Entry) (File, error) {
	if e.Name == b.file {
		return nil, unix.EIO
	}
	return b.Tree.File(e)
}

// TestUnreadable: what cannot be read is counted and told, the rest is sent, nothing
// below it is removed, and the run says incomplete (B5.18, B7.43).
func TestUnreadable(t *testing.T) {
	p := newPair(t, nil, true)
	p.populate()
	p.run(t, Options{})
	p.equal(t)
	p.m.cfg.Roots[0].Tree = broken{p.tree, "a/b", "zero"}
	told := 0
	p.m.cfg.Problem = func(path string, err error) { told++ }
	before := len(p.rep.describe())
	for _, o := range []Options{{Mode: Full}, {Mode: Diff, Checksum: true, ChecksumAll: true}} {
		told = 0
		if err := p.m.Run(ctxFor(t), o); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("run: %v", err)
		}
		p.drain(t)
		if got := p.m.Progress(); got.Errors != 2 || told != 2 || got.State != Incomplete || len(p.rep.describe()) != before {
			t.Fatalf("progress %+v, told of %d, %d names left of %d", got, told, len(p.rep.describe()), before)
		}
	}
}

// TestShiftsWhileMirroring: content that moves while a file is read is read again, in a
// full mirror and in one by block checksums (B7.19).
func TestShiftsWhileMirroring(t *testing.T) {
	for _, o := range []Options{{Mode: Full}, {Mode: Diff, Checksum: true, ChecksumAll: true}} {
		p := newPair(t, nil, true)
		p.create("f")
		p.write("f", 0, bytes.Repeat([]byte("z"), 4<<20))
		for at := int64(DefaultBlockSize); at < 4<<20; at += 2 * DefaultBlockSize {
			p.write("f", at, []byte("of the target alone"))
		}
		p.run(t, Options{})
		sinks := p.sinks
		p.sinks = nil // every second block is equal on both sides, and what follows it is not
		p.write("f", 0, bytes.Repeat([]byte("z"), 4<<20))
		p.anew()
		p.sinks = sinks
		p.lagging = true
		n, shifts := 0, 0
		shift := func() {
			if n++; n%3 == 0 && shifts < 6 {
				shifts++
				p.fallocate("f", []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE}[shifts%2], int64(shifts)*4096, 4096)
				if shifts == 4 {
					p.truncate("f", 2<<20)
				}
			}
		}
		p.m.cfg.Log = &hooked{p.wire, shift}
		p.m.cfg.Roots[0].Tree = hookedTree{p.tree, shift}
		p.run(t, o)
		p.equal(t)
		if shifts < 4 {
			t.Fatalf("%d shifts", shifts)
		}
	}
}

// hookedTree does something before each read of a file that holds no lock.
type hookedTree struct {
	Tree
	f func()
}

func (h hookedTree) File(e fileop.Entry) (File, error) {
	f, err := h.Tree.File(e)
	if err != nil {
		return nil, err
	}
	return &hookedFile{File: f, f: h.f}, nil
}

type hookedFile struct {
	File
	f      func()
	locked bool
}

func (h *hookedFile) WithLock(fn func() error) error {
	return h.File.WithLock(func() error {
		h.locked = true
		defer func() { h.locked = false }()
		return fn()
	})
}

func (h *hookedFile) ReadAt(b []byte, off int64) (int, error) {
	if !h.locked {
		h.f()
	}
	return h.File.ReadAt(b, off)
}

// hooked does something before each credit.
type hooked struct {
	*wire
	f func()
}

func (h *hooked) Credit(ctx context.Context, n int) error {
	h.f()
	return ctx.Err()
}

// TestMovedAcrossTheScan: directories move while the walk is at a given place, from
// where it was not yet to where it was, and the other way (B7.19).
func TestMovedAcrossTheScan(t *testing.T) {
	for at := range 25 {
		for _, move := range [][2]string{{"z/unread", "a/here"}, {"a/read", "z/there"}, {"a", "z/a"}, {"z", "a/z"}} {
			p := newPair(t, nil, false)
			for _, d := range []string{"a", "a/read", "m", "z", "z/unread", "z/unread/deep"} {
				p.mkdir(d)
				p.create(d + "/file")
				p.write(d+"/file", 0, []byte(d))
			}
			p.create("z/unread/deep/large")
			p.write("z/unread/deep/large", 0, bytes.Repeat([]byte{9}, 200<<10))
			n := 0
			p.m.cfg.Log = &hooked{p.wire, func() {
				if n++; n == at {
					p.rename(move[0], move[1])
					p.rename("m/file", move[1]+"/moved")
				}
			}}
			p.run(t, Options{})
			p.equal(t)
			if err := p.m.Run(ctxFor(t), Options{}); err != nil {
				t.Fatal(err)
			}
			p.equal(t)
		}
	}
}

// TestLostSight: when the border lost sight of something, everything is compared again
// before the run ends.
func TestLostSight(t *testing.T) {
	p := newPair(t, nil, true)
	p.populate()
	n := 0
	p.m.cfg.Log = &hooked{p.wire, func() {
		if n++; n == 9 {
			sinks := p.sinks
			p.sinks = nil
			p.mkdir("empty/unseen")
			p.create("a/unseen")
			p.sinks = sinks
			p.m.mu.Lock()
			p.m.run.over = true
			p.m.mu.Unlock()
		}
	}}
	p.run(t, Options{})
	p.equal(t)
	if n < 9 {
		t.Fatal("the run was over too soon")
	}
}
