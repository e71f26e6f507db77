package failover

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Announcements: bursts of five now and after five seconds, since single frames get lost
// and switches may still be learning; then every minute. A look whether somebody else
// claims an address comes more often.
const (
	burst        = 5
	burstSpacing = 200 * time.Millisecond
	secondBurst  = 5 * time.Second
	refreshEvery = time.Minute
	lookEvery    = 15 * time.Second
)

// hold keeps what was taken over until it is given back. After a restart of the machine
// the addresses are added again, if nobody else has them by now.
func (s *sentry) hold(ctx context.Context) {
	s.reclaim(ctx)
	begun := time.Now()
	sent, refreshed, looked := 0, begun, begun
	tick := time.NewTicker(burstSpacing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			if s.current().Phase != FailedOver {
				return
			}
		case now := <-tick.C:
			due := sent < burst || sent < 2*burst && now.Sub(begun) >= secondBurst || now.Sub(refreshed) >= refreshEvery
			if now.Sub(looked) >= lookEvery {
				looked = now
				if s.contested(ctx) {
					sent, begun, due = 0, now, true
				} else {
					s.reclaim(ctx) // what a rival had when this machine started, and lost since
				}
			}
			if due {
				sent, refreshed = sent+1, now
				for _, t := range s.current().Taken {
					_, _ = s.m.net.Announce(t.NIC, t.Prefix.Addr()) // the first one told what goes wrong
				}
			}
		}
	}
}

// contested reports whether somebody else answers for an address that was taken over.
func (s *sentry) contested(ctx context.Context) (found bool) {
	ours := slices.DeleteFunc(s.current().Taken, func(t Taken) bool { return !t.Ours })
	for i, r := range s.rivals(ctx, ours) {
		if r.err == nil && r.answered {
			s.m.host.Alert(Contested, s.source, ours[i].Prefix.Addr(), r.mac)
			found = true
		}
	}
	if !found {
		s.m.host.Cured(s.source, Contested)
	}
	return found
}

// rival is what came of asking who else has an address.
type rival struct {
	mac      string
	answered bool
	err      error
}

// rivals asks for all addresses at once.
func (s *sentry) rivals(ctx context.Context, list []Taken) []rival {
	out := make([]rival, len(list))
	var wait sync.WaitGroup
	for i, t := range list {
		wait.Go(func() { out[i].mac, out[i].answered, out[i].err = s.m.net.Probe(ctx, t.NIC, t.Prefix.Addr()) })
	}
	wait.Wait()
	return out
}

// reclaim adds what is missing of the addresses taken over.
func (s *sentry) reclaim(ctx context.Context) {
	nics, err := s.m.net.NICs()
	if err != nil {
		s.trouble("addresses", err)
		return
	}
	missing := slices.DeleteFunc(s.current().Taken, func(t Taken) bool { return !t.Ours || holds(nics, t.Prefix.Addr()) })
	for i, r := range s.rivals(ctx, missing) {
		t, err := missing[i], r.err
		switch {
		case ctx.Err() != nil:
			return
		case r.answered:
			s.m.host.Alert(Contested, s.source, t.Prefix.Addr(), r.mac)
			continue
		case err == nil:
			err = s.m.net.Add(t.NIC, t.Prefix)
		}
		if err != nil {
			s.trouble("addresses", err)
			continue
		}
		s.m.host.Tell(AddressAdded, s.source, t.Prefix.Addr(), t.Prefix.Bits(), t.NIC)
	}
}
