package stream

import (
	"context"
	"errors"
	"testing"

	"understudy/fileop"
)

func TestDiskGuardEndsTheJournal(t *testing.T) {
	s := startServer(t, ServerConfig{MinFree: 1 << 60})
	j := openJournal(t, s, JournalConfig{})
	done, _ := goRun(t, j.Run)
	if err := <-done; !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	<-j.Failed()
}

func TestStrictServerStores(t *testing.T) {
	s := startServer(t, ServerConfig{Strict: true})
	j := openJournal(t, s, JournalConfig{})
	goRun(t, j.Run)
	put(t, j, 1, 100, 1000)
	if err := j.Sync(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if pos, err := j.Position(testCtx(t)); err != nil || pos.Seq != 100 {
		t.Fatalf("%+v, %v", pos, err)
	}
}

// A source that sends mirror frames without credit loses them; the memory here stays
// bounded.
func TestGreedySourceIsBounded(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{MirrorWindow: 1 << 20})
	limit := 2<<20 + mirrorSlack
	b := fileop.NewBuilder(fileop.LaneMirror, testEpoch, 1, 0)
	for n := 1; n <= 60; n++ {
		b.Add(fileop.AppendRecord(nil, block(n, 400<<10)), 0)
		_, _, d := b.Finish()
		if err := p.l.bulk.Publish(mirrorSubject("alpha", "accounts", testEpoch), d); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "frames refused", func() bool { n, _ := p.r.mirSub.Dropped(); return n > 0 })
	if n := p.r.Stats().MirrorPending; n > limit+1<<20 {
		t.Fatalf("%d bytes wait", n)
	}
	var err error
	for n := 0; err == nil; n++ {
		if _, err = p.r.NextMirror(testCtx(t)); n > 40 {
			break
		}
		if n == 10 { // one that fits again shows the gap
			b.Add(fileop.AppendRecord(nil, block(n, 10)), 0)
			_, _, d := b.Finish()
			if err := p.l.bulk.Publish(mirrorSubject("alpha", "accounts", testEpoch), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(err, ErrMirrorLost) {
		t.Fatal(err)
	}
}

func TestClosingEndsTheWaiting(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	put(t, p.j, 1, 10, 10)
	expect(t, p.r, 1, 10)
	next, mirror := make(chan error, 1), make(chan error, 1)
	go func() { _, _, err := p.r.Next(context.Background()); next <- err }()
	go func() { _, err := p.r.NextMirror(context.Background()); mirror <- err }()
	if err := p.r.Close(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-next; !errors.Is(err, ErrClosed) {
		t.Fatalf("Next: %v", err)
	}
	if err := <-mirror; !errors.Is(err, ErrClosed) {
		t.Fatalf("NextMirror: %v", err)
	}
	p.l.Close()
	if err := <-p.txDone; !errors.Is(err, ErrClosed) {
		t.Fatalf("transmitter: %v", err)
	}
	if err := p.j.Delete(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.j.Failed():
		t.Fatal("an orderly end counts as a failure")
	default:
	}
	if _, err := p.j.Put(write(11, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("Put: %v", err)
	}
	if list, err := p.src.Stored(testCtx(t)); err != nil || len(list) != 0 {
		t.Fatalf("%+v %v", list, err)
	}
}

func TestServerThatClosesEndsReceivers(t *testing.T) {
	s := startServer(t, ServerConfig{})
	r := openReceiver(t, s, ReceiverConfig{})
	next := make(chan error, 1)
	go func() { _, _, err := r.Next(context.Background()); next <- err }()
	go func() { _, _ = r.NextMirror(testCtx(t)) }()
	closeServer(t, s)
	if err := <-next; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := r.Close(testCtx(t)); err != nil {
		t.Fatal(err)
	}
}

// Receivers of several connections on one server share nothing.
func TestConnectionsAreIndependent(t *testing.T) {
	src := startServer(t, ServerConfig{Name: "alpha"})
	dst := startServer(t, ServerConfig{Listen: "127.0.0.1:0", Keys: testKeys().beta})
	l := dial(t, dst.Addr().String())
	rs := map[string]*Receiver{}
	for _, name := range []string{"one", "two", "Three.of them"} {
		j := openJournal(t, src, JournalConfig{Connection: name})
		goRun(t, j.Run)
		v := new(Valve)
		if name == "two" {
			v.Pause()
		}
		rs[name] = openReceiver(t, dst, ReceiverConfig{Connection: name})
		goRun(t, NewTransmitter(j, l, TransmitterConfig{Connection: name, Source: "alpha", Gate: v}, quiet()).Run)
		put(t, j, 1, 500, 100)
	}
	expect(t, rs["one"], 1, 500)
	expect(t, rs["Three.of them"], 1, 500)
	if last, err := rs["two"].Last(testCtx(t)); err != nil || last.Frame != 0 {
		t.Fatalf("paused: %+v, %v", last, err)
	}
}
