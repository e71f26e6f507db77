package failover

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"understudy/internal/failpoint"
)

// sentry is one monitor at work. One goroutine runs it; the manager's callers change its
// record and wake it.
type sentry struct {
	m      *Manager
	source string
	wake   chan struct{}
	gone   chan struct{} // closed when the monitor is deleted
	done   chan struct{} // closed when run has ended

	mu      sync.Mutex // guards what follows
	rec     record
	watched map[string]*watched // by IP
	light   Light
	pending string // why a decision is awaited, or why no takeover begins; "": neither
	cutOff  bool   // pending says why this machine may be cut off itself: nobody has to decide
	unasked string // addresses that this machine cannot ask, and why
	refused bool   // a takeover was declined, or stopped, since the source answered last
	changed chan struct{}
	lessor  *lessor // nil: no socket for it

	grace   time.Time // no takeover before; of the goroutine that watches
	resumed bool      // a takeover goes on behind its probes; of the goroutine that runs
}

func (m *Manager) newSentry(r record) *sentry {
	return &sentry{m: m, source: r.Monitor.Source, rec: r, light: Online, wake: make(chan struct{}, 1), gone: make(chan struct{}),
		done: make(chan struct{}), changed: make(chan struct{}), watched: map[string]*watched{}}
}

// current is a copy of the record.
func (s *sentry) current() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.clone()
}

// change changes the record and makes that durable before it returns. If it cannot be
// written, the change stands in memory all the same: a takeover goes on with a full disk.
func (s *sentry) change(f func(*record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.rec)
	s.announceChange()
	return s.rec.write(s.m.dir)
}

// announceChange wakes those who wait for a change. s.mu is held.
func (s *sentry) announceChange() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sentry) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the monitor's life.
func (s *sentry) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	var lending sync.WaitGroup
	defer lending.Wait()
	lending.Go(func() { s.lend(ctx) })
	for ctx.Err() == nil {
		r := s.current()
		switch {
		case r.Phase == FailingOver:
			s.takeOver(ctx)
		case r.Phase == FailedOver:
			s.hold(ctx)
		case r.Phase == FailingBack:
			s.failBack(ctx)
		case r.Started:
			s.watch(ctx)
		default:
			select {
			case <-ctx.Done():
			case <-s.wake:
			}
		}
	}
}

// takeOver does the steps of a takeover, or goes on with them.
func (s *sentry) takeOver(ctx context.Context) {
	s.m.host.Tell(TakeoverBegins, s.source, s.source)
	s.m.host.Cured(s.source, DecisionAwaited)
	s.resumed = stepAt(s.current().Step) > stepAt("probe")
	err := s.perform(ctx, takeoverSteps, failpoint.TakeoverBefore, failpoint.TakeoverAfter)
	switch {
	case ctx.Err() != nil:
		return // the next start goes on
	case err != nil:
		s.stopped(err)
		return
	}
	s.settle("", false)
	if err := s.change(func(r *record) { r.Phase, r.Step, r.Since = FailedOver, "", time.Now() }); err != nil {
		s.trouble("record", err)
	}
	s.m.host.Tell(TakeoverDone, s.source, s.source)
	s.m.host.Tell(TakeoverComplete, s.source, s.source)
	if n := len(s.current().Errors); n > 0 {
		s.m.host.Tell(TakeoverErrors, s.source, s.source, n)
	}
}

// stopped: a step forbade to go on. A person may force it.
func (s *sentry) stopped(why error) {
	s.m.host.Unseal(s.source)
	_ = s.change(func(r *record) {
		r.Phase, r.Step, r.Order, r.Skip = Watching, "", Order{}, nil
		r.Sealed, r.Restore, r.Replicas = false, false, nil
	})
	s.await(strings.TrimPrefix(why.Error(), errStopped.Error()+": "))
}

// await shows that a person has to decide.
func (s *sentry) await(why string) {
	s.settle(why, true)
	s.m.host.Alert(DecisionAwaited, s.source, s.source, why)
}

// settle says why a person has to decide; "": nobody has to.
func (s *sentry) settle(pending string, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending, s.cutOff, s.refused = pending, false, refused
	s.announceChange()
}

// failBack gives the source its identity back.
func (s *sentry) failBack(ctx context.Context) {
	if s.perform(ctx, failbackSteps, failpoint.FailbackBefore, failpoint.FailbackAfter) != nil {
		return
	}
	err := s.change(func(r *record) {
		r.Phase, r.Step, r.Taken, r.Skip = Watching, "", nil, nil
		r.Started, r.Await = r.Started && !r.Order.Stop, true
		r.Order = Order{}
		r.Sealed = r.Restore
	})
	if err != nil {
		s.trouble("record", err)
	}
	s.mu.Lock()
	s.light = Online
	s.mu.Unlock()
	s.settle("", false)
	s.m.host.Tell(FailbackDone, s.source, s.source)
}

// until waits until ok says so of the record, looking again at every change.
func (s *sentry) until(ctx context.Context, ok func(r *record, pending string) bool) error {
	for {
		s.mu.Lock()
		changed, enough := s.changed, ok(&s.rec, s.pending)
		s.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.done:
			return errors.New("the daemon stops; the takeover goes on when it is started again")
		case <-changed:
		}
	}
}
