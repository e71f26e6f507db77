package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Errors of what an operator asks for.
var (
	ErrNoMonitor     = errors.New("no such monitor")
	ErrExists        = errors.New("the monitor exists already")
	ErrChanged       = errors.New("somebody else changed the monitor meanwhile")
	ErrBusy          = errors.New("the monitor is at work")
	ErrOnline        = errors.New("the source still answers")
	ErrFailedOver    = errors.New("already failed over")
	ErrNotFailedOver = errors.New("not failed over")
	ErrNotUsable     = errors.New("the data is not usable")
	ErrNothing       = errors.New("nothing to watch")
	ErrNoDecision    = errors.New("no decision is awaited")
	ErrStopped       = errStopped
	ErrFull          = fmt.Errorf("%d monitors exist", MaxMonitors)
)

// Config of a manager.
type Config struct {
	Dir     string // of the records
	Host    Host
	Network Network
	Signed  int // length of what Host.Sign makes
}

// Manager keeps the monitors of a target. Its methods may be called by several goroutines
// at once; those that steer need Run to be running.
type Manager struct {
	dir    string
	host   Host
	net    Network
	signed int

	mu       sync.Mutex // guards what follows
	ctx      context.Context
	wait     *sync.WaitGroup
	sentries map[string]*sentry // by name of the source, in lower case
}

// Open reads the stored monitors. Run brings them to work; Refuses answers before that.
func Open(cfg Config) (*Manager, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("monitors: %w", err)
	}
	m := &Manager{dir: cfg.Dir, host: cfg.Host, net: cfg.Network, signed: cfg.Signed, sentries: map[string]*sentry{}}
	all, errs := readRecords(cfg.Dir)
	for _, err := range errs {
		m.host.Tell(RecordBad, "", err)
	}
	for _, r := range all {
		m.sentries[strings.ToLower(r.Monitor.Source)] = m.newSentry(r)
	}
	return m, nil
}

// Run works until ctx ends. What is interrupted then goes on at the next start.
func (m *Manager) Run(ctx context.Context) {
	var wait sync.WaitGroup
	m.mu.Lock()
	m.ctx, m.wait = ctx, &wait
	for _, s := range m.sentries {
		m.start(s)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil
	m.mu.Unlock()
	wait.Wait()
}

// start runs a monitor. m.mu is held.
func (m *Manager) start(s *sentry) {
	ctx := m.ctx
	m.wait.Go(func() {
		defer close(s.done)
		s.run(ctx)
	})
}

func (m *Manager) find(source string) (*sentry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sentries[strings.ToLower(source)]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrNoMonitor, source)
}

// Refuses says why nothing may be received from a source: it was replaced, and its data is
// older (F35). Empty: it may.
func (m *Manager) Refuses(source string) string {
	s, err := m.find(source)
	if err != nil {
		return ""
	}
	r := s.current()
	switch {
	case r.Phase == FailingOver && r.Step == takeoverSteps[0].name:
		return ""
	case r.Phase == FailingOver || r.Phase == FailedOver || r.Phase == FailingBack:
		return fmt.Sprintf("%s stands in for %s since %s", m.host.Name(), s.source, r.Since.Format(time.DateTime))
	case r.Restore:
		return fmt.Sprintf("%s was replaced by %s and has not got the data of that time", s.source, m.host.Name())
	}
	return ""
}

// Sealed reports whether what was received from source is not applied any more.
func (m *Manager) Sealed(source string) bool {
	s, err := m.find(source)
	return err == nil && s.current().Sealed
}

// Restored ends what Refuses says after failback: the source has the data of that time,
// or an operator gave it up.
func (m *Manager) Restored(source string) error {
	s, err := m.find(source)
	if err != nil {
		return err
	}
	if r := s.current(); r.Phase != Watching {
		return fmt.Errorf("%w: %s", ErrBusy, r.Phase)
	}
	return s.change(func(r *record) { r.Restore, r.Sealed, r.Replicas = false, false, nil })
}

// CameHome notes that a part of what the source missed is there again: left says what is
// still missing of what Seal said. While this machine stands in, its data goes on to
// change, so that nothing counts as home.
func (m *Manager) CameHome(source string, left func(replicas json.RawMessage) json.RawMessage) error {
	s, err := m.find(source)
	if err != nil {
		return err
	}
	refused := error(nil)
	err = s.change(func(r *record) {
		if r.Phase != Watching {
			refused = fmt.Errorf("%w: %s is %s", ErrBusy, s.source, r.Phase)
			return
		}
		if r.Replicas = left(r.Replicas); len(r.Replicas) == 0 {
			r.Restore, r.Sealed, r.Replicas = false, false, nil
		}
	})
	return errors.Join(refused, err)
}

