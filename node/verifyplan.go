package node

import (
	"context"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/schedule"
)

// Verifications that begin by themselves (B9.4).

// verifyPlan is when, and with which options. It outlives the daemon; a time that passed
// while the daemon was down is not made up for.
type verifyPlan struct {
	Start schedule.Start        `json:"start"`
	What  control.VerifyRequest `json:"what"` // options alone
}

// planVerify is the action schedule of the verb.
func (n *Node) planVerify(ctx context.Context, req *control.VerifyRequest) (any, error) {
	c, err := n.connection(req.ID)
	if err != nil {
		return nil, err
	}
	if c.cfg.Restore != nil {
		return nil, control.Errorf(control.Refused, "", "a restoration is not verified by a schedule")
	}
	var plan *verifyPlan
	if s := req.Schedule; s != nil {
		plan = &verifyPlan{What: control.VerifyRequest{Checksum: req.Checksum, Sync: req.Sync, Newer: req.Newer, Orphans: req.Orphans, MinAgeMS: req.MinAgeMS}}
		plan.Start = schedule.Start{At: s.At, Every: schedule.Every{Days: s.EveryDays, Time: time.Duration(s.EverySeconds) * time.Second}}
		const most = 10 * 366 * 24 * 3600
		check := schedule.Schedule{Start: plan.Start}
		if err := check.Check(); err != nil || s.EverySeconds < 0 || s.EverySeconds > most || s.At.IsZero() {
			return nil, control.Errorf(control.BadRequest, "give a start, and an interval from one second to ten years", "schedule of verifications: %v", err)
		}
		if plan.Start.Next(n.now()).IsZero() {
			return nil, control.Errorf(control.BadRequest, "name a later one, or an interval", "%v is over", s.At)
		}
	}
	w := &c.verifying
	w.mu.Lock()
	w.plan, w.next, w.tries = plan, time.Time{}, 0
	if plan != nil {
		w.next = plan.Start.Next(n.now())
	}
	w.mu.Unlock()
	c.store(func(st *storedConnection) { st.Verify = plan })
	return c.verifyReport(ctx, 0), nil
}

// withPlan adds the schedule to a report. w.mu is held.
func (w *verification) withPlan(out control.VerifyReport) control.VerifyReport {
	if p := w.plan; p != nil {
		out.Schedule = &control.VerifySchedule{At: p.Start.At, EveryDays: p.Start.Every.Days, EverySeconds: int64(p.Start.Every.Time / time.Second)}
		out.Next = w.next
	}
	return out
}

// due reports whether one is to begin now, and works out when the next one is. One that is
// late begins once.
func (w *verification) due(now time.Time) *verifyPlan {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.plan == nil:
		return nil
	case w.next.IsZero() && w.tries == 0: // since the start of the daemon, or it was the last one
		w.next = w.plan.Start.Next(now)
		return nil
	case now.Before(w.next):
		return nil
	}
	w.next = w.plan.Start.Next(now)
	return w.plan
}

// examineVerifications begins those that are due.
func (n *Node) examineVerifications(now time.Time) {
	n.mu.Lock()
	list := make([]*Connection, 0, len(n.conns))
	for _, c := range n.conns {
		list = append(list, c)
	}
	n.mu.Unlock()
	for _, c := range list {
		if plan := c.verifying.due(now); plan != nil {
			n.wait.Go(func() { c.beginPlanned(plan, now) })
		}
	}
}

// beginPlanned begins one, or says when it is tried again: VerifyRetryLimit times, every
// VerifyRetryInterval minutes.
func (c *Connection) beginPlanned(plan *verifyPlan, now time.Time) {
	o, after := verifyOptions(&plan.What)
	err := c.beginVerify(o, after, true)
	conf, w := c.n.conf(), &c.verifying
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.plan != plan { // changed meanwhile
		return
	}
	if err == nil {
		w.tries = 0
		return
	}
	if w.tries >= conf.VerifyRetryLimit {
		w.tries = 0
		c.alert(event.VerifyNotRun, c.ID, err)
		return
	}
	w.tries++
	if again := now.Add(conf.VerifyRetry); w.next.IsZero() || again.Before(w.next) {
		w.next = again
	}
	c.log.Warn("scheduled verification did not begin", "try", w.tries, "err", err)
}

// verifyTold tells the operator of one that ended. What a person began the person hears of
// anyway. w.mu is held.
func (c *Connection) verifyTold() {
	w := &c.verifying
	rep := &w.report
	switch {
	case rep.OrphansOnly:
	case rep.State == "done" && rep.Equal:
		c.cured(event.VerifyDiffers, event.VerifyNotRun)
	case !w.planned || rep.State == "stopped":
	case rep.State != "done":
		c.alert(event.VerifyNotRun, c.ID, rep.Error)
	case !rep.Remirror:
		c.alert(event.VerifyDiffers, c.ID, rep.Totals.Different, rep.Totals.Unsettled+rep.Totals.Errors)
	}
}
