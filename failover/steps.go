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

// step is a part of a takeover or failback. It may be done twice: after an interruption it
// begins again.
type step struct {
	name string
	text string // for people
	do   func(s *sentry, ctx context.Context) error
}

// takeoverSteps in their order (design section 8).
var takeoverSteps = []step{
	{"fence", "make sure that the source is off, by the fencing script", (*sentry).fence},
	{"queue", "apply what was received from the source, and receive nothing more from it", (*sentry).applyQueue},
	{PreFailover, "run the pre-failover script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PreFailover) }},
	{"probe", "ask whether somebody else answers for the addresses", (*sentry).probeAddresses},
	{"addresses", "add the addresses", (*sentry).addAddresses},
	{"announce", "announce the addresses", (*sentry).announce},
	{PostFailover, "run the post-failover script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PostFailover) }},
}

// failbackSteps in their order (F70 to F74).
var failbackSteps = []step{
	{PreFailback, "run the pre-failback script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PreFailback) }},
	{"remove", "remove the addresses that were added", (*sentry).removeAddresses},
	{PostFailback, "run the post-failback script", func(s *sentry, ctx context.Context) error { return s.script(ctx, PostFailback) }},
}

// stepAt is the place of a step of a takeover; -1: it is none.
func stepAt(name string) int {
	return slices.IndexFunc(takeoverSteps, func(st step) bool { return st.name == name })
}

// errStopped wraps what stops a takeover: the data and the addresses stay as they are.
var errStopped = errors.New("takeover stopped")

// perform does the steps from the one the record names on. It returns errStopped's error
// if a step forbids to go on, and the cause of ctx when the daemon ends.
func (s *sentry) perform(ctx context.Context, steps []step, before, after failpoint.Point) error {
	now := s.current().Step
	from := max(slices.IndexFunc(steps, func(st step) bool { return st.name == now }), 0)
	for _, st := range steps[from:] {
		if err := s.change(func(r *record) { r.Step = st.name }); err != nil {
			s.trouble(st.name, err) // the disk is full; availability first
		}
		failpoint.Hit(before)
		s.m.host.Tell(StepBegins, s.source, s.source, st.name, st.text)
		err := st.do(s, ctx)
		failpoint.Hit(after)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errStopped) {
			return err
		}
		if err != nil {
			s.trouble(st.name, err)
		}
	}
	return nil
}

// trouble notes what went wrong in a step that does not stop the rest (F32).
func (s *sentry) trouble(step string, err error) {
	text := step + ": " + err.Error()
	if slices.Contains(s.current().Errors, text) {
		return
	}
	s.m.host.Tell(StepFailed, s.source, s.source, step, err)
	_ = s.change(func(r *record) {
		if len(r.Errors) < maxErrors {
			r.Errors = append(r.Errors, text)
		}
	})
}

// fence waits for the fencing script's exit 0; without one there is nothing to do. A
// person may go on without it.
func (s *sentry) fence(ctx context.Context) error {
	r := s.current()
	sc, ok := r.Monitor.Scripts[Fence]
	if !ok || r.Order.Switch {
		return nil
	}
	out, err := s.runScript(ctx, Fence, sc)
	switch {
	case err == nil:
		return nil
	case r.Order.Force:
		return fmt.Errorf("fence: %w: %s", err, out)
	}
	return fmt.Errorf("%w: the fence did not hold: %w: %s", errStopped, err, out)
}

// applyQueue waits until what was received is applied, and cuts the source off.
func (s *sentry) applyQueue(ctx context.Context) error {
	r := s.current()
	replicas, err := s.m.host.Seal(ctx, s.source, r.Monitor.SkipQueue)
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, s.change(func(r *record) {
		r.Sealed, r.Restore = true, r.Restore || len(replicas) > 0
		if len(replicas) > 0 {
			r.Replicas = replicas
		}
	}))
}

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

// script runs a hook, if there is one. One that is not waited for runs on beside the rest.
func (s *sentry) script(ctx context.Context, name string) error {
	sc, ok := s.current().Monitor.Scripts[name]
	if !ok {
		return nil
	}
	if sc.Wait {
		out, err := s.runScript(ctx, name, sc)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	go func() { // it outlives this daemon, if need be
		if _, err := s.runScript(context.WithoutCancel(ctx), name, sc); err != nil {
			s.trouble(name, err)
		}
	}()
	return nil
}

func (s *sentry) runScript(ctx context.Context, name string, sc Script) (string, error) {
	s.m.host.Tell(ScriptStarts, s.source, name, sc.Path)
	out, err := RunScript(ctx, sc, s.environment(name))
	if err != nil {
		s.m.host.Tell(ScriptFailed, s.source, name, err, out)
	} else {
		s.m.host.Tell(ScriptEnded, s.source, name, out)
	}
	return out, err
}

// environment is what scripts are told (F65).
func (s *sentry) environment(event string) []string {
	r := s.current()
	var addrs, nics []string
	for _, t := range r.Taken {
		addrs, nics = append(addrs, t.Prefix.String()), append(nics, t.NIC)
	}
	if len(r.Taken) == 0 { // before they are added
		for _, a := range r.moving() {
			addrs, nics = append(addrs, a.Address), append(nics, a.NIC)
		}
	}
	flag := map[bool]string{false: "0", true: "1"}
	return []string{"SM_EVENT=" + event, "SM_SOURCE=" + s.source, "SM_TARGET=" + s.m.host.Name(), "SM_ADDRESSES=" + strings.Join(addrs, " "),
		"SM_NICS=" + strings.Join(nics, " "), "SM_MANUAL=" + flag[r.Order.Manual], "SM_FORCE=" + flag[r.Order.Force], "SM_MOVENAME=" + flag[r.Monitor.MoveName]}
}
