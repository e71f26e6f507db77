package failover

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// What a source looks at for its lease: its witnesses, and who else has its addresses.

// lookPause is the time between two looks, which take 0.6 s each when nobody answers.
const lookPause = 700 * time.Millisecond

// askWitnesses pings all witnesses of the lease until ctx ends.
func (l *tenancy) askWitnesses(ctx context.Context) {
	asked := map[string]*either{}
	defer func() {
		for _, p := range asked {
			p.Close()
		}
	}()
	answers := make(chan struct{}, 1)
	for ctx.Err() == nil {
		l.mu.Lock()
		want, limit := l.rec.Lease.Witnesses, l.term.limit
		if l.rec.Lease.Void || l.mute || l.rec.IsOff {
			want = nil // a question tells others where this machine's addresses are
		}
		l.mu.Unlock()
		for w, p := range asked {
			if !slices.Contains(want, w) {
				delete(asked, w)
				p.Close()
			}
		}
		for _, w := range want {
			p := asked[w]
			if p == nil {
				ping, err := l.t.seat.Prober(Address{Address: w, Probe: ProbePing})
				if err != nil {
					continue
				}
				p = newEitherTo(answers, ping)
				asked[w] = p
			}
			if p.Send() != nil { // its socket may be of an address that is gone
				delete(asked, w)
				p.Close()
			}
		}
		timer := time.NewTimer(min(max(limit/20, minRenewal), maxRenewal))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-timer.C:
				waiting = false
			case <-answers:
				l.heardWitness()
			}
		}
		timer.Stop()
	}
}

func (l *tenancy) heardWitness() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term.witness = bootTime()
	if !l.rec.Armed && !l.rec.Lease.Void && l.newest > 0 {
		l.rec.Armed = true
		if err := l.write(); err != nil {
			l.t.host.Trouble(l.rec.Lease.Target, err)
		}
	}
}

// lookAround asks who else has the addresses, while they are given up or the target is
// not heard.
func (l *tenancy) lookAround(ctx context.Context) {
	for {
		l.mu.Lock()
		off, doubtful, lease := l.rec.IsOff, l.mute || l.term.doubtful(bootTime()), l.rec.Lease
		away := slices.Clone(l.rec.Off)
		l.mu.Unlock()
		if off || doubtful {
			l.look(ctx, lease, away)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.seen:
		case <-time.After(lookPause):
		}
	}
}

// place of an address on a card.
type seatAt struct {
	nic string
	ip  netip.Addr
}

// look asks for all addresses of the lease at once.
func (l *tenancy) look(ctx context.Context, lease Lease, away []Away) {
	var places []seatAt
	for _, a := range away {
		places = append(places, seatAt{a.NIC, a.Prefix.Addr()})
	}
	nics, err := l.t.seat.NICs()
	if err != nil {
		return
	}
	for _, n := range nics {
		for _, p := range n.Addresses {
			if n.Up && slices.ContainsFunc(lease.Addresses, func(a Leased) bool { return a.IP == p.Addr() }) {
				places = append(places, seatAt{n.Name, p.Addr()})
			}
		}
	}
	by, rival, good := l.askRivals(ctx, lease, places)
	heard := good && !rival && l.heardAnybody(ctx, lease, places, len(away) > 0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = by
	switch {
	case rival || len(places) == 0:
		l.free = 0
	case heard:
		l.free++
	}
	l.poke()
}

// askRivals reports an address that the target answers for, whether anybody has one of
// them or is about to, and whether all could be asked for.
func (l *tenancy) askRivals(ctx context.Context, lease Lease, places []seatAt) (by string, rival, good bool) {
	var wait sync.WaitGroup
	var mu sync.Mutex // guards what is returned
	good = len(places) > 0
	var takers []string
	for _, a := range lease.Addresses {
		takers = append(takers, a.MAC)
	}
	for _, p := range places {
		wait.Go(func() {
			mac, found, has, err := l.t.seat.Rivals(ctx, p.nic, p.ip, takers)
			mu.Lock()
			defer mu.Unlock()
			good = good && err == nil
			rival = rival || found
			if has && slices.Contains(takers, mac) {
				by = p.ip.String()
			}
		})
	}
	wait.Wait()
	return by, rival, good
}

// heardAnybody reports whether the target or a witness is there: else this machine is cut
// off, and that nobody has its addresses says nothing. The segment is asked, since there
// may be no address left to ask from; others are pinged only if none of the lease is here.
func (l *tenancy) heardAnybody(ctx context.Context, lease Lease, places []seatAt, off bool) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var who []netip.Addr
	if lease.Heard.IsValid() {
		who = append(who, lease.Heard)
	}
	for _, w := range lease.Witnesses {
		if ip, err := netip.ParseAddr(w); err == nil {
			who = append(who, ip)
		}
	}
	found := make(chan bool, len(who)*(len(places)+1))
	asked := 0
	for _, ip := range who {
		if off {
			asked++
			go func() { found <- l.t.seat.Ping(ctx, ip) }()
		}
		for _, p := range places {
			asked++
			go func() {
				_, ok, _, err := l.t.seat.Rivals(ctx, p.nic, ip, nil)
				found <- ok && err == nil
			}()
		}
	}
	any := false
	for range asked {
		if <-found && !any {
			any = true
			cancel()
		}
	}
	return any
}
