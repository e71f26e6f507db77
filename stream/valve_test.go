package stream

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestValveKeepsItsRate(t *testing.T) {
	for _, c := range []struct{ rate, message int }{{100 << 10, 1 << 20}, {10 << 20, 4 << 10}, {50 << 20, 256 << 10}} {
		synctest.Test(t, func(t *testing.T) {
			var v Valve
			v.SetRate(int64(c.rate))
			time.Sleep(time.Hour) // what was not used is not saved up
			start, sent := time.Now(), 0
			for time.Since(start) < 100*time.Second || sent < 1000*c.message {
				if err := v.Wait(t.Context(), c.message); err != nil {
					t.Fatal(err)
				}
				sent += c.message
				// At most one second's worth, and the message itself, ahead of the rate.
				if over := float64(sent-c.message) - time.Since(start).Seconds()*float64(c.rate); over > float64(c.rate) {
					t.Fatalf("%.0f bytes ahead", over)
				}
			}
			want := float64(c.rate) * time.Since(start).Seconds()
			if off := math.Abs(float64(sent)-want) / want; off > 0.02 {
				t.Errorf("rate %d, messages of %d: %.1f %% off", c.rate, c.message, off*100)
			}
		})
	}
}

func TestValvePausesAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v Valve
		if err := v.Wait(t.Context(), 1<<30); err != nil {
			t.Fatal(err)
		}
		v.Pause()
		passed := make(chan struct{})
		go func() {
			if err := v.Wait(t.Context(), 1); err != nil {
				t.Error(err)
			}
			close(passed)
		}()
		time.Sleep(24 * time.Hour)
		select {
		case <-passed:
			t.Fatal("passed while paused")
		default:
		}
		v.Resume()
		<-passed
		v.SetRate(1)
		_ = v.Wait(t.Context(), 1000)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := v.Wait(short, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		go func() { time.Sleep(time.Second); v.SetRate(0) }()
		start := time.Now()
		if err := v.Wait(t.Context(), 1); err != nil || time.Since(start) > 2*time.Second {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
	})
}

func TestPacerLetsFewThroughAndSpacesMany(t *testing.T) {
	var p pacer
	now := time.Unix(1000, 0)
	at, frames := now, 0
	for end := now.Add(time.Second); now.Before(end); frames++ {
		d := p.due(now)
		if frames < flushBurst && d != 0 {
			t.Fatalf("frame %d waits %v", frames, d)
		}
		if d > flushBusy || d > flushEvery && frames <= flushStreak {
			t.Fatalf("frame %d waits %v", frames, d)
		}
		now = now.Add(d)
		p.sealed(now)
		now = now.Add(50 * time.Microsecond)
	}
	lasting := time.Second - (flushStreak-flushBurst)*flushEvery
	if most := flushStreak + int(lasting/flushBusy) + 2; frames > most || frames < most-10 {
		t.Fatalf("%d frames in %v", frames, now.Sub(at))
	}
	now = now.Add(50 * time.Millisecond)
	for i := range flushBurst {
		if d := p.due(now); d != 0 {
			t.Fatalf("after a pause frame %d waits %v", i, d)
		}
		p.sealed(now)
	}
	for range 1000 {
		p.sealed(now) // sealed for their size
	}
	if d := p.due(now); d > flushBusy {
		t.Fatalf("waits %v after large frames", d)
	}
}
