package failover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/internal/failpoint"
)

// The steps of a takeover and a failback that move addresses.

// moving are the addresses to take over.
func (r *record) moving() (list []Address) {
	if r.Monitor.KeepAddresses {
		return nil
	}
	for _, a := range r.Monitor.Addresses {
		if a.Take {
			list = append(list, a)
		}
	}
	return list
}

// probeAddresses asks for all addresses at once. One that somebody else answers for stops
// the takeover if all addresses were said to be dead, else it is left out (F33).
func (s *sentry) probeAddresses(ctx context.Context) error {
	r := s.current()
	nics, err := s.m.net.NICs()
	if err != nil {
		return err
	}
	skip, errs := s.askUntilGone(ctx, &r, nics, r.Order.Switch)
	switch {
	case len(skip) == 0:
	case r.Order.Force:
		skip = nil
	case r.Monitor.Trigger == TriggerAll || r.Order.Switch:
		return fmt.Errorf("%w: another machine answers for %s", errStopped, strings.Join(skip, ", "))
	default:
		errs = append(errs, fmt.Errorf("not taken over, another machine answers: %s", strings.Join(skip, ", ")))
	}
	return errors.Join(append(errs, s.change(func(r *record) { r.Skip = skip }))...)
}

// switchPatience is how long a source may take to give its addresses up when it is told.
const switchPatience = 20 * time.Second

// askUntilGone is askFor, again and again while a source that was told is about to go.
func (s *sentry) askUntilGone(ctx context.Context, r *record, nics []NIC, told bool) (skip []string, errs []error) {
	skip, errs = s.askFor(ctx, r, nics)
	for end := time.Now().Add(switchPatience); len(skip) > 0 && told && ctx.Err() == nil && time.Now().Before(end); {
		skip, errs = s.askFor(ctx, r, nics)
	}
	return skip, errs
}

// askFor asks for all addresses at once and lists those that somebody else answers for.
func (s *sentry) askFor(ctx context.Context, r *record, nics []NIC) (skip []string, errs []error) {
	var wait sync.WaitGroup
	var mu sync.Mutex // guards what is returned
	for _, a := range r.moving() {
		nic, _, ok := place(nics, a)
		if !ok || holds(nics, a.IP()) {
			continue
		}
		wait.Go(func() {
			mac, answered, err := s.m.net.Probe(ctx, nic.Name, a.IP())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			if answered {
				s.m.host.Tell(Conflict, s.source, a.IP(), mac)
				skip = append(skip, a.IP().String())
			}
		})
	}
	wait.Wait()
	slices.Sort(skip)
	return skip, errs
}

// holds reports whether this machine has ip.
func holds(nics []NIC, ip netip.Addr) bool {
	return slices.ContainsFunc(nics, func(n NIC) bool {
		return slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return p.Addr() == ip })
	})
}

// addAddresses gives this machine the source's addresses beside its own. Each is written
// down first.
func (s *sentry) addAddresses(ctx context.Context) error {
	r := s.current()
	nics, err := s.m.net.NICs()
	if err != nil {
		return err
	}
	var errs []error
	if s.resumed {
		errs = append(errs, s.askAgain(ctx, &r, nics))
		r = s.current()
	}
	for _, a := range r.moving() {
		if slices.Contains(r.Skip, a.IP().String()) || ctx.Err() != nil {
			continue
		}
		if err := s.addAddress(nics, a); err != nil {
			errs = append(errs, err)
			s.m.host.Tell(AddressFailed, s.source, a.IP(), err)
		}
	}
	return errors.Join(errs...)
}

// askAgain asks for what is not here yet of a takeover that was interrupted: the source may
// have come back meanwhile. Others keep what they answer for (F33); a source that holds its
// addresses on lease is told now that this machine stands in.
func (s *sentry) askAgain(ctx context.Context, r *record, nics []NIC) error {
	if r.Order.Force {
		return nil
	}
	skip, errs := s.askUntilGone(ctx, r, nics, r.Order.Switch || r.Lent)
	if len(skip) == 0 || ctx.Err() != nil {
		return errors.Join(errs...)
	}
	errs = append(errs, fmt.Errorf("not taken over, another machine answers: %s", strings.Join(skip, ", ")))
	return errors.Join(append(errs, s.change(func(r *record) {
		r.Skip = append(r.Skip, skip...)
		r.Taken = slices.DeleteFunc(r.Taken, func(t Taken) bool { return slices.Contains(skip, t.Prefix.Addr().String()) })
	}))...)
}

func (s *sentry) addAddress(nics []NIC, a Address) error {
	nic, p, ok := place(nics, a)
	if !ok {
		return fmt.Errorf("no network card for %s (%q)", a.Address, a.NIC)
	}
	t := Taken{Prefix: p, NIC: nic.Name, Ours: !holds(nics, a.IP())}
	r := s.current()
	if i := slices.IndexFunc(r.Taken, func(t Taken) bool { return t.Prefix.Addr() == a.IP() }); i >= 0 {
		t = r.Taken[i] // of before an interruption: it knows whose the address is
	} else if err := s.change(func(r *record) { r.Taken = append(r.Taken, t) }); err != nil {
		return err // unwritten, failback would forget it
	}
	failpoint.Hit(failpoint.AddressBefore)
	if !t.Ours {
		return nil
	}
	if err := s.m.net.Add(t.NIC, t.Prefix); err != nil {
		return err
	}
	failpoint.Hit(failpoint.AddressAfter)
	s.m.host.Tell(AddressAdded, s.source, t.Prefix.Addr(), t.Prefix.Bits(), t.NIC)
	return nil
}

// announce tells the network once; hold goes on with that.
func (s *sentry) announce(context.Context) error {
	var errs []error
	for _, t := range s.current().Taken {
		mac, err := s.m.net.Announce(t.NIC, t.Prefix.Addr())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.m.host.Tell(Announced, s.source, mac, t.Prefix.Addr())
	}
	return errors.Join(errs...)
}

// removeAddresses takes back exactly what was added.
func (s *sentry) removeAddresses(context.Context) error {
	var errs []error
	for _, t := range s.current().Taken {
		if t.Ours {
			if err := s.m.net.Remove(t.NIC, t.Prefix); err != nil {
				errs = append(errs, err)
				s.m.host.Tell(RemoveFailed, s.source, t.Prefix.Addr(), err)
				continue
			}
			s.m.host.Tell(AddressRemoved, s.source, t.Prefix.Addr(), t.NIC)
		}
		if err := s.change(func(r *record) {
			r.Taken = slices.DeleteFunc(r.Taken, func(o Taken) bool { return o.Prefix == t.Prefix })
		}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
