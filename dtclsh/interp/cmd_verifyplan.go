package interp

import (
	"context"
	"fmt"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Verifications that begin by themselves.

// verifySchedule gives connections a schedule, or takes it away.
func (in *Interp) verifySchedule(ctx context.Context, c *syntax.Call) (answer, error) {
	req := control.VerifyRequest{Action: "schedule"}
	if c.Cmd.Name == "VERIFY SCHEDULE" {
		var err error
		if req, err = verifyRequest(c); err != nil {
			return answer{}, err
		}
		req.Action = "schedule"
		if req.Schedule, err = in.verifyTimes(c); err != nil {
			return answer{}, err
		}
	}
	return in.each(ctx, c, func(con control.Connection) error {
		r := req
		r.ID = con.ID
		return in.ask(ctx, "verify", r, nil)
	})
}

// verifyTimes reads a start and an interval; without a start it is this moment.
func (in *Interp) verifyTimes(c *syntax.Call) (*control.VerifySchedule, error) {
	out := new(control.VerifySchedule)
	var err error
	if out.At, err = in.moment(c, "start_date", "start_time"); err != nil {
		return nil, err
	}
	every, err := in.optional(c, "every")
	if err != nil {
		return nil, err
	}
	if _, repeated := c.Arg("every"); repeated {
		if out.EveryDays, out.EverySeconds, err = interval(c, every); err != nil {
			return nil, err
		}
	} else if out.At.IsZero() {
		return nil, fail(syntax.BadSchedule, "give STARTTIME, EVERY or both", "no time given")
	}
	if out.At.IsZero() {
		out.At = time.Now().Add(time.Second).Truncate(time.Second)
	}
	return out, nil
}

// verifyStatus tells of the present or last verification, and of the next one.
func (in *Interp) verifyStatus(ctx context.Context, c *syntax.Call) (answer, error) {
	out := ok()
	var reports []control.VerifyReport
	_, err := in.each(ctx, c, func(con control.Connection) error {
		var rep control.VerifyReport
		if err := in.ask(ctx, "verify", control.VerifyRequest{ID: con.ID, Action: "status"}, &rep); err != nil {
			return err
		}
		reports = append(reports, rep)
		if rep.State == "none" {
			out.lines = append(out.lines, fmt.Sprintf("Connection %d, %s to %s: not verified since the daemon started", con.ID, con.Set, con.Target))
		} else {
			out.lines = append(out.lines, fmt.Sprintf("Connection %d: begun %s, %s", con.ID, rep.Started.Format(time.DateTime), rep.State))
			out.lines = append(out.lines, verifyLines(con, &rep)...)
		}
		if rep.Schedule != nil {
			next := "over"
			if !rep.Next.IsZero() {
				next = rep.Next.Local().Format(time.DateTime)
			}
			out.lines = append(out.lines, fmt.Sprintf("Next by schedule: %s", next))
		}
		return nil
	})
	out.json = reports
	return out, err
}
