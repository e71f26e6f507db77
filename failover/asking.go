package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// watched is one address under watch.
type watched struct {
	a    Address
	once *atomic.Bool // an address of this source answered since the watch began, or none need to
	each bool         // every address counts only from its own first answer

	mu sync.Mutex // guards what follows

	count Countdown
	heard bool  // it answered since the watch began
	anew  bool  // since it answered last, a new socket was opened
	err   error // why nothing is asked; nil: it is
}

// step counts what came of a request. A source that is awaited does not fail, but shows that
// it does not answer.
func (w *watched) step(now time.Duration, last Request, answered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answered {
		w.heard, w.anew = true, false
		w.once.Store(true)
	}
	if last == Sent && !w.heard && (w.each || !w.once.Load()) {
		last = Awaited
	}
	w.count.Step(now, last, answered)
}

// stale reports, once in a silence, that the socket should be another: it asks from an
// address that this machine may have lost, and then no answer finds the way back.
func (w *watched) stale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.anew || !w.count.Stale() {
		return false
	}
	w.anew = true
	return true
}

// ask sends requests to one address and counts.
func (s *sentry) ask(ctx context.Context, w *watched, news chan<- struct{}) {
	var p Prober
	defer func() {
		if p != nil {
			p.Close()
		}
	}()
	begun, last := time.Now(), Unsent
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var answers <-chan struct{}
		if p != nil {
			answers = p.Answers()
		}
		answered, due := false, false
		select {
		case <-ctx.Done():
			return
		case <-answers:
			answered = true
		case <-timer.C:
			due = true
			select {
			case <-answers: // it came while nobody looked
				answered = true
			default:
			}
		}
		w.step(time.Since(begun), last, answered)
		notify(news)
		if due { // else the timer still runs
			p, last = s.request(p, w)
			timer.Reset(w.count.Pace)
		}
	}
}

// request asks an address by p, or by a new prober, which it returns: if there is none yet,
// if this machine could not ask by p, or if p heard nothing for long.
func (s *sentry) request(p Prober, w *watched) (Prober, Request) {
	if p != nil && w.stale() {
		p.Close()
		p = nil
	}
	var err error
	if p == nil {
		p, err = s.m.prober(s.source, w.a)
		err = unable(err) // a prober that finds the way blocked at once has as good as asked
	}
	if p != nil {
		err = p.Send()
	}
	if err != nil && p != nil {
		p.Close()
		p = nil
	}
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	if err != nil {
		return nil, Unable
	}
	return p, Sent
}

// view is what the watched addresses show together.
type view struct {
	lights  []Light // of those that this machine can ask
	unasked string  // the others, with why; "": there are none
}

func (s *sentry) view() (v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var unasked []string
	for ip, w := range s.watched {
		w.mu.Lock()
		if w.count.Blind() {
			unasked = append(unasked, ip+" ("+inner(w.err)+")")
		} else {
			v.lights = append(v.lights, w.count.Light())
		}
		w.mu.Unlock()
	}
	slices.Sort(unasked)
	v.unasked = strings.Join(unasked, ", ")
	return v
}

// inner is the cause of an error, without the addresses and calls around it.
func inner(err error) string {
	if err == nil {
		return "it could not for a while"
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// light of the machine. Addresses that cannot be asked say nothing; but if all others are
// well, something is wrong all the same.
func (v view) light(trigger string) Light {
	now := Decide(trigger, v.lights)
	if v.unasked != "" && now == Online {
		return Caution
	}
	return now
}

// tellUnasked tells when addresses cannot be asked any more, and when all can again.
func (s *sentry) tellUnasked(now string) {
	s.mu.Lock()
	before := s.unasked
	s.unasked = now
	if before != now {
		s.announceChange()
	}
	s.mu.Unlock()
	switch {
	case now != "" && before == "":
		s.m.host.Alert(Unasked, s.source, s.source, now)
	case now == "" && before != "":
		s.m.host.Cured(s.source, Unasked)
	}
}
