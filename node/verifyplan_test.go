package node

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"understudy/control"
	"understudy/event"
)

// TestVerificationBeginsBySchedule (G44): at its time and after each interval, also after a
// restart; what it finds is told, and told to be over; one that cannot begin is tried again.
func TestVerificationBeginsBySchedule(t *testing.T) {
	p := newPair(t, false)
	must(t, os.WriteFile(filepath.Join(p.dir, "file"), []byte("x"), 0o644))
	p.connect()
	p.settle()
	start := time.Date(2026, 3, 1, 22, 0, 0, 0, time.Local)
	var ahead atomic.Int64 // of start
	turn := func(d time.Duration) {
		ahead.Store(int64(d))
		p.source.examineAll(t.Context())
	}
	fake := func() {
		p.source.limits.mu.Lock()
		defer p.source.limits.mu.Unlock()
		p.source.limits.clock = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	}
	fake()
	ahead.Store(int64(-time.Hour))
	plan := func(s *control.VerifySchedule) (control.VerifyReport, error) {
		r, err := p.source.verify(t.Context(), control.VerifyRequest{ID: p.id, Action: "schedule", Checksum: true, Schedule: s})
		if err != nil {
			return control.VerifyReport{}, err
		}
		return r.(control.VerifyReport), nil
	}
	for _, s := range []control.VerifySchedule{{}, {At: start, EverySeconds: -1}, {At: start, EveryDays: -1}, {At: start, EveryDays: 1, EverySeconds: 1},
		{At: start.Add(-2 * time.Hour)}, {At: start, EverySeconds: 1 << 40}} {
		if _, err := plan(&s); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	rep, err := plan(&control.VerifySchedule{At: start, EveryDays: 1})
	must(t, err)
	if rep.State != "none" || !rep.Next.Equal(start) {
		t.Fatalf("%+v, next %v", rep, rep.Next)
	}
	begun := func(since time.Time) control.VerifyReport {
		t.Helper()
		var rep control.VerifyReport
		waitFor(t, "a verification by schedule", func() bool { rep = p.waitVerified(); return rep.State == "done" && rep.Started.After(since) })
		return rep
	}
	turn(-time.Second)
	if rep := p.waitVerified(); rep.State != "none" {
		t.Fatalf("before its time: %+v", rep)
	}
	turn(time.Second)
	rep = begun(time.Time{})
	if !rep.Checksum || !rep.Equal || !rep.Next.Equal(start.AddDate(0, 0, 1)) {
		t.Fatalf("%+v", rep)
	}
	must(t, os.WriteFile(filepath.Join(p.replica, "file"), []byte("y"), 0o644))
	turn(24*time.Hour + time.Second)
	rep = begun(rep.Started)
	waitFor(t, "the differences to be told", func() bool { return len(p.told(event.VerifyDiffers)) == 1 })
	p.repair()
	p.verified(control.VerifyRequest{Checksum: true})
	waitFor(t, "the end of it to be told", func() bool { return len(p.told(event.VerifyEqual)) == 1 })

	addr := p.source.Addr()
	p.stops[1]()
	p.source = p.startAt("indy", addr)
	p.stops[1], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
	p.id = p.source.Status().Connections[0].ID
	p.settle()
	fake()
	c, err := p.source.connection(p.id)
	must(t, err)
	c.verifying.mu.Lock()
	c.verifying.next = time.Time{} // as before the first look, by the clock of the machine
	c.verifying.mu.Unlock()
	turn(47 * time.Hour) // since the start nothing is made up for
	turn(48*time.Hour + time.Second)
	rep = begun(time.Time{})
	if !rep.Next.Equal(start.AddDate(0, 0, 3)) {
		t.Fatalf("%+v", rep)
	}
	p.set("VerifyRetryLimit", "1")
	w := &c.verifying
	state := func(s string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.report.State = s
	}
	next := func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.next
	}
	state("running") // another one is under way
	turn(72*time.Hour + time.Second)
	retry := start.Add(72*time.Hour + time.Second).Add(p.source.conf().VerifyRetry)
	waitFor(t, "the next try to be planned", func() bool { return next().Equal(retry) })
	turn(retry.Sub(start) + time.Second)
	waitFor(t, "that it did not run to be told", func() bool { return len(p.told(event.VerifyNotRun)) == 1 })
	if !next().Equal(start.AddDate(0, 0, 4)) {
		t.Fatalf("the next one is planned for %v", next())
	}
	state("done")
	if rep, err := plan(nil); err != nil || rep.Schedule != nil || !rep.Next.IsZero() {
		t.Fatalf("%+v, %v", rep, err)
	}
}

// repair mirrors what differs.
func (p *pair) repair() {
	p.t.Helper()
	must(p.t, p.source.Mirror(p.t.Context(), control.MirrorRequest{ID: p.id, Action: "start", Mode: "diff", Checksum: true, ChecksumAll: true}))
	p.settle()
}
