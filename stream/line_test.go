package stream

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// connections are those open now, and all there were.
func (p *proxy) connections() (open, came int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns), p.came
}

// TestHeldLinkHasNoConnection: a held link has no network connection and makes none;
// released, it goes on with nothing lost or repeated, mirror records included.
func TestHeldLinkHasNoConnection(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	put(t, p.j, 1, 10, 100)
	expect(t, p.r, 1, 10)
	gen := p.l.Generation()
	p.l.Hold()
	p.l.Hold()
	var came int
	eventually(t, "no connection", func() (none bool) {
		open, n := p.proxy.connections()
		came = n
		return !p.l.Up() && open == 0
	})
	put(t, p.j, 11, 20, 100)
	short, cancel := context.WithTimeout(testCtx(t), 10*reconnectWait)
	defer cancel()
	if _, _, err := p.r.Next(short); err == nil {
		t.Fatal("something arrived over a held link")
	}
	if open, n := p.proxy.connections(); open != 0 || n != came || p.l.Up() || p.l.Generation() != gen || !p.l.Held() {
		t.Fatalf("%d connections on a held link, %d attempts", open, n-came)
	}
	if p.tx.Stats().Op >= 20 {
		t.Fatal("transmitted over a held link")
	}
	p.l.Release()
	expect(t, p.r, 11, 20)
	if p.l.Held() || p.l.Generation() == gen {
		t.Fatal("not released")
	}
}

// TestMirrorUnderway: only what was sent and not applied would be lost by a cut.
func TestMirrorUnderway(t *testing.T) {
	p := newPair(t, JournalConfig{}, ReceiverConfig{})
	if p.j.MirrorUnderway() {
		t.Fatal("under way before anything was logged")
	}
	p.valve.Pause()
	if _, err := p.j.PutMirror(block(1, 100)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sealed frame", func() bool { n, _ := p.j.peekMirror(); return n > 0 })
	if p.j.MirrorUnderway() {
		t.Fatal("under way before it was sent")
	}
	p.valve.Resume()
	eventually(t, "the frame under way", p.j.MirrorUnderway)
	p.j.MirrorApplied(1)
	if p.j.MirrorUnderway() {
		t.Fatal("under way after it was applied")
	}
}

// TestSharedLimit: several transmitters together keep the limit of their address: on the
// long run within 2 %, and never more than one period's bytes ahead of it, over every
// change of the limit.
func TestSharedLimit(t *testing.T) {
	for _, c := range []struct {
		bytes  int64
		period time.Duration
	}{{19300, time.Second}, {5 << 20, time.Second}, {1 << 20, 10 * time.Second}, {50 << 20, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			shared := new(Valve)
			shared.SetLimit(c.bytes, c.period)
			time.Sleep(time.Hour) // no more than one period is saved up
			rate := float64(c.bytes) / c.period.Seconds()
			const senders, message = 4, 8 << 10
			span := max(300*time.Second, 60*c.period)
			ctx, cancel := context.WithTimeout(t.Context(), span)
			defer cancel()
			start, sent := time.Now(), 0
			passed := make(chan struct{})
			for range senders {
				own := new(Valve)
				go func() {
					for (Gates{shared, own}).Wait(ctx, message) == nil {
						select {
						case passed <- struct{}{}:
						case <-ctx.Done():
						}
					}
				}()
			}
			for ctx.Err() == nil {
				select {
				case <-passed:
				case <-ctx.Done():
					continue
				}
				sent += message
				if ahead := float64(sent-message) - time.Since(start).Seconds()*rate; ahead > float64(c.bytes)+1 {
					t.Fatalf("limit %d in %v: %.0f bytes ahead", c.bytes, c.period, ahead)
				}
			}
			want := rate*span.Seconds() + float64(c.bytes)
			if off := math.Abs(float64(sent)-want) / want; off > 0.02 {
				t.Errorf("limit %d in %v: %d bytes sent, %.1f %% off", c.bytes, c.period, sent, off*100)
			}
			synctest.Wait()
		})
	}
}

// TestChargedBytesCount: what did not wait at the valve makes the next wait.
func TestChargedBytesCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Valve
		v.Charge(1 << 30) // without a limit it means nothing
		v.SetLimit(1000, time.Second)
		v.Charge(5000)
		start := time.Now()
		if err := v.Wait(t.Context(), 1); err != nil || time.Since(start) != 5*time.Second {
			t.Fatalf("waited %v: %v", time.Since(start), err)
		}
	})
}

// TestLimitsChangeLive: a journal that is full at its limit takes more after the limit
// was raised, and less after it was lowered.
func TestLimitsChangeLive(t *testing.T) {
	s := startServer(t, ServerConfig{})
	goRun(t, s.Run)
	j := openJournal(t, s, JournalConfig{MaxBytes: 64 << 20, MemoryMax: 64 << 20})
	if err := j.SetLimits(100<<20, 40<<20); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the raised limit", func() bool { return j.Stats().DiskLimit == 100<<20 })
	if got := j.Stats().MemoryLimit; got != 40<<20 {
		t.Fatalf("memory limit %d", got)
	}
	var err error
	for n := 1; n <= 100 && err == nil; n++ { // nothing is stored: Run does not run
		_, err = j.Put(write(n, 500<<10))
	}
	if err == nil {
		t.Fatal("50 MB were taken by 40 MiB of memory")
	}
}
