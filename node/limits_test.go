package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/control"
	"understudy/event"
)

func (p *pair) transmission(id int, action string) {
	p.t.Helper()
	_, err := p.source.transmit(context.Background(), control.TransmissionRequest{ID: id, Action: action})
	must(p.t, err)
}

// hands is a clock that a test turns.
type hands struct {
	n  *Node
	mu sync.Mutex
	at time.Time
}

func (p *pair) clock(at time.Time) *hands {
	h := &hands{n: p.source, at: at}
	p.source.limits.mu.Lock()
	p.source.limits.clock = func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.at }
	p.source.limits.mu.Unlock()
	return h
}

// turn sets the clock and has everything examined.
func (h *hands) turn(at time.Time) {
	h.mu.Lock()
	h.at = at
	h.mu.Unlock()
	h.n.examineAll(context.Background())
}

func (p *pair) con() control.Connection {
	p.t.Helper()
	for _, c := range p.source.Status().Connections {
		if c.ID == p.id {
			return c
		}
	}
	p.t.Fatalf("no connection %d", p.id)
	return control.Connection{}
}

func (p *pair) shows(what string, ok func(c control.Connection) bool) {
	p.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok(p.con()) {
		if time.Now().After(deadline) {
			p.t.Fatalf("the status does not show %s: %+v", what, p.con())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func transmits(word string) func(control.Connection) bool {
	return func(c control.Connection) bool { return c.Transmit == word }
}

// lineIsShut waits until no network connection to the target is left.
func (p *pair) lineIsShut() {
	p.t.Helper()
	s, err := p.source.live(p.id)
	must(p.t, err)
	waitFor(p.t, "the end of the network connection", func() bool { return s.link.Held() && !s.link.Up() })
}

func (p *pair) schedule(req control.ScheduleRequest) control.Schedule {
	p.t.Helper()
	req.Target = "Jersey" // machines are found regardless of case
	out, err := p.source.setSchedule(context.Background(), req)
	must(p.t, err)
	return out.(control.Schedule)
}

func (p *pair) put(name, text string) {
	p.t.Helper()
	must(p.t, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644))
}

// queued waits until at least one operation waits.
func (p *pair) queued() {
	p.t.Helper()
	p.shows("a queue", func(c control.Connection) bool { return c.QueuedOps > 0 })
}

// linkedPair is a pair captured in write order, connected and settled.
func linkedPair(t *testing.T) *pair {
	needRoot(t)
	p := protected(t)
	p.put("first", "1")
	p.settle()
	return p
}

// TestScheduleOpensAndShuts: between sessions nothing is sent and no network connection
// is held; a session start opens, the empty queue shuts; what came meanwhile arrives
// without a mirror (B10.4 to B10.17).
func TestScheduleOpensAndShuts(t *testing.T) {
	p := linkedPair(t)
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	h := p.clock(noon)
	got := p.schedule(control.ScheduleRequest{Start: &control.ScheduleStart{At: noon.Add(time.Hour), EverySeconds: 1800}})
	if got.Open || got.Target != "jersey" {
		t.Fatalf("%+v", got)
	}
	p.shows("that it is scheduled", transmits("Scheduled"))
	p.lineIsShut()
	mirrors := p.con().Mirrors
	for round := range 3 {
		p.put(fmt.Sprint("round", round), "2")
		p.queued()
		start := noon.Add(time.Hour + time.Duration(round)*30*time.Minute)
		h.turn(start.Add(-time.Second))
		if c := p.con(); c.Transmit != "Scheduled" || c.QueuedOps == 0 {
			t.Fatalf("before the session start: %+v", c)
		}
		h.turn(start)
		p.shows("that it sends", transmits("Started"))
		p.settle()
		p.same()
		h.turn(start.Add(time.Second)) // the queue is empty
		p.shows("that it is scheduled again", transmits("Scheduled"))
		p.lineIsShut()
	}
	if now := p.con().Mirrors; now != mirrors {
		t.Errorf("%d mirrors for nothing: the queue had everything", now-mirrors)
	}
	if c := p.con(); c.LastError != "" || c.TargetState != "Unknown" {
		t.Errorf("shut as ordered, and still: %+v", c)
	}
	for _, a := range p.source.alertsOf(nil) {
		t.Errorf("shut as ordered, and still an alert: %+v", a)
	}
}

// TestManualStartBeatsScheduleNotWindow (B10.31, B10.48).
func TestManualStartBeatsScheduleNotWindow(t *testing.T) {
	p := linkedPair(t)
	noon := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	h := p.clock(noon)
	p.schedule(control.ScheduleRequest{Start: &control.ScheduleStart{At: noon.Add(9 * time.Hour)}, Window: &control.ScheduleWindow{Open: 20 * 60, Close: 4 * 60}})
	p.put("a", "waits")
	p.queued()
	_, err := p.source.transmit(t.Context(), control.TransmissionRequest{ID: p.id, Action: "start"})
	if ce := new(control.Error); !errors.As(err, &ce) || ce.Code != control.Refused || !strings.Contains(ce.Msg, "20:00 to 04:00") {
		t.Fatalf("a start outside the window: %v", err)
	}
	p.shows("that it is scheduled", transmits("Scheduled"))
	h.turn(noon.Add(8*time.Hour + time.Minute)) // 20:01: the window alone starts nothing
	p.shows("that it is scheduled", transmits("Scheduled"))
	p.transmission(p.id, "start")
	p.shows("that it sends", transmits("Started"))
	p.settle()
	p.same()
	h.turn(noon.Add(8*time.Hour + 2*time.Minute))
	p.shows("that the manual start ended with the queue", transmits("Scheduled"))
}

// TestSchedulePersists: schedules and limits survive a restart, disabling keeps them, and
// clearing drops them (B10.6, B10.8).
func TestSchedulePersists(t *testing.T) {
	p := linkedPair(t)
	p.schedule(control.ScheduleRequest{Start: &control.ScheduleStart{QueueBytes: 1 << 40}, Stop: &control.ScheduleStop{Bytes: 5}})
	_, err := p.source.setLimit(t.Context(), control.LimitRequest{Target: "jersey", Bytes: 9 << 20, PeriodMS: 1000})
	must(t, err)
	want := p.source.limitsOf("jersey").shown()
	p.restartSource(func() {})
	got := p.source.limitsOf("jersey").shown()
	if got.Start == nil || *got.Start != *want.Start || *got.Stop != *want.Stop || got.LimitBytes != 9<<20 || got.PeriodMS != 1000 {
		t.Fatalf("after a restart %+v, before %+v", got, want)
	}
	off := false
	if got := p.schedule(control.ScheduleRequest{Enable: &off}); got.Enabled || !got.Open || got.Start == nil {
		t.Fatalf("disabled: %+v", got)
	}
	p.settle()
	if got := p.schedule(control.ScheduleRequest{Clear: []string{"start", "end", "window", "bandwidth"}}); got.Start != nil || got.LimitBytes != 0 {
		t.Fatalf("cleared: %+v", got)
	}
	p.source.state.read(func(d *stateData) {
		if l := d.Limits["jersey"]; l.Bytes != 0 || l.Schedule.Limits() {
			t.Errorf("still remembered: %+v", l)
		}
	})
	if _, err := p.source.setSchedule(t.Context(), control.ScheduleRequest{Target: "jersey", Start: &control.ScheduleStart{EveryDays: 1}}); err == nil {
		t.Error("an interval without a start was taken")
	}
	if _, err := p.source.setLimit(t.Context(), control.LimitRequest{Target: "jersey", Bytes: -1, PeriodMS: 1000}); err == nil {
		t.Error("a negative limit was taken")
	}
}

// TestTransmissionStopKeepsTheQueue: stop closes the network connection and the queue
// grows; start sends it, with no mirror. A stop outlives the daemon, whose queue does
// not: then everything is compared (B10.46, B10.47, C4).
func TestTransmissionStopKeepsTheQueue(t *testing.T) {
	p := linkedPair(t)
	mirrors, epoch := p.con().Mirrors, p.con().Epoch
	p.transmission(p.id, "stop")
	p.shows("that it is stopped", transmits("Stopped"))
	p.lineIsShut()
	p.put("a", "while stopped")
	p.queued()
	p.transmission(p.id, "resume") // ends a pause, not a stop
	if c := p.con(); c.Transmit != "Stopped" || c.Replication != "Replicating" {
		t.Fatalf("%+v", c)
	}
	p.transmission(p.id, "start")
	p.settle()
	p.same()
	if c := p.con(); c.Mirrors != mirrors || c.Epoch != epoch {
		t.Errorf("the queue was not kept: %+v", c)
	}
	p.transmission(p.id, "pause")
	p.put("b", "while paused")
	p.queued()
	if s, err := p.source.live(p.id); err != nil || !s.link.Up() || p.con().Transmit != "Paused" {
		t.Fatalf("a pause closed the network connection, or does not show: %v, %+v", err, p.con())
	}
	p.transmission(p.id, "stop")
	p.restartSource(func() { p.put("c", "while down") })
	p.shows("that it is still stopped", transmits("Stopped"))
	if _, err := os.Stat(filepath.Join(p.replica, "c")); err == nil {
		t.Fatal("sent while stopped")
	}
	p.transmission(p.id, "start")
	p.settle()
	p.same()
}

// TestReplicationStop: changes are not queued while it is stopped, the replica stays what
// it was, the connection says that a remirror is required, and a start makes good what
// was missed (B8.8, C4).
func TestReplicationStop(t *testing.T) {
	p := linkedPair(t)
	stop := func(stop bool) {
		_, err := p.source.replicates(t.Context(), control.ReplicationRequest{ID: p.id, Stop: stop})
		must(t, err)
	}
	for _, restart := range []bool{false, true} {
		p.put("before", fmt.Sprint("queued before the stop", restart))
		p.settle()
		stop(true)
		last := p.con().CapturedOp
		p.put("missed", fmt.Sprint("not queued", restart))
		s, err := p.source.live(p.id)
		must(t, err)
		s.lookAgain() // events that came are read
		if c := p.con(); c.CapturedOp != last || c.Replication != "Stopped" || c.Mirror != "Remirror required" || c.Transmit != "Started" {
			t.Fatalf("stopped: %+v", c)
		}
		err = p.source.Mirror(t.Context(), control.MirrorRequest{ID: p.id, Action: "start"})
		if err == nil || !strings.Contains(err.Error(), "replication") {
			t.Fatalf("a mirror without replication: %v", err)
		}
		if restart {
			p.restartSource(func() {})
			p.shows("that it is still stopped", func(c control.Connection) bool { return c.Replication == "Stopped" && c.Mirror == "Remirror required" })
		}
		if got, _ := os.ReadFile(filepath.Join(p.replica, "missed")); strings.Contains(string(got), fmt.Sprint(restart)) {
			t.Fatal("a change made while replication was stopped arrived")
		}
		stop(false)
		p.shows("that it replicates", func(c control.Connection) bool { return c.Replication == "Replicating" })
		p.settle()
		p.same()
	}
}

// TestBandwidthLimitIsShared: two connections to one target together keep its limit,
// mirrors included, and a limit that is lifted counts at once.
func TestBandwidthLimitIsShared(t *testing.T) {
	p := linkedPair(t)
	const limit = 2 << 20
	_, err := p.source.setLimit(t.Context(), control.LimitRequest{Target: "jersey", Bytes: limit, PeriodMS: 1000})
	must(t, err)
	other := filepath.Join(p.base, "other")
	must(t, os.Mkdir(other, 0o755))
	big := strings.Repeat("0123456789abcdef", 5<<16) // 5 MiB
	must(t, os.WriteFile(filepath.Join(other, "big"), []byte(big), 0o644))
	began, passed := time.Now(), p.source.limitsOf("jersey").valve.Passed()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id, err := p.source.Connect(ctx, control.ConnectRequest{Set: "other", Rules: []string{other + " inc, rec"}, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{other: filepath.Join(p.base, "other replica")}, Capture: "inotify"})
	must(t, err)
	p.put("big", big)
	must(t, p.source.Settle(ctx, id))
	p.settle()
	took := time.Since(began).Seconds()
	sent := p.source.limitsOf("jersey").valve.Passed() - passed
	if sent < 2*5<<20 {
		t.Fatalf("only %d bytes passed the limit", sent)
	}
	if most := limit*(took+1) + 1<<20; float64(sent) > most {
		t.Errorf("%d bytes in %.1f s, at most %.0f are allowed", sent, took, most)
	}
	_, err = p.source.setLimit(t.Context(), control.LimitRequest{Target: "jersey", Bytes: 1, PeriodMS: 1000})
	must(t, err)
	p.put("big", big[16:])
	p.queued()
	_, err = p.source.setLimit(t.Context(), control.LimitRequest{Target: "jersey"})
	must(t, err)
	p.settle()
	p.same()
}

// TestMirrorInManySessions: a mirror larger than a session may send comes to its end all
// the same, a part in each session (B10.22, B10.23).
func TestMirrorInManySessions(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	p.mount()
	for i := range 6 {
		p.put(fmt.Sprint("f", i), strings.Repeat(fmt.Sprint(i), 1<<20))
	}
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.Local)
	h := p.clock(at)
	must(t, p.source.limitsOf("jersey").change(func(l *storedLimits) error {
		l.Schedule.Start.Bytes, l.Schedule.Stop.Bytes = 1, 2<<20
		return nil
	}))
	p.connect()
	sessions := 0
	waitFor(t, "the mirror's end", func() bool {
		was := p.source.limitsOf("jersey").open()
		at = at.Add(time.Second)
		h.turn(at)
		if is := p.source.limitsOf("jersey").open(); is && !was {
			sessions++
		}
		return p.con().TargetState == "OK" && p.con().Mirror == "Idle"
	})
	if sessions < 2 {
		t.Errorf("%d MiB in %d sessions of 2 MiB", 6, sessions)
	}
	h.turn(at.Add(time.Second))
	p.settle()
	p.same()
}

// TestQueueAlert: usage at the threshold raises an alert on either side, and below it the
// alert ends (B6.29).
func TestQueueAlert(t *testing.T) {
	p := linkedPair(t)
	for _, n := range []*Node{p.source, p.target} {
		cfg := *n.conf()
		cfg.QueueAlert, cfg.QueueLimit, cfg.MemoryLimit = 3, 32<<20, 32<<20
		n.current.Store(&cfg)
	}
	raised := func(n *Node) bool {
		n.examineAll(t.Context())
		for _, a := range n.alertsOf(nil) {
			if a.ID == int(event.QueueUsage) {
				return true
			}
		}
		return false
	}
	if raised(p.source) || raised(p.target) {
		t.Fatal("an alert for an empty queue")
	}
	must(t, p.target.pauseTarget(t.Context(), "", true))
	for i := range 6 {
		p.put(fmt.Sprint("f", i), strings.Repeat("x", 1<<20))
	}
	waitFor(t, "the alerts", func() bool { return raised(p.source) && raised(p.target) })
	must(t, p.target.pauseTarget(t.Context(), "", false))
	p.settle()
	waitFor(t, "their end", func() bool { return !raised(p.source) && !raised(p.target) })
}
