package stream

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"understudy/fileop"
)

// logged is what a caller knows of a record it put.
type logged struct {
	lane       fileop.Lane
	seq, other fileop.Seq
	ino        uint64
}

func TestTwoLanesMakeOneOrder(t *testing.T) {
	s := startServer(t, ServerConfig{})
	dst := startServer(t, ServerConfig{Listen: "127.0.0.1:0", Keys: testKeys().beta})
	j := openJournal(t, s, JournalConfig{})
	r := openReceiver(t, dst, ReceiverConfig{})
	goRun(t, j.Run)
	goRun(t, NewTransmitter(j, dial(t, dst.Addr().String()), TransmitterConfig{Connection: "accounts", Source: "alpha"}, quiet()).Run)

	// Each worker logs under one lock, so its own record of the order is true; Put and
	// PutMirror of different workers still meet inside the journal.
	const workers, each = 4, 3000
	var mu sync.Mutex
	var recorded []logged
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range each {
				n := w*each + i + 1
				op, put := write(n, rnd.IntN(300)), j.Put
				if rnd.IntN(3) == 0 {
					op, put = block(n, rnd.IntN(2000)), j.PutMirror
				}
				locked := w%2 == 0
				if locked {
					mu.Lock()
				}
				if _, err := put(op); err != nil {
					t.Error(err)
				}
				if !locked {
					mu.Lock()
				}
				recorded = append(recorded, logged{op.Kind.Lane(), op.Seq, op.Other, op.Obj.Ino})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	queue, mirror := j.Last()
	got := map[fileop.Lane][]fileop.Op{}
	got[fileop.LaneQueue] = collect(t, queue, func(ctx context.Context) (fileop.Frame, error) {
		f, _, err := r.Next(ctx)
		return f, err
	})
	got[fileop.LaneMirror] = collect(t, mirror, r.NextMirror)

	// What arrived is what was logged, with the same two numbers.
	for _, l := range recorded {
		op := got[l.lane][l.seq-1]
		if op.Seq != l.seq || op.Other != l.other || op.Obj.Ino != l.ino {
			t.Fatalf("logged %+v, arrived %v other %d", l, op, op.Other)
		}
	}
	checkPlaces(t, recorded)
}

// checkPlaces merges by the counters alone: a record has seq-1 of its own lane and Other
// of the other before it, so all places differ.
func checkPlaces(t *testing.T, recorded []logged) {
	t.Helper()
	place := map[fileop.Seq]logged{}
	for _, l := range recorded {
		p := l.seq + l.other
		if before, ok := place[p]; ok {
			t.Fatalf("%+v and %+v at the same place", before, l)
		}
		place[p] = l
	}
}

func collect(t *testing.T, last fileop.Seq, next func(context.Context) (fileop.Frame, error)) (ops []fileop.Op) {
	t.Helper()
	ctx := testCtx(t)
	for len(ops) < int(last) {
		f, err := next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var op fileop.Op
		for rd := f.Records(); ; ops = append(ops, op) {
			more, err := rd.Next(&op)
			if err != nil {
				t.Fatal(err)
			}
			if !more {
				break
			}
		}
	}
	return ops
}

// mirrorUpTo takes mirror frames until record k and returns the credit.
func mirrorUpTo(t *testing.T, p *pair, k fileop.Seq) {
	t.Helper()
	for {
		f, err := p.r.NextMirror(testCtx(t))
		if err != nil {
			t.Fatal(err)
		}
		p.j.MirrorApplied(f.Last())
		if f.Last() >= k {
			return
		}
	}
}

func TestCreditBlocksAndReleases(t *testing.T) {
	p := newPair(t, JournalConfig{MirrorWindow: 1 << 20}, ReceiverConfig{MirrorWindow: 1 << 20})
	n := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		err := p.j.Credit(ctx, 100<<10)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		n++
		if _, err := p.j.PutMirror(block(n, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if n < 5 || n > 10 {
		t.Fatalf("%d blocks of 100 KiB in a window of 1 MiB", n)
	}
	freed := make(chan error, 1)
	go func() { freed <- p.j.Credit(testCtx(t), 1<<20) }()
	mirrorUpTo(t, p, fileop.Seq(n))
	if err := <-freed; err != nil {
		t.Fatal(err)
	}
	if b := p.j.Stats().MirrorBytes; b != 0 {
		t.Fatalf("%d bytes under way after everything was applied", b)
	}
	// Without asking, records are refused well before memory suffers.
	p.valve.Pause()
	var err error
	for i := 0; err == nil; i++ {
		if _, err = p.j.PutMirror(block(n, 100<<10)); i > 200 {
			t.Fatal("no bound")
		}
	}
	if !errors.Is(err, ErrNoCredit) || p.j.Err() != nil {
		t.Fatalf("%v; journal %v", err, p.j.Err())
	}
}

func TestLostMirrorFramesAreNoticed(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	lose := func(n int) { // as a cut would: the frame is taken, nobody gets it
		p.j.mu.Lock()
		defer p.j.mu.Unlock()
		op := block(n, 100)
		if _, err := p.j.addMirror(op, fileop.AppendRecord(nil, op)); err != nil {
			t.Fatal(err)
		}
		p.j.sealMirror(time.Now())
		p.j.out.drop()
	}
	for n := 1; n <= 3; n++ {
		if _, err := p.j.PutMirror(block(n, 100)); err != nil {
			t.Fatal(err)
		}
	}
	mirrorUpTo(t, p, 3)
	eventually(t, "all sent", func() bool { _, m := p.j.peekMirror(); return m == nil })
	lose(4)
	if _, err := p.j.PutMirror(block(5, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.r.NextMirror(testCtx(t)); !errors.Is(err, ErrMirrorLost) {
		t.Fatalf("after a lost frame: %v", err)
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.r.NextMirror(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("before the abort: %v", err)
	}
	abort := &fileop.Op{Kind: fileop.MirrorAbort, Len: 1}
	if _, err := p.j.Put(abort); err != nil || abort.Other != 5 {
		t.Fatalf("abort %+v: %v", abort, err)
	}
	// The next run begins before the target has seen the abort.
	if _, err := p.j.PutMirror(block(6, 100)); err != nil {
		t.Fatal(err)
	}
	p.r.SkipMirror(5)
	f, err := p.r.NextMirror(testCtx(t))
	if err != nil || f.First != 6 {
		t.Fatalf("after the abort: record %d, %v", f.First, err)
	}
}

func TestFrameThatShowsALossMayBeginTheNextRun(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	p.valve.Pause()
	for n := 1; n <= 4; n++ {
		if _, err := p.j.PutMirror(block(n, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.j.Put(&fileop.Op{Kind: fileop.MirrorAbort}); err != nil { // drops all four
		t.Fatal(err)
	}
	if st := p.j.Stats(); st.MirrorBytes != 0 || st.LastMirror != 4 {
		t.Fatalf("%+v", st)
	}
	if _, err := p.j.PutMirror(block(5, 100)); err != nil {
		t.Fatal(err)
	}
	p.valve.Resume()
	if _, err := p.r.NextMirror(testCtx(t)); !errors.Is(err, ErrMirrorLost) {
		t.Fatal(err)
	}
	p.r.SkipMirror(4)
	if f, err := p.r.NextMirror(testCtx(t)); err != nil || f.First != 5 {
		t.Fatalf("record %d, %v", f.First, err)
	}
}

func TestMirrorAndLiveChangesShareTheRoad(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	p.valve.SetRate(20 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { // a mirror that never runs dry
		for n := 1; p.j.Credit(ctx, 256<<10) == nil; n++ {
			if _, err := p.j.PutMirror(block(n, 256<<10)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for {
			f, err := p.r.NextMirror(ctx)
			if err != nil {
				return
			}
			p.j.MirrorApplied(f.Last())
		}
	})
	var worst time.Duration
	for n := 1; n <= 30; n++ {
		start := time.Now()
		put(t, p.j, n, n, 100)
		expect(t, p.r, n, n)
		worst = max(worst, time.Since(start))
	}
	st := p.tx.Stats()
	cancel()
	wg.Wait()
	// One mirror frame in front is 13 ms at this rate, the window 800.
	if worst > 500*time.Millisecond || st.MirrorBytes < 1<<20 {
		t.Fatalf("worst %v beside %d mirror bytes", worst, st.MirrorBytes)
	}
	t.Logf("worst of 30 changes %v beside a mirror at 20 MiB/s", worst)
}
