package access

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a Throttle.
const (
	firstDelay   = 500 * time.Millisecond // after one failure; doubled by each further one
	maxDelay     = 8 * time.Second
	forgetAfter  = 5 * time.Minute // without a failure
	maxAddresses = 4096            // remembered; all others share one entry
	maxWaiting   = 4               // attempts of one address in line
)

// ErrBusy: too many attempts of one address wait already.
var ErrBusy = errors.New("too many attempts to log in from this address")

// Throttle slows down those who guess: after a failure the next attempt of the same
// address waits, one at a time. Safe for use by several goroutines.
type Throttle struct {
	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	mu    sync.Mutex // guards the map and the entries' waiting
	table map[netip.Prefix]*guesser
}

type guesser struct {
	turn    chan struct{} // holds one token; whoever takes it may try
	waiting int

	failures int       // owned by whoever holds the turn, as is last
	last     time.Time // of the last failure; written under mu too
}

// NewThrottle begins with a clean slate.
func NewThrottle() *Throttle {
	return &Throttle{now: time.Now, sleep: sleep, table: map[netip.Prefix]*guesser{}}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Try calls attempt when it is the address's turn, and remembers whether it succeeded.
func (t *Throttle) Try(ctx context.Context, from net.Addr, attempt func() error) error {
	g, err := t.enter(from)
	if err != nil {
		return err
	}
	defer t.leave(g)
	select {
	case <-g.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { g.turn <- struct{}{} }()
	if g.failures > 0 && t.now().Sub(g.last) > forgetAfter {
		g.failures = 0
	}
	if wait := g.delay() - t.now().Sub(g.last); g.failures > 0 && wait > 0 {
		if err := t.sleep(ctx, wait); err != nil {
			return err
		}
	}
	// A success forgives nothing: who may log in as one could guess for another.
	if err = attempt(); err != nil {
		g.failures++
		t.mu.Lock()
		g.last = t.now()
		t.mu.Unlock()
	}
	return err
}

// delay after the failures so far.
func (g *guesser) delay() time.Duration {
	if g.failures > 10 {
		return maxDelay
	}
	return min(maxDelay, firstDelay<<max(0, g.failures-1))
}

func (t *Throttle) enter(from net.Addr) (*guesser, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := prefixOf(from)
	g := t.table[p]
	if g == nil && len(t.table) >= maxAddresses {
		t.forget()
		if len(t.table) >= maxAddresses {
			p = netip.Prefix{} // shared by all that find no room
			g = t.table[p]
		}
	}
	if g == nil {
		g = &guesser{turn: make(chan struct{}, 1)}
		g.turn <- struct{}{}
		t.table[p] = g
	}
	if g.waiting >= maxWaiting {
		return nil, ErrBusy
	}
	g.waiting++
	return g, nil
}

func (t *Throttle) leave(g *guesser) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g.waiting--
}

// forget drops entries that say nothing any more. The shared one is beyond the bound.
func (t *Throttle) forget() {
	for p, g := range t.table {
		if g.waiting == 0 && t.now().Sub(g.last) > forgetAfter {
			delete(t.table, p)
		}
	}
}

// prefixOf is what counts as one address: IPv6 by /64, which one host can have whole.
func prefixOf(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
