package node

import (
	"context"
	"strings"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/schedule"
)

// The verbs of schedules and bandwidth limits (B10).

// maxPeriod bounds the period of a bandwidth limit.
const maxPeriod = 24 * time.Hour

// target finds the limits of a target by its name, by a connection to it, or by an address.
func (n *Node) target(ctx context.Context, name string) (*limits, error) {
	if name == "" {
		return nil, control.Errorf(control.BadRequest, "name the target machine", "no target given")
	}
	n.mu.Lock()
	for _, c := range n.conns {
		if strings.EqualFold(c.cfg.Target, name) {
			name = c.cfg.Target
			n.mu.Unlock()
			return n.limitsOf(name), nil
		}
	}
	n.mu.Unlock()
	for _, known := range n.limitedTargets() {
		if strings.EqualFold(known, name) {
			return n.limitsOf(known), nil
		}
	}
	m, err := n.findMachine(ctx, name)
	if err != nil {
		return nil, err
	}
	return n.limitsOf(m.Name), nil
}

// setSchedule changes the schedule of a target.
func (n *Node) setSchedule(ctx context.Context, req control.ScheduleRequest) (any, error) {
	l, err := n.target(ctx, req.Target)
	if err != nil {
		return nil, err
	}
	err = l.change(func(set *storedLimits) error {
		for _, part := range req.Clear {
			if err := set.clear(part); err != nil {
				return err
			}
		}
		set.apply(&req)
		if err := set.Schedule.Check(); err != nil {
			return control.Errorf(control.BadRequest, "", "schedule of %s: %v", l.target, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l.shown(), nil
}

// apply takes over the parts that a request gives.
func (set *storedLimits) apply(req *control.ScheduleRequest) {
	s := &set.Schedule
	if r := req.Start; r != nil {
		s.Start = schedule.Start{At: local(r.At), Every: schedule.Every{Days: r.EveryDays, Time: seconds(r.EverySeconds)},
			Percent: r.QueuePercent, Bytes: r.QueueBytes}
	}
	if r := req.Stop; r != nil {
		s.Stop = schedule.Stop{After: seconds(r.AfterSeconds), Bytes: r.Bytes, At: local(r.At)}
	}
	if r := req.Window; r != nil {
		s.Window = schedule.Window{Set: true, Open: r.Open, Close: r.Close}
	}
	if req.Enable != nil {
		s.Disabled = !*req.Enable
	}
}

// local is a moment by this machine's clock, which knows when summer begins; zero stays zero.
func local(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.In(time.Local)
}

// seconds are so many, or what Check refuses if they are too many.
func seconds(n int64) time.Duration {
	const most = int64(1) << 32
	return time.Duration(max(min(n, most), -most)) * time.Second
}

// clear drops a part.
func (set *storedLimits) clear(part string) error {
	switch part {
	case "start":
		set.Schedule.Start = schedule.Start{}
	case "end":
		set.Schedule.Stop = schedule.Stop{}
	case "window":
		set.Schedule.Window = schedule.Window{}
	case "bandwidth":
		set.Bytes, set.Period = 0, 0
	default:
		return control.Errorf(control.BadRequest, "start, end, window or bandwidth", "no part of a schedule is called %.50q", part)
	}
	return nil
}

// setLimit limits the bandwidth to a target.
func (n *Node) setLimit(ctx context.Context, req control.LimitRequest) (any, error) {
	period := time.Duration(req.PeriodMS) * time.Millisecond
	if req.Bytes < 0 || req.Bytes > 0 && (period < 10*time.Millisecond || req.PeriodMS > maxPeriod.Milliseconds()) {
		return nil, control.Errorf(control.BadRequest, "0 or more bytes in 10 ms to a day", "limit of %d bytes in %d ms", req.Bytes, req.PeriodMS)
	}
	if req.Bytes == 0 {
		period = 0
	}
	l, err := n.target(ctx, req.Target)
	if err != nil {
		return nil, err
	}
	err = l.change(func(set *storedLimits) error {
		set.Bytes, set.Period = req.Bytes, period
		return nil
	})
	if err != nil {
		return nil, err
	}
	n.events.Raise(event.LimitChanged, event.About{Target: l.target}, l.target, req.Bytes, period)
	return l.shown(), nil
}

// getSchedule shows the limits of a target.
func (n *Node) getSchedule(ctx context.Context, req control.TargetRequest) (any, error) {
	l, err := n.target(ctx, req.Target)
	if err != nil {
		return nil, err
	}
	return l.shown(), nil
}

// shown are the limits as operators see them.
func (l *limits) shown() control.Schedule {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.set.Schedule
	out := control.Schedule{Target: l.target, Enabled: !s.Disabled, Open: l.session.Open, Reason: l.session.Reason.String(),
		LimitBytes: l.set.Bytes, PeriodMS: l.set.Period.Milliseconds(), SentBytes: l.valve.Passed()}
	if (s.Start != schedule.Start{}) {
		out.Start = &control.ScheduleStart{At: s.Start.At, EveryDays: s.Start.Every.Days, EverySeconds: int64(s.Start.Every.Time / time.Second),
			QueuePercent: s.Start.Percent, QueueBytes: s.Start.Bytes}
	}
	if (s.Stop != schedule.Stop{}) {
		out.Stop = &control.ScheduleStop{AfterSeconds: int64(s.Stop.After / time.Second), Bytes: s.Stop.Bytes, At: s.Stop.At}
	}
	if s.Window.Set {
		out.Window = &control.ScheduleWindow{Open: s.Window.Open, Close: s.Window.Close}
	}
	if s.Silent() {
		out.Warning = "a window alone starts nothing: give a start criterion as well"
	}
	return out
}
