package stream

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Gate is asked before every send. It may wait: for a pause, a schedule, a bandwidth
// limit. An error ends the transmission.
type Gate interface {
	// Wait returns when bytes more may go onto the wire.
	Wait(ctx context.Context, bytes int) error
}

// Gates asks each in turn. What has waited at the last of them goes, whatever the others
// say by then: so the one that must not be passed comes last.
type Gates []Gate

// Wait implements Gate.
func (g Gates) Wait(ctx context.Context, bytes int) error {
	for _, gate := range g {
		if err := gate.Wait(ctx, bytes); err != nil {
			return err
		}
	}
	return nil
}

// valveBurst is how much of the rate that SetRate sets is made up for after a quiet time.
const valveBurst = 250 * time.Millisecond

// Valve is a Gate with a pause and a rate. The zero value is open and unlimited. Its
// methods may be called by several goroutines at once; several transmitters that share
// one share its rate.
type Valve struct {
	mu      sync.Mutex // guards what follows
	paused  bool
	rate    float64       // bytes a second; 0: unlimited
	burst   time.Duration // how much of its rate is made up for after a quiet time
	next    time.Time     // when the next bytes may go
	passed  uint64        // bytes so far
	changed chan struct{} // closed and replaced when paused or rate change
}

// Pause holds everything back until Resume.
func (v *Valve) Pause() { v.set(func() { v.paused = true }) }

// Resume ends a pause.
func (v *Valve) Resume() { v.set(func() { v.paused = false }) }

// SetRate limits to bytes a second from now on; 0 or less is unlimited. A message may
// be larger than the rate: it goes whole, and the next one waits the longer.
func (v *Valve) SetRate(bytes int64) {
	v.set(func() { v.rate, v.burst, v.next = float64(max(0, bytes)), valveBurst, time.Now() })
}

// SetLimit limits to bytes a period from now on: a bucket of that size, refilled evenly.
// So at most one period's bytes, and the message that went last, are ahead of the rate.
// 0 bytes, or no period, is unlimited.
func (v *Valve) SetLimit(bytes int64, period time.Duration) {
	v.set(func() {
		v.rate, v.burst, v.next = 0, period, time.Now()
		if bytes > 0 && period > 0 {
			v.rate = float64(bytes) / period.Seconds()
		}
	})
}

// Charge counts bytes that are sent in any case: what comes next waits the longer.
func (v *Valve) Charge(bytes int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.take(time.Now(), bytes)
}

// Passed is how many bytes went through so far, those charged included.
func (v *Valve) Passed() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.passed
}

// take counts bytes and moves the moment at which the next may go. v.mu is held.
func (v *Valve) take(now time.Time, bytes int) {
	v.passed += uint64(bytes)
	if v.rate == 0 {
		return
	}
	if oldest := now.Add(-v.burst); v.next.Before(oldest) {
		v.next = oldest
	}
	v.next = v.next.Add(time.Duration(float64(bytes) / v.rate * float64(time.Second)))
}

// State tells whether the valve is paused, and its rate.
func (v *Valve) State() (paused bool, rate int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.paused, int64(v.rate)
}

func (v *Valve) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	if v.changed != nil {
		close(v.changed)
		v.changed = nil
	}
}

// Wait implements Gate.
func (v *Valve) Wait(ctx context.Context, bytes int) error {
	for {
		wait, changed := v.admit(time.Now(), bytes)
		if changed == nil {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait at the gate: %w", context.Cause(ctx))
		}
		timer.Stop()
	}
}

// admit lets bytes through and returns nil, or tells how long to wait, and what ends
// the wait sooner.
func (v *Valve) admit(now time.Time, bytes int) (time.Duration, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.paused && v.rate == 0 {
		v.take(now, bytes)
		return 0, nil
	}
	wait := time.Hour
	if !v.paused {
		if wait = v.next.Sub(now); wait <= 0 {
			v.take(now, bytes)
			return 0, nil
		}
	}
	if v.changed == nil {
		v.changed = make(chan struct{})
	}
	return wait, v.changed
}
