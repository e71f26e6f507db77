package stream

import (
	"errors"
	"strings"
	"testing"
	"time"

	"understudy/fileop"
)

func TestOperationsArriveInOrder(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	put(t, p.j, 1, 3, 100)
	expect(t, p.r, 1, 3)
	put(t, p.j, 4, 5000, 300)
	frame := expect(t, p.r, 4, 5000)
	if err := p.j.Sync(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no lag", func() bool { return p.tx.Stats().Lag == 0 && p.tx.Stats().InFlight == 0 })
	st := p.tx.Stats()
	if st.Op != 5000 || st.Frame != frame || st.FromDisk != 0 || st.LastError != "" {
		t.Fatalf("transmitter: %+v", st)
	}
	p.j.Confirm(frame, 5000)
	eventually(t, "trimmed queue", func() bool { return p.j.Stats().StoredBytes < 300<<10 && p.j.st.purgedTo() == frame })
	if js := p.j.Stats(); js.QueuedOps != 0 || js.TailBytes != 0 || js.MemoryBytes != 0 || !js.Oldest.IsZero() {
		t.Fatalf("journal: %+v", js)
	}
	p.r.Purge(frame)
	eventually(t, "trimmed target", func() bool { return p.r.st.purgedTo() == frame })
	if last, err := p.r.Last(testCtx(t)); err != nil || last.Frame != frame || last.Seq != 5000 {
		t.Fatalf("last of T: %+v, %v", last, err)
	}
	put(t, p.j, 5001, 5001, 10)
	expect(t, p.r, 5001, 5001)
}

func TestCutLinkLosesAndRepeatsNothing(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	const total = 30000
	go func() {
		for n := 1; n <= total; n++ {
			if _, err := p.j.Put(write(n, 700)); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(p.j.Pace())
			if n%3000 == 0 {
				p.proxy.cut(n%2000 == 0)
				time.AfterFunc(50*time.Millisecond, p.proxy.heal)
			}
		}
	}()
	expect(t, p.r, 1, total)
	if p.l.Generation() < 2 {
		t.Fatal("the link was never cut")
	}
	eventually(t, "transmitter at the end", func() bool { return p.tx.Stats().Op == total })
	if last, err := p.r.Last(testCtx(t)); err != nil || last.Seq != total {
		t.Fatalf("last of T: %+v, %v", last, err)
	}
}

func TestFullTargetIsWaitedOut(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{MaxBytes: minQueue})
	const total = 120 // 60 MB into 32 MiB
	put(t, p.j, 1, total, 500<<10)
	eventually(t, "full target", func() bool { return p.tx.Stats().TargetFull })
	select {
	case err := <-p.txDone:
		t.Fatalf("transmitter ended: %v", err)
	default:
	}
	ctx := testCtx(t)
	for n := 1; n <= total; {
		f, i, err := p.r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n = expectRecords(t, &f, n)
		p.r.Purge(i)
	}
	eventually(t, "target no longer full", func() bool { st := p.tx.Stats(); return !st.TargetFull && st.Op == total })
}

func TestFullQueueEndsTheJournal(t *testing.T) {
	s := startServer(t, ServerConfig{})
	j := openJournal(t, s, JournalConfig{MaxBytes: minQueue})
	done, _ := goRun(t, j.Run)
	var err error
	n := 0
	for n = 1; n < 1000 && err == nil; n++ {
		_, err = j.Put(write(n, 500<<10))
		time.Sleep(j.Pace())
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d operations: %v", n, err)
	}
	select {
	case <-j.Failed():
	case <-time.After(deadline):
		t.Fatal("Failed was not closed")
	}
	if err := <-done; !errors.Is(err, ErrFull) {
		t.Fatalf("Run: %v", err)
	}
	if _, err2 := j.Put(write(n, 1)); !errors.Is(err2, ErrFull) || !errors.Is(j.Sync(testCtx(t)), ErrFull) {
		t.Fatalf("later: %v", err2)
	}
	// What was stored before is an unbroken beginning.
	pos, err := j.Position(testCtx(t))
	if err != nil || pos.Frame == 0 || pos.Seq > fileop.Seq(n) {
		t.Fatalf("position %+v, %v", pos, err)
	}
}

