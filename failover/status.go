package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Status is a monitor as operators see it.
type Status struct {
	Monitor   Monitor
	Started   bool
	State     string        // stopped, online, caution, failed, failing over, failed over, failing back
	Left      time.Duration // time to fail
	Timeout   time.Duration
	Line      string // one sentence for people
	Lease     string // what the source does when it is cut off
	Pending   string // why a decision is awaited, or why no takeover begins
	Unasked   string // addresses that this machine cannot ask, and why
	Step      string
	Errors    []string
	Restore   bool // restore required
	Since     time.Time
	Taken     []Taken
	Addresses []AddressStatus

	cutOff bool // Pending says why this machine may be cut off itself
	await  bool // the countdown begins with the first answer
}

// AddressStatus is one watched address.
type AddressStatus struct {
	Address string
	Light   Light
	Heard   bool // it answered since the watch began
	Left    time.Duration
	Timeout time.Duration
	Err     string // why nothing is asked
}

// Statuses lists all monitors by name.
func (m *Manager) Statuses() []Status {
	m.mu.Lock()
	var all []*sentry
	for _, s := range m.sentries {
		all = append(all, s)
	}
	m.mu.Unlock()
	var out []Status
	for _, s := range all {
		out = append(out, s.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Monitor.Source, b.Monitor.Source) })
	return out
}

// Status of one monitor.
func (m *Manager) Status(source string) (Status, error) {
	s, err := m.find(source)
	if err != nil {
		return Status{}, err
	}
	return s.status(), nil
}

func (s *sentry) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rec.clone()
	st := Status{Monitor: r.Monitor, Started: r.Started, Pending: s.pending, cutOff: s.cutOff, await: r.Await, Unasked: s.unasked, Step: r.Step, Errors: r.Errors, Restore: r.Restore, Since: r.Since, Taken: r.Taken}
	for _, a := range r.Monitor.Addresses {
		if w := s.watched[a.IP().String()]; w != nil {
			st.Addresses = append(st.Addresses, w.status())
		}
	}
	st.Left, st.Timeout = left(r.Monitor.Trigger, st.Addresses)
	switch {
	case r.Phase != Watching:
		st.State, st.Left = string(r.Phase), 0
	case !r.Started:
		st.State = "stopped"
	default:
		st.State = string(s.light)
	}
	st.Line, st.Lease = st.line(), s.leaseWord(&r)
	return st
}

func (w *watched) status() AddressStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := AddressStatus{Address: w.a.Address, Light: w.count.Light(), Heard: w.heard, Left: w.count.Left(), Timeout: w.count.Timeout}
	if w.err != nil {
		st.Err = w.err.Error()
	}
	return st
}

// left is the machine's time to fail: the last address's, or with any the first one's.
func left(trigger string, list []AddressStatus) (left, timeout time.Duration) {
	for i, a := range list {
		if i == 0 || (trigger == TriggerAny) == (a.Left < left) {
			left, timeout = a.Left, a.Timeout
		}
	}
	return left, timeout
}

func (st *Status) line() string {
	source := st.Monitor.Source
	switch st.State {
	case "stopped":
		if st.Restore {
			return source + " is not watched; it must be restored before it replicates again"
		}
		return source + " is not watched"
	case string(FailingOver):
		return fmt.Sprintf("taking over for %s: step %s", source, st.Step)
	case string(FailedOver):
		if len(st.Errors) > 0 {
			return fmt.Sprintf("standing in for %s, with %d errors", source, len(st.Errors))
		}
		return "standing in for " + source
	case string(FailingBack):
		return fmt.Sprintf("giving %s its identity back: step %s", source, st.Step)
	}
	switch {
	case st.Pending != "" && st.cutOff:
		return fmt.Sprintf("%s does not answer, and no takeover begins: %s", source, st.Pending)
	case st.Pending != "":
		return fmt.Sprintf("%s has failed and a person has to decide: %s", source, st.Pending)
	case st.Unasked != "":
		return fmt.Sprintf("%s cannot be asked at %s", source, st.Unasked)
	case st.State == string(Failed):
		return source + " has failed; no takeover now"
	case st.State == string(Caution) && st.await:
		return source + " has not answered yet; the countdown begins when it does"
	case st.State == string(Caution):
		return source + " does not answer"
	}
	return source + " is watched and answers"
}

// Plan tells each step that a takeover would do now, and what would hinder it (F81).
// Nothing is changed, no script runs; addresses are asked for.
func (st *Status) Plan(nics []NIC) []string {
	var out []string
	for _, step := range takeoverSteps {
		sc, has := st.Monitor.Scripts[step.name]
		switch {
		case knownScript(step.name) && !has:
			continue
		case knownScript(step.name):
			out = append(out, fmt.Sprintf("%s: %s %s", step.text, sc.Path, strings.Join(sc.Args, " ")))
		case step.name == "queue" && st.Monitor.SkipQueue:
			out = append(out, "receive nothing more from the source; what waits is not applied")
		case step.name == "probe" || step.name == "addresses" || step.name == "announce":
			out = append(out, st.planAddresses(step, nics)...)
		default:
			out = append(out, step.text)
		}
	}
	return out
}

func (st *Status) planAddresses(step step, nics []NIC) (out []string) {
	r := record{Monitor: st.Monitor}
	for _, a := range r.moving() {
		nic, p, ok := place(nics, a)
		if !ok {
			out = append(out, fmt.Sprintf("%s: no network card for %s", step.text, a.Address))
			continue
		}
		out = append(out, fmt.Sprintf("%s: %s on %s", step.text, p, nic.Name))
	}
	return out
}
