package interp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// When and how much the current source sends: SCHEDULE, LIMIT BANDWIDTH, TRANSMISSION,
// REPLICATION.

// schedule is every SCHEDULE command. START, END and WINDOW replace the part they name.
func (in *Interp) schedule(ctx context.Context, c *syntax.Call) (answer, error) {
	target, _, err := in.arg(c, "target")
	if err != nil {
		return answer{}, err
	}
	req := control.ScheduleRequest{Target: target}
	switch c.Cmd.Name {
	case "SCHEDULE START":
		req.Start, err = in.scheduleStart(c)
	case "SCHEDULE END":
		req.Stop, err = in.scheduleEnd(c)
	case "SCHEDULE WINDOW":
		req.Window, err = in.scheduleWindow(c)
	case "SCHEDULE CLEAR":
		for _, part := range []string{"START", "END", "WINDOW", "BANDWIDTH"} {
			if c.Has(part) {
				req.Clear = append(req.Clear, strings.ToLower(part))
			}
		}
		if req.Clear == nil {
			req.Clear = []string{"start", "end", "window", "bandwidth"}
		}
	default:
		enable := c.Cmd.Name == "SCHEDULE ENABLE"
		req.Enable = &enable
	}
	if err != nil {
		return answer{}, err
	}
	var reply control.Schedule
	if err := in.ask(ctx, "schedule.set", req, &reply); err != nil {
		return answer{}, err
	}
	if reply.Warning != "" {
		in.warn(reply.Warning)
	}
	return answer{value: number(1), json: reply}, nil
}

func (in *Interp) scheduleStart(c *syntax.Call) (*control.ScheduleStart, error) {
	out := new(control.ScheduleStart)
	var err error
	if out.At, err = in.moment(c, "start_date", "start_time"); err != nil {
		return nil, err
	}
	percent, err1 := in.optional(c, "memlimit")
	size, err2 := in.optional(c, "queuesize")
	every, err3 := in.optional(c, "every")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	out.QueuePercent, out.QueueBytes = int(min(percent, 101)), size // what is too much the node refuses
	if *out == (control.ScheduleStart{}) && every == 0 {
		return nil, fail(syntax.BadSchedule, "give STARTTIME, MEMLIMIT or QUEUESIZE", "no start criterion given")
	}
	if _, given := c.Arg("every"); !given {
		return out, nil
	}
	out.EveryDays, out.EverySeconds, err = interval(c, every)
	return out, err
}

// interval is what EVERY says with a number and its unit: so many days, or seconds.
func interval(c *syntax.Call, every int64) (days int, seconds int64, err error) {
	switch unit := c.After("every"); {
	case every < 1 || every > 1_000_000:
		return 0, 0, fail(syntax.BadParameter, "", "EVERY %d %s: from 1 to a million", every, unit)
	case unit == "DAYS":
		return int(every), 0, nil
	case unit == "WEEKS":
		return 7 * int(every), 0, nil
	default:
		return 0, every * int64(units[unit]/time.Second), nil
	}
}

func (in *Interp) scheduleEnd(c *syntax.Call) (*control.ScheduleStop, error) {
	out := new(control.ScheduleStop)
	var err error
	if out.At, err = in.moment(c, "end_date", "end_time"); err != nil {
		return nil, err
	}
	limit, err1 := in.optional(c, "timelimit")
	size, err2 := in.optional(c, "bytelimit")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if limit < 0 || limit > 1_000_000 {
		return nil, fail(syntax.BadParameter, "", "TIMELIMIT %d: from 0 to a million", limit)
	}
	unit := units[c.After("timelimit")]
	if c.After("timelimit") == "WEEKS" {
		unit = 7 * units["DAYS"]
	}
	out.AfterSeconds, out.Bytes = limit*int64(unit/time.Second), size
	if *out == (control.ScheduleStop{}) {
		return nil, fail(syntax.BadSchedule, "give TIMELIMIT, BYTELIMIT or ENDTIME, or: schedule TARGET clear end", "no end criterion given")
	}
	return out, nil
}

