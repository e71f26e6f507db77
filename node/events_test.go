package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/event"
	"understudy/internal/exercise"
	"understudy/internal/testnode"
)

// seen reports whether the machine's journal has an event of a kind after since.
func (m *machine) seen(id event.ID, since uint64) bool {
	m.t.Helper()
	return slices.ContainsFunc(m.happened(since), func(e control.Event) bool { return e.ID == int(id) })
}

// happened lists the machine's events after since.
func (m *machine) happened(since uint64) []control.Event {
	m.t.Helper()
	var reply control.Events
	m.mustAsk("events", control.EventsRequest{Since: since}, &reply)
	return reply.Events
}

// lastEvent is the number of the machine's newest event.
func (m *machine) lastEvent() uint64 {
	m.t.Helper()
	var reply control.Events
	m.mustAsk("events", control.EventsRequest{Limit: 1}, &reply)
	return reply.Last
}

func alerted(list []control.Alert, id event.ID) bool {
	return slices.ContainsFunc(list, func(a control.Alert) bool { return a.ID == int(id) && a.Text != "" && !a.Since.IsZero() })
}

// visible is a fault as an operator sees it.
type visible struct {
	name  string
	alert event.ID // of the connection, while the fault lasts
	cure  event.ID // told when it is over
	begin func(s *soaked) (end func())
}

var visibles = []visible{
	{"line cut", event.LinkLost, event.LinkUp, func(s *soaked) func() {
		s.w.Drop(testnode.SideA, 100)
		s.w.Drop(testnode.SideB, 100)
		return s.w.Heal
	}},
	{"target killed", event.LinkLost, event.LinkUp, func(s *soaked) func() {
		s.target.kill()
		return s.target.start
	}},
	{"target paused", event.TargetPaused, event.TargetResumed, func(s *soaked) func() {
		s.target.mustAsk("target", control.PauseRequest{Source: "indy", Pause: true}, nil)
		return func() { s.target.mustAsk("target", control.PauseRequest{Source: "indy"}, nil) }
	}},
	{"transmission paused", event.TransmitStopped, event.TransmitStarted, func(s *soaked) func() {
		s.source.mustAsk("transmission", control.PauseRequest{ID: s.rig.id, Pause: true}, nil)
		return func() { s.source.mustAsk("transmission", control.PauseRequest{ID: s.rig.id}, nil) }
	}},
	{"target disk full", event.WriteFull, event.WriteCured, func(s *soaked) func() {
		filler := filepath.Join(s.volume, "filler")
		must(s.t, os.WriteFile(filler, nil, 0o600))
		f, err := os.OpenFile(filler, os.O_WRONLY, 0)
		must(s.t, err)
		defer f.Close()
		for off, size := int64(0), int64(64<<20); size >= 4096; size /= 2 {
			for unix.Fallocate(int(f.Fd()), 0, off, size) == nil {
				off += size
			}
		}
		return func() { must(s.t, os.Remove(filler)) }
	}},
	{"mirror stopped", event.RemirrorRequired, event.RemirrorDone, func(s *soaked) func() {
		s.target.mustAsk("target", control.PauseRequest{Source: "indy", Pause: true}, nil) // so that it cannot end by itself
		s.source.mustAsk("mirror", control.MirrorRequest{ID: s.rig.id, Action: "start", Mode: "diff", Checksum: true}, nil)
		waitFor(s.t, "the mirror to begin", func() bool { return s.connection().Mirror == "Mirroring" })
		s.source.mustAsk("mirror", control.MirrorRequest{ID: s.rig.id, Action: "stop"}, nil)
		s.target.mustAsk("target", control.PauseRequest{Source: "indy"}, nil)
		return func() {
			s.source.mustAsk("mirror", control.MirrorRequest{ID: s.rig.id, Action: "start", Mode: "diff"}, nil)
		}
	}},
}

// TestEachFaultIsSeenAndClears: every fault raises its event and shows as an alert of the
// connection while it lasts; when it is cured the alert is gone, its end was told, and no
// other alert is left.
func TestEachFaultIsSeenAndClears(t *testing.T) {
	t.Parallel()
	s := soakedRig(t, 201)
	for _, v := range visibles {
		t.Logf("%s: %d", v.name, v.alert)
		since := s.source.lastEvent()
		stop := s.load(exercise.Job{Kind: "rate", Seed: 201, Ops: 200}, false)
		end := v.begin(s)
		waitFor(t, v.name+" to show", func() bool { return alerted(s.connection().Alerts, v.alert) })
		if !alerted(s.source.status().Alerts, v.alert) {
			t.Errorf("%s: not among the machine's alerts", v.name)
		}
		end()
		waitFor(t, v.name+" to clear", func() bool { return len(s.connection().Alerts) == 0 })
		stop()
		s.settled("after " + v.name)
		waitFor(t, "the rows of "+v.name, func() bool { return s.source.seen(v.alert, since) && s.source.seen(v.cure, since) })
	}
	for _, m := range []*machine{s.source, s.target} {
		waitFor(t, m.cfg.Name+" to be without alerts", func() bool { return len(m.status().Alerts) == 0 })
	}
}

// TestEventsSurviveAKill: what was told before a kill is listed after it, with what
// happened since in the same order, and a follower gets the next one without polling.
func TestEventsSurviveAKill(t *testing.T) {
	t.Parallel()
	r := protectedRig(t)
	before := r.target.happened(0)
	r.target.kill()
	r.target.start()
	after := r.target.happened(0)
	if len(before) == 0 || len(after) < len(before)+3 {
		t.Fatalf("%d events before the kill, %d after", len(before), len(after))
	}
	for i, e := range before {
		if a, b := text(e), text(after[i]); a != b {
			t.Errorf("before the kill %s, after it %s", a, b)
		}
	}
	for i := 1; i < len(after); i++ {
		if after[i].Seq <= after[i-1].Seq {
			t.Errorf("number %d after %d", after[i].Seq, after[i-1].Seq)
		}
	}
	r.settled("after the kill")
	since := r.target.lastEvent()
	got := make(chan control.Events, 1)
	follower := &machine{t: t, cfg: r.target.cfg, d: r.target.d}
	go func() {
		var reply control.Events
		_ = follower.ask("events", control.EventsRequest{Since: since, WaitMS: (20 * time.Second).Milliseconds()}, &reply)
		got <- reply
	}()
	r.target.mustAsk("target", control.PauseRequest{Source: "indy", Pause: true}, nil)
	if reply := <-got; len(reply.Events) == 0 || reply.Events[0].ID != int(event.TargetPaused) {
		t.Errorf("the follower got %+v", reply)
	}
	follower.closeControl()
	r.target.mustAsk("target", control.PauseRequest{Source: "indy"}, nil)
}

func text(e control.Event) string {
	raw, _ := json.Marshal(e) // of texts and numbers: cannot fail
	return string(raw)
}