// Replicas is what Seal said of a source when it was taken over; nil: nothing.
func (m *Manager) Replicas(source string) json.RawMessage {
	s, err := m.find(source)
	if err != nil {
		return nil
	}
	return s.current().Replicas
}

// Save stores a monitor that was read before, or makes one if its generation is 0.
func (m *Manager) Save(mon Monitor) error {
	mon.Complete()
	if err := mon.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sentries[strings.ToLower(mon.Source)]
	if mon.Generation == 0 {
		return m.create(s, mon)
	}
	if s == nil {
		return fmt.Errorf("%w: %q", ErrNoMonitor, mon.Source)
	}
	var before Monitor
	refused := error(nil)
	err := s.change(func(r *record) {
		switch {
		case r.Phase != Watching:
			refused = fmt.Errorf("%w: %s is %s", ErrBusy, mon.Source, r.Phase)
		case r.Monitor.Generation != mon.Generation:
			refused = ErrChanged
		default:
			before = r.Monitor
			mon.Source = r.Monitor.Source
			mon.Generation++
			r.Monitor = mon
			r.Started = r.Started && mon.Watchable()
		}
	})
	if refused != nil {
		return refused
	}
	m.tellWatched(before, mon)
	s.poke()
	return err
}

// create adds a monitor. m.mu is held.
func (m *Manager) create(old *sentry, mon Monitor) error {
	switch {
	case old != nil:
		return fmt.Errorf("%w: %s", ErrExists, mon.Source)
	case len(m.sentries) >= MaxMonitors:
		return ErrFull
	case m.ctx == nil:
		return errors.New("the daemon stops")
	}
	mon.Generation = 1
	s := m.newSentry(record{Version: recordVersion, Monitor: mon})
	if err := s.rec.write(m.dir); err != nil {
		return err
	}
	m.sentries[strings.ToLower(mon.Source)] = s
	m.tellWatched(Monitor{}, mon)
	m.start(s)
	return nil
}

// tellWatched tells what came onto the watch list and what went.
func (m *Manager) tellWatched(before, now Monitor) {
	list := func(m Monitor) (out []string) {
		for _, a := range m.Addresses {
			if a.Watch {
				out = append(out, a.IP().String())
			}
		}
		return out
	}
	had, has := list(before), list(now)
	for _, a := range has {
		if !slices.Contains(had, a) {
			m.host.Tell(Watched, now.Source, a)
		}
	}
	for _, a := range had {
		if !slices.Contains(has, a) {
			m.host.Tell(Unwatched, now.Source, a)
		}
	}
}