func TestFullMemoryEndsTheJournal(t *testing.T) {
	s := startServer(t, ServerConfig{})
	j := openJournal(t, s, JournalConfig{MemoryMax: 1 << 20}) // and no Run
	var err error
	paced := false
	for n := 1; n < 100 && err == nil; n++ {
		if d := j.Pace(); d > 0 {
			paced = true
			if j.unstored.Load() < 1<<19 || d > maxPace {
				t.Fatalf("pace %v with %d bytes", d, j.unstored.Load())
			}
		}
		_, err = j.Put(write(n, 100<<10))
	}
	if !errors.Is(err, ErrFull) || !paced {
		t.Fatalf("err %v, paced %v", err, paced)
	}
	if err := j.Credit(testCtx(t), 1); !errors.Is(err, ErrFull) {
		t.Fatalf("credit: %v", err)
	}
}

func TestInvalidOperationEndsTheJournal(t *testing.T) {
	s := startServer(t, ServerConfig{})
	j := openJournal(t, s, JournalConfig{})
	if _, err := j.PutMirror(write(1, 1)); !errors.Is(err, fileop.ErrInvalid) {
		t.Fatalf("a write in the mirror lane: %v", err)
	}
	if j.Err() != nil {
		t.Fatal("a refused mirror record ended the journal")
	}
	if _, err := j.Put(&fileop.Op{Kind: fileop.Unlink, Name: "../x"}); !errors.Is(err, fileop.ErrInvalid) {
		t.Fatalf("a bad name: %v", err)
	}
	if _, err := j.Put(write(1, 1)); err == nil {
		t.Fatal("the journal goes on behind a hole")
	}
}

