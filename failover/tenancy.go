package failover

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/internal/bootid"
	"understudy/internal/failpoint"
)

// tenancy is one lease of a source.
type tenancy struct {
	t    *Tenant
	wake chan struct{}
	seen chan struct{} // an address came or went

	mu      sync.Mutex // guards what follows
	rec     tenancyRecord
	nonce   [16]byte
	number  uint64             // of the last answer
	sent    [128]time.Duration // when answers were sent, by number
	newest  uint64             // newest answer that the target got
	term    term
	taken   string // who answers for our addresses, as looked; "": nobody known
	free    int    // looks in a row that found nobody, while somebody else was heard
	release bool
	mute    bool // the machine restarted, and has not yet looked who has its addresses
}

func (l *tenancy) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// hear takes an ask and numbers the answer.
func (l *tenancy) hear(e echo, lease Lease) echo {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := bootTime()
	if e.nonce == l.nonce && e.number > l.newest && e.number <= l.number && l.number-e.number < uint64(len(l.sent)) {
		l.newest = e.number
		l.term.confirmed = max(l.term.confirmed, l.sent[e.number%uint64(len(l.sent))])
		l.learn(lease)
	}
	l.number++
	l.sent[l.number%uint64(len(l.sent))] = now
	return echo{l.nonce, l.number}
}

// learn takes over what the target says. l.mu is held.
func (l *tenancy) learn(lease Lease) {
	same := l.rec.Lease.same(lease)
	if !same || l.rec.Boot != bootid.Get() && !l.rec.IsOff {
		l.rec.Lease, l.rec.Boot = lease, bootid.Get()
		l.term.limit = lease.limit()
		l.rec.Armed = l.rec.Armed && !lease.Void && len(lease.Witnesses) > 0
		if err := l.write(); err != nil {
			l.t.host.Trouble(lease.Target, err)
		}
		l.poke()
	}
	l.rec.Lease.Heard = lease.Heard
}

func (l *tenancy) state() byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.rec.IsOff:
		return leaseOff
	case l.rec.Armed && !l.rec.Lease.Void:
		return leaseArmed
	}
	return leaseNone
}

// run keeps the lease until it is void, or ctx ends.
func (l *tenancy) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	wait.Go(func() { l.askWitnesses(ctx) })
	wait.Go(func() { l.lookAround(ctx) })
	changes := l.t.seat.Changes(ctx)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		over, hush := l.step()
		if over {
			l.t.end(l)
			return
		}
		if hush {
			l.t.mu.Lock()
			l.t.hush()
			l.t.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
			select {
			case l.seen <- struct{}{}: // an address that just came is asked about at once
			default:
			}
		case <-l.wake:
		case <-tick.C:
		}
	}
}

// step does what is due. It reports whether the lease is over, and whether this machine
// need not be mute any more.
func (l *tenancy) step() (over, hush bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lease, now := &l.rec.Lease, bootTime()
	fresh := !l.term.doubtful(now)
	switch {
	case l.release || lease.Void && (fresh || !l.rec.IsOff && !l.mute):
		if l.rec.IsOff {
			l.comeBack(now)
		}
		l.mute = false
		return true, false
	case l.mute && l.taken == "" && l.free < 2:
		return false, false
	case l.rec.IsOff && !(lease.Taken && fresh) && l.taken == "" && (l.free >= 2 || fresh && l.free >= 1):
		l.comeBack(now)
	case l.rec.IsOff:
		l.clear() // also what others add again
	case lease.Taken && fresh:
		l.giveUp(lease.Target + " stands in for this machine")
	case l.taken != "":
		l.giveUp(lease.Target + " answers for " + l.taken)
	case l.rec.Armed && l.term.expired(now) && !l.mute && !failpoint.Planted(failpoint.PlantKeepAddresses):
		l.giveUp("neither " + lease.Target + " nor a witness is heard")
	}
	hush = l.mute
	if l.mute && !l.rec.IsOff {
		l.begin(now)
	}
	l.mute = false
	return false, hush
}

// giveUp takes the leased addresses from this machine. l.mu is held.
func (l *tenancy) giveUp(why string) {
	l.rec.IsOff, l.rec.Why, l.free = true, why, 0
	l.clear()
	if err := l.write(); err != nil {
		l.t.host.Trouble(l.rec.Lease.Target, err)
	}
}

// clear removes what is there of the leased addresses. Each is written down before, if
// the disk lets it. l.mu is held.
func (l *tenancy) clear() {
	nics, err := l.t.seat.NICs()
	if err != nil {
		return // the next tick looks again
	}
	var gone []string
	for _, n := range nics {
		for _, p := range n.Addresses {
			if l.leased(p.Addr()) {
				l.take(n.Name, p)
				gone = append(gone, p.Addr().String())
			}
		}
	}
	if len(gone) > 0 {
		l.t.host.GivenUp(l.rec.Lease.Target, gone, l.rec.Why)
	}
}

func (l *tenancy) take(nic string, p netip.Prefix) {
	routes, err := l.t.seat.Routes(nic)
	if err != nil {
		l.t.host.Trouble(l.rec.Lease.Target, err)
	}
	at := slices.IndexFunc(l.rec.Off, func(a Away) bool { return a.Prefix == p })
	if at < 0 && len(l.rec.Off) < 2*maxAddresses {
		l.rec.Off = append(l.rec.Off, Away{NIC: nic, Prefix: p, Routes: routes})
	} else if at >= 0 {
		l.rec.Off[at].NIC = nic // the routes of before are those that are wanted
	}
	if err := l.write(); err != nil {
		l.t.host.Trouble(l.rec.Lease.Target, err)
	}
	if err := l.t.seat.Remove(nic, p); err != nil {
		l.t.host.Trouble(l.rec.Lease.Target, err)
	}
}

func (l *tenancy) leased(ip netip.Addr) bool {
	return slices.ContainsFunc(l.rec.Lease.Addresses, func(a Leased) bool { return a.IP == ip })
}

// comeBack has the addresses again. l.mu is held.
func (l *tenancy) comeBack(now time.Duration) {
	for _, a := range l.rec.Off {
		if err := l.t.seat.Restore(a.NIC, a.Prefix, a.Routes); err != nil {
			l.t.host.Trouble(l.rec.Lease.Target, err)
			continue
		}
		_, _ = l.t.seat.Announce(a.NIC, a.Prefix.Addr()) // neighbours ask again by themselves
	}
	l.rec.IsOff, l.rec.Off, l.rec.Why, l.rec.Boot = false, nil, "", bootid.Get()
	l.free = 0
	l.begin(now)
	if err := l.write(); err != nil {
		l.t.host.Trouble(l.rec.Lease.Target, err)
	}
	l.t.host.Back(l.rec.Lease.Target)
}

// begin begins a term. That the target stands in is what it said before; it is asked for,
// and nobody answered. l.mu is held.
func (l *tenancy) begin(now time.Duration) {
	l.term.confirmed, l.term.witness, l.rec.Lease.Taken = now, now, false
}

// Given are the addresses that were given up, with why.
func (t *Tenant) Given() (list []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.leases {
		l.mu.Lock()
		if l.rec.IsOff {
			var ips []string
			for _, a := range l.rec.Lease.Addresses {
				ips = append(ips, a.IP.String())
			}
			list = append(list, strings.Join(ips, ", ")+": "+l.rec.Why)
		}
		l.mu.Unlock()
	}
	return list
}
