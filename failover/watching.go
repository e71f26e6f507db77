package failover

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// watch asks the source until the monitor is stopped, or the takeover begins.
func (s *sentry) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer func() {
		cancel()
		wait.Wait()
		s.mu.Lock()
		s.watched, s.light = map[string]*watched{}, Online
		s.announceChange()
		s.mu.Unlock()
		s.tellUnasked("")
	}()
	r := s.current()
	news := make(chan struct{}, 1)
	once := new(atomic.Bool)
	once.Store(!r.Await)
	for _, a := range r.Monitor.Addresses {
		if !a.Watch {
			continue
		}
		w := &watched{a: a, once: once, each: r.Await && r.Monitor.Trigger == TriggerAny, count: NewCountdown(a)}
		s.mu.Lock()
		s.watched[a.IP().String()] = w
		s.mu.Unlock()
		wait.Go(func() { s.ask(ctx, w, news) })
	}
	generation := r.Monitor.Generation
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			if r := s.current(); !r.Started || r.Phase != Watching || r.Monitor.Generation != generation {
				return
			}
		case <-news:
			if s.judge(ctx) {
				return
			}
		}
	}
}

// judge looks at the lights and acts: it reports whether a takeover begins.
func (s *sentry) judge(ctx context.Context) bool {
	v := s.view()
	s.tellUnasked(v.unasked)
	now := v.light(s.current().Monitor.Trigger)
	heard := s.answering() // a countdown that just began anew says nothing
	s.mu.Lock()
	before, refused := s.light, s.refused
	s.light = now
	if now == Online && heard {
		s.pending, s.cutOff, s.refused = "", false, false
	}
	if before != now {
		s.announceChange()
	}
	await := s.rec.Await
	s.mu.Unlock()
	if await && heard {
		_ = s.change(func(r *record) { r.Await = false })
	}
	switch {
	case now == Online && heard && before != Online:
		s.m.host.Cured(s.source, DecisionAwaited, SourceSilent, TargetIsolated)
	case now != Online && before == Online:
		s.m.host.Alert(SourceSilent, s.source, s.source)
	}
	if now != Failed || refused {
		return false
	}
	return s.trigger(ctx)
}

// answering reports whether some watched address answered since the watch began.
func (s *sentry) answering() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watched {
		w.mu.Lock()
		heard := w.heard
		w.mu.Unlock()
		if heard {
			return true
		}
	}
	return false
}

// returnGrace is how long a source that gave up its addresses may take to have them again,
// when this machine was cut off and is not any more: two looks of a lease, and some.
const returnGrace = 4 * time.Second

// trigger: the source has failed. It reports whether the takeover begins now.
func (s *sentry) trigger(ctx context.Context) bool {
	r := s.current()
	if err := s.isolated(ctx, &r); err != nil {
		if r.Lent {
			s.grace = time.Now().Add(returnGrace)
		}
		s.countAgain(err)
		return false
	}
	if time.Now().Before(s.grace) {
		return false // the next answer that stays out asks again
	}
	if len(r.Monitor.Witnesses) > 0 && !s.stillFailed(ctx, &r) {
		return false
	}
	s.m.host.Tell(SourceFailed, s.source, s.source)
	if !r.Monitor.Automatic {
		s.await("manual intervention is on")
		return false
	}
	if why := s.view().unasked; why != "" && len(r.Monitor.Witnesses) == 0 && r.Monitor.Trigger == TriggerAll {
		s.await("this machine cannot ask at " + why)
		return false
	}
	if err := s.m.host.Usable(s.source); err != nil {
		s.await("the data is not usable: " + err.Error())
		return false
	}
	s.begin(Order{})
	return true
}

// stillFailed waits for one more request that nobody answers. The line of this machine may
// have healed just now: then the witness answered first, and the source answers next.
func (s *sentry) stillFailed(ctx context.Context, r *record) bool {
	var pace time.Duration
	for _, a := range r.Monitor.Addresses {
		if a.Watch {
			pace = max(pace, a.Interval()/requestsPerInterval)
		}
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pace + min(pace, 50*time.Millisecond)):
	}
	return s.view().light(r.Monitor.Trigger) == Failed
}

// countAgain: it is this machine that is cut off, so its silence proves nothing. The
// countdown goes back to where caution begins.
func (s *sentry) countAgain(why error) {
	s.mu.Lock()
	for _, w := range s.watched {
		w.mu.Lock()
		w.count.Back()
		w.mu.Unlock()
	}
	s.pending, s.cutOff = why.Error(), true
	s.announceChange()
	s.mu.Unlock()
	s.m.host.Alert(TargetIsolated, s.source, s.source, why)
}

// isolated says why it may be this machine that is cut off: a network card that would get
// an address has no carrier, no witness answers, or, without witnesses, no card by which the
// source is asked has a carrier.
func (s *sentry) isolated(ctx context.Context, r *record) error {
	nics, err := s.m.net.NICs()
	if err != nil {
		return err
	}
	for _, a := range r.moving() {
		if nic, _, ok := place(nics, a); ok && !nic.Up {
			return fmt.Errorf("network card %s of this machine has no carrier", nic.Name)
		}
	}
	if len(r.Monitor.Witnesses) == 0 {
		return s.unplugged(r)
	}
	if !s.m.anyAnswers(ctx, r.Monitor.Witnesses) {
		return fmt.Errorf("none of %d witnesses answers: it may be this machine that is cut off", len(r.Monitor.Witnesses))
	}
	return nil
}

// unplugged reports that no card by which the source is asked has a carrier.
func (s *sentry) unplugged(r *record) (why error) {
	for _, a := range r.Monitor.Addresses {
		if !a.Watch {
			continue
		}
		nic, up, err := s.m.net.Carrier(a.IP())
		if up {
			return nil
		}
		if err == nil {
			why = fmt.Errorf("network card %s of this machine has no carrier", nic)
		}
	}
	return why
}

// begin starts a takeover; run does it. It reports false if one is under way or done: the
// countdown may have ended while a person decided.
func (s *sentry) begin(o Order) (begun bool) {
	err := s.change(func(r *record) {
		if r.Phase != Watching {
			return
		}
		begun = true
		r.Phase, r.Step, r.Order, r.Since = FailingOver, takeoverSteps[0].name, o, time.Now()
		r.Taken, r.Skip, r.Errors = nil, nil, nil
	})
	if !begun {
		return false
	}
	s.settle("", false)
	if err != nil {
		s.trouble("record", err)
	}
	s.poke()
	return true
}