func TestCleanRestartContinues(t *testing.T) {
	dir := storeDir(t)
	for round := range 4 {
		s := startServer(t, ServerConfig{StoreDir: dir})
		j := openJournal(t, s, JournalConfig{})
		goRun(t, j.Run)
		from := round*1000 + 1
		if q, m := j.Last(); q != fileop.Seq(from-1) || m != fileop.Seq(round*10) {
			t.Fatalf("round %d continues behind operation %d, mirror record %d", round, q, m)
		}
		for n := range 10 {
			if _, err := j.PutMirror(block(n, 10)); err != nil {
				t.Fatal(err)
			}
		}
		put(t, j, from, from+999, 2000)
		if round == 2 {
			eventually(t, "stored", func() bool { return j.Stats().Stored > 0 })
			j.Confirm(j.Stats().Frames, j.Stats().Stored)
			eventually(t, "purged", func() bool { return j.st.purgedTo() > 1 })
		}
		if err := j.Close(testCtx(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Put(write(1, 1)); !errors.Is(err, ErrClosed) {
			t.Fatalf("put after close: %v", err)
		}
		closeServer(t, s)
	}
	// The target sees one history across all restarts: the chain is checked there.
	s := startServer(t, ServerConfig{StoreDir: dir})
	j := openJournal(t, s, JournalConfig{})
	rd, err := j.st.read(testCtx(t), Position{Frame: j.st.first - 1})
	if err != nil {
		t.Fatal(err)
	}
	defer rd.close()
	rd.free = true
	for rd.pos.Seq < 4000 {
		if _, _, _, err := rd.next(testCtx(t), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTargetRestartContinues(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	put(t, p.j, 1, 2000, 1000)
	frame := expect(t, p.r, 1, 2000)
	last, err := p.r.Last(testCtx(t))
	if err != nil || last.Frame != frame {
		t.Fatalf("%+v %v", last, err)
	}
	p.r.Purge(frame - 1)
	if err := p.r.Close(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.r.Next(testCtx(t)); !errors.Is(err, ErrClosed) {
		t.Fatalf("Next after Close: %v", err)
	}
	put(t, p.j, 2001, 3000, 1000)
	r := openReceiver(t, p.dst, ReceiverConfig{Applied: last})
	expect(t, r, 2001, 3000)

	// An applier that stands elsewhere is refused.
	for _, wrong := range []Position{{Seq: 1}, {Seq: last.Seq, Chain: last.Chain + 1}} {
		r.Close(testCtx(t))
		r = openReceiver(t, p.dst, ReceiverConfig{Applied: wrong})
		if _, _, err := r.Next(testCtx(t)); !errors.Is(err, ErrBroken) || !errors.Is(err, fileop.ErrNotNext) {
			t.Fatalf("applied %+v: %v", wrong, err)
		}
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	dir := storeDir(t)
	s := startServer(t, ServerConfig{StoreDir: dir, Listen: "127.0.0.1:0", Keys: testKeys().beta})
	if _, err := Start(ServerConfig{StoreDir: dir}, quiet()); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("same directory: %v", err)
	}
	_, err := Start(ServerConfig{StoreDir: storeDir(t), Listen: s.Addr().String(), Keys: testKeys().beta}, quiet())
	if !errors.Is(err, ErrPort) || !strings.Contains(err.Error(), "choose another port") {
		t.Fatalf("same port: %v", err)
	}
	if _, err := Start(ServerConfig{StoreDir: storeDir(t), Listen: "127.0.0.1:0"}, quiet()); err == nil || !strings.Contains(err.Error(), "machine keys") {
		t.Fatalf("no keys: %v", err)
	}
	closeServer(t, s)
	startServer(t, ServerConfig{StoreDir: dir})
}

func TestSlowTransmitterReadsTheQueue(t *testing.T) {
	p := newPair(t, JournalConfig{TailMax: 64 << 10}, ReceiverConfig{})
	p.valve.Pause()
	put(t, p.j, 1, 8000, 1000)
	if err := p.j.Sync(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if n := p.j.Stats().TailBytes; n > 64<<10 {
		t.Fatalf("%d bytes in memory", n)
	}
	if lag := p.tx.Stats().Lag; lag <= 0 {
		t.Fatalf("lag %v while paused", lag)
	}
	p.valve.Resume()
	expect(t, p.r, 1, 8000)
	disk := p.tx.Stats().FromDisk
	if disk == 0 {
		t.Fatal("nothing came from the queue")
	}
	put(t, p.j, 8001, 8100, 10)
	expect(t, p.r, 8001, 8100)
	if n := p.tx.Stats().FromDisk; n != disk {
		t.Fatalf("%d frames from disk after it caught up", n-disk)
	}
}

func TestDamagedFrameIsRefused(t *testing.T) {
	s := startServer(t, ServerConfig{})
	good := func(b *fileop.Builder, n int) []byte {
		rec := fileop.AppendRecord(nil, write(n, 100))
		b.Add(rec, 0)
		_, _, data := b.Finish()
		return data
	}
	for name, spoil := range map[string]func(b *fileop.Builder) []byte{
		"bit":     func(b *fileop.Builder) []byte { d := good(b, 2); d[len(d)/2] ^= 4; return d },
		"garbage": func(*fileop.Builder) []byte { return []byte("hello") },
		"skipped": func(b *fileop.Builder) []byte { good(b, 2); return good(b, 3) },
		"again":   func(*fileop.Builder) []byte { return good(fileop.NewBuilder(fileop.LaneQueue, testEpoch, 1, 0), 1) },
		"epoch":   func(*fileop.Builder) []byte { return good(fileop.NewBuilder(fileop.LaneQueue, 7, 2, 0), 2) },
	} {
		t.Run(name, func(t *testing.T) {
			r := openReceiver(t, s, ReceiverConfig{Connection: name})
			b := fileop.NewBuilder(fileop.LaneQueue, testEpoch, 1, 0)
			for _, d := range [][]byte{good(b, 1), spoil(b)} {
				if _, err := r.st.js.Publish(testCtx(t), r.st.subject, d); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, r, 1, 1)
			_, _, err := r.Next(testCtx(t))
			if !errors.Is(err, ErrBroken) || !errors.Is(err, fileop.ErrDamaged) && !errors.Is(err, fileop.ErrNotNext) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestForeignHistoryInTargetIsBroken(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	p.valve.Pause()
	b := fileop.NewBuilder(fileop.LaneQueue, testEpoch, 1, 0)
	b.Add(fileop.AppendRecord(nil, write(77, 100)), 0)
	_, _, d := b.Finish()
	eventually(t, "asked", func() bool { return p.tx.Stats().Resends == 1 })
	put(t, p.j, 1, 1, 100)
	if err := p.j.Sync(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.r.st.js.Publish(testCtx(t), p.r.st.subject, d); err != nil {
		t.Fatal(err)
	}
	p.valve.Resume()
	eventually(t, "asked again", func() bool { return p.tx.Stats().Resends == 2 })
	put(t, p.j, 2, 2, 100)
	select {
	case err := <-p.txDone:
		if !errors.Is(err, ErrBroken) {
			t.Fatal(err)
		}
	case <-time.After(deadline):
		t.Fatalf("not noticed: %+v", p.tx.Stats())
	}
}