// scheduleWindow reads the hours; one that is left out is midnight.
func (in *Interp) scheduleWindow(c *syntax.Call) (*control.ScheduleWindow, error) {
	out := new(control.ScheduleWindow)
	given := false
	for name, to := range map[string]*int{"open": &out.Open, "close": &out.Close} {
		s, ok, err := in.arg(c, name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		d, err := syntax.ParseTime(s)
		if err != nil {
			return nil, fail(syntax.BadTime, "", "%v", err)
		}
		given = true
		*to = int(d / time.Minute)
	}
	if !given {
		return nil, fail(syntax.BadSchedule, "give OPENTIME and CLOSETIME, or: schedule TARGET clear window", "no hours given")
	}
	return out, nil
}

// moment is a date and a time of this machine's clock; zero if they were left out.
func (in *Interp) moment(c *syntax.Call, date, clock string) (time.Time, error) {
	ds, ok, err1 := in.arg(c, date)
	ts, _, err2 := in.arg(c, clock)
	if err := errors.Join(err1, err2); err != nil || !ok {
		return time.Time{}, err
	}
	d, err := syntax.ParseDate(ds)
	if err != nil {
		return d, fail(syntax.BadDate, "", "%v", err)
	}
	t, err := syntax.ParseTime(ts)
	if err != nil {
		return d, fail(syntax.BadTime, "", "%v", err)
	}
	m := int(t / time.Minute)
	return time.Date(d.Year(), d.Month(), d.Day(), m/60, m%60, 0, 0, time.Local), nil
}

// optional is an argument as a number; 0 if it was left out.
func (in *Interp) optional(c *syntax.Call, name string) (int64, error) {
	if _, ok := c.Arg(name); !ok {
		return 0, nil
	}
	return in.integer(c, name)
}

func (in *Interp) limitBandwidth(ctx context.Context, c *syntax.Call) (answer, error) {
	target, _, err1 := in.arg(c, "target")
	size, err2 := in.integer(c, "bytes")
	seconds, err3 := in.integer(c, "seconds")
	if err := errors.Join(err1, err2, err3); err != nil {
		return answer{}, err
	}
	if seconds < 1 || seconds > 86400 {
		return answer{}, fail(syntax.BadParameter, "", "a limit in %d seconds: from 1 to 86400", seconds)
	}
	var reply control.Schedule
	err := in.ask(ctx, "limit", control.LimitRequest{Target: target, Bytes: size, PeriodMS: seconds * 1000}, &reply)
	return answer{value: number(1), json: reply}, err
}

// statusSchedule is STATUS SCHEDULE: 1 if something may be sent now, else 0.
func (in *Interp) statusSchedule(ctx context.Context, c *syntax.Call) (answer, error) {
	target, _, err := in.arg(c, "target")
	if err != nil {
		return answer{}, err
	}
	var s control.Schedule
	if err := in.ask(ctx, "schedule", control.TargetRequest{Target: target}, &s); err != nil {
		return answer{}, err
	}
	open := int64(0)
	if s.Open {
		open = 1
	}
	return answer{value: number(open), json: s, lines: scheduleLines(s)}, nil
}

// scheduleLines shows a schedule; values stand in column 37.
func scheduleLines(s control.Schedule) []string {
	lines := []string{fmt.Sprintf("- Schedule to %s -", s.Target)}
	add := func(label, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-34s", label+":")+fmt.Sprintf(format, args...))
	}
	add("Enabled", "%s", yesNo(s.Enabled))
	add("Transmission allowed", "%s (%s)", yesNo(s.Open), s.Reason)
	if r := s.Start; r != nil {
		if !r.At.IsZero() {
			add("Start at", "%s", r.At.Local().Format("01/02/2006 15:04"))
		}
		if r.EveryDays > 0 {
			add("Start every", "%d days", r.EveryDays)
		}
		if r.EverySeconds > 0 {
			add("Start every", "%v", time.Duration(r.EverySeconds)*time.Second)
		}
		if r.QueuePercent > 0 {
			add("Start at queue usage", "%d %%", r.QueuePercent)
		}
		if r.QueueBytes > 0 {
			add("Start at bytes in queue", "%d", r.QueueBytes)
		}
	}
	if r := s.Stop; r != nil {
		if r.AfterSeconds > 0 {
			add("End after", "%v", time.Duration(r.AfterSeconds)*time.Second)
		}
		if r.Bytes > 0 {
			add("End after bytes", "%d", r.Bytes)
		}
		if !r.At.IsZero() {
			add("End at", "%s", r.At.Local().Format("01/02/2006 15:04"))
		}
	}
	if w := s.Window; w != nil {
		add("Window", "%02d:%02d to %02d:%02d", w.Open/60, w.Open%60, w.Close/60, w.Close%60)
	}
	if s.LimitBytes > 0 {
		add("Bandwidth", "%d bytes in %v", s.LimitBytes, time.Duration(s.PeriodMS)*time.Millisecond)
	}
	add("Bytes sent", "%d", s.SentBytes)
	return lines
}

func (in *Interp) transmission(ctx context.Context, c *syntax.Call) (answer, error) {
	action := strings.ToLower(strings.TrimPrefix(c.Cmd.Name, "TRANSMISSION "))
	return in.each(ctx, c, func(con control.Connection) error {
		if action == "resume" && con.Transmit != "Paused" {
			return fail(syntax.NotPaused, "", "transmission of connection %d is not paused", con.ID)
		}
		return in.ask(ctx, "transmission", control.TransmissionRequest{ID: con.ID, Action: action}, nil)
	})
}

func (in *Interp) replication(ctx context.Context, c *syntax.Call) (answer, error) {
	stop := c.Cmd.Name == "REPLICATION STOP"
	return in.each(ctx, c, func(con control.Connection) error {
		stopped := con.Replication == "Stopped"
		switch {
		case stop && stopped:
			return fail(syntax.NotReplicating, "", "replication of connection %d is stopped already", con.ID)
		case !stop && con.Replication == "Replicating":
			return fail(syntax.Replicating, "", "connection %d replicates already", con.ID)
		}
		return in.ask(ctx, "replication", control.ReplicationRequest{ID: con.ID, Stop: stop}, nil)
	})
}