// Delete removes a monitor that does not stand in for its source.
func (m *Manager) Delete(source string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sentries[strings.ToLower(source)]
	if s == nil {
		return fmt.Errorf("%w: %q", ErrNoMonitor, source)
	}
	if r := s.current(); r.Phase != Watching || r.Restore {
		return fmt.Errorf("%w: %s is %s", ErrBusy, source, cmpOr(string(r.Phase), "to be restored"))
	}
	if err := os.Remove(recordPath(m.dir, s.source)); err != nil {
		return fmt.Errorf("delete monitor %s: %w", s.source, err)
	}
	delete(m.sentries, strings.ToLower(source))
	close(s.gone)
	m.host.Cured(s.source, SourceSilent, DecisionAwaited, TargetIsolated)
	return nil
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// Start begins to watch; the countdown begins with the first answer, so that nobody stands
// in for a machine that never was there. Stop ends it.
func (m *Manager) Start(source string) error {
	return m.switchOn(source, true)
}

// Stop ends watching; what was taken over stays.
func (m *Manager) Stop(source string) error {
	return m.switchOn(source, false)
}

func (m *Manager) switchOn(source string, on bool) error {
	s, err := m.find(source)
	if err != nil {
		return err
	}
	r := s.current()
	switch {
	case on && !r.Monitor.Watchable():
		return fmt.Errorf("%w: monitor %s has no watched address", ErrNothing, s.source)
	case on && (r.Started || r.Phase != Watching):
		return fmt.Errorf("%w: %s", ErrBusy, s.source)
	}
	err = s.change(func(r *record) { r.Started, r.Await = on, on })
	if !on {
		s.settle("", false)
		m.host.Cured(s.source, SourceSilent, DecisionAwaited, TargetIsolated)
	}
	s.poke()
	return err
}

// Failover takes over now and waits until it is done or stopped. confirmed: also if the
// source still answers, which it does when o is a switchover.
func (m *Manager) Failover(ctx context.Context, source string, confirmed bool, o Order) error {
	s, err := m.find(source)
	if err != nil {
		return err
	}
	r := s.current()
	if r.Phase != Watching {
		return fmt.Errorf("%w: %s is %s", ErrFailedOver, s.source, r.Phase)
	}
	if !o.Force {
		if err := m.mayTakeOver(ctx, s, &r, confirmed || o.Switch); err != nil {
			return err
		}
	}
	o.Manual = true
	if !s.begin(o) {
		return fmt.Errorf("%w: %s is %s", ErrFailedOver, s.source, s.current().Phase)
	}
	stopped := ""
	if err := s.until(ctx, func(r *record, pending string) bool {
		stopped = pending
		return r.Phase != FailingOver && (r.Phase == FailedOver || pending != "")
	}); err != nil {
		return err
	}
	if s.current().Phase != FailedOver {
		return fmt.Errorf("%w: %s", ErrStopped, stopped)
	}
	return nil
}

func (m *Manager) mayTakeOver(ctx context.Context, s *sentry, r *record, confirmed bool) error {
	if !confirmed && m.answers(ctx, s, r) {
		return fmt.Errorf("%w: %s; two machines would hold its addresses", ErrOnline, s.source)
	}
	if err := s.isolated(ctx, r); err != nil {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	if err := m.host.Usable(s.source); err != nil {
		return fmt.Errorf("%w: %w", ErrNotUsable, err)
	}
	return nil
}

// answers asks whether a source whose monitor is stopped lives.
func (m *Manager) answers(ctx context.Context, s *sentry, r *record) bool {
	s.mu.Lock()
	light, watching := s.light, len(s.watched) > 0 && s.unasked == ""
	s.mu.Unlock()
	if watching && s.answering() {
		return light != Failed
	}
	var ips []string
	for _, a := range r.Monitor.Addresses {
		ips = append(ips, a.IP().String())
	}
	return m.anyAnswers(ctx, ips)
}

// anyAnswers pings all at once.
func (m *Manager) anyAnswers(ctx context.Context, ips []string) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan bool, len(ips))
	for _, w := range ips {
		go func() {
			ip, err := netip.ParseAddr(w)
			found <- err == nil && m.net.Ping(ctx, ip)
		}()
	}
	any := false
	for range ips {
		if <-found {
			any = true
			cancel()
		}
	}
	return any
}

// Decline answers a pending prompt: no takeover now (F50). It may be started by hand.
func (m *Manager) Decline(source string) error {
	s, err := m.find(source)
	if err != nil {
		return err
	}
	s.mu.Lock()
	waiting := s.pending != ""
	s.pending, s.cutOff = "", false
	s.refused = s.refused || waiting
	s.announceChange()
	s.mu.Unlock()
	if !waiting {
		return fmt.Errorf("%w about %s", ErrNoDecision, s.source)
	}
	m.host.Cured(s.source, DecisionAwaited)
	return nil
}

// Failback gives the source its identity back and waits until that is done.
func (m *Manager) Failback(ctx context.Context, source string, stop bool) error {
	s, err := m.find(source)
	if err != nil {
		return err
	}
	refused := error(nil)
	err = s.change(func(r *record) {
		if r.Phase != FailedOver {
			refused = fmt.Errorf("%w: %s", ErrNotFailedOver, s.source)
			return
		}
		r.Phase, r.Step, r.Errors = FailingBack, failbackSteps[0].name, nil
		r.Order = Order{Manual: true, Stop: stop}
	})
	if err := errors.Join(refused, err); err != nil {
		return err
	}
	s.poke()
	if err := s.until(ctx, func(r *record, _ string) bool { return r.Phase != FailingBack }); err != nil {
		return err
	}
	if errs := s.current().Errors; len(errs) > 0 {
		return fmt.Errorf("failed back, with errors: %s", strings.Join(errs, "; "))
	}
	return nil
}

// prober opens the probe of an address.
func (m *Manager) prober(source string, a Address) (Prober, error) {
	if a.Probe == ProbePing {
		return m.net.Prober(a)
	}
	service, err := NewBeat(source, a.IP(), a.Port, m.host, m.signed)
	if err != nil || a.Probe == ProbeService {
		return service, err
	}
	p := a
	p.Probe = ProbePing
	icmp, err := m.net.Prober(p)
	if err != nil {
		service.Close()
		return nil, err
	}
	return newEither(icmp, service), nil
}

// NICs lists the network cards of this machine.
func (m *Manager) NICs() ([]NIC, error) { return m.net.NICs() }
