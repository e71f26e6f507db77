package interp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Verification and orphans. The commands wait for the end; interrupted, the work goes on.

// verifyRound is how long one request for a report waits, so that the progress shows.
const verifyRound = 500 * time.Millisecond

// verifyRequest reads what a verification does.
func verifyRequest(c *syntax.Call) (control.VerifyRequest, error) {
	req := control.VerifyRequest{Action: "start", Checksum: c.Has("CHECKSUM"), Sync: c.Has("SYNC") || c.Has("REMIRROR"), Newer: c.Has("NEWER"), Orphans: c.Has("ORPHANS")}
	if req.Newer && !req.Sync {
		return req, fail(syntax.BadParameter, "add SYNC", "NEWER says what a mirror sends, and none is asked for")
	}
	if c.Has("LOG") && (req.Sync || req.Orphans) {
		return req, fail(syntax.BadParameter, "keep one of them", "LOG only reports: it excludes SYNC and ORPHANS")
	}
	return req, nil
}

func (in *Interp) verify(ctx context.Context, c *syntax.Call) (answer, error) {
	req, err := verifyRequest(c)
	if err != nil {
		return answer{}, err
	}
	return in.verifications(ctx, c, "verify", func(id int) any {
		r := req
		r.ID = id
		return r
	}, func(id int) any {
		return control.VerifyRequest{ID: id, Action: "status", WaitMS: verifyRound.Milliseconds()}
	})
}

func (in *Interp) orphans(ctx context.Context, c *syntax.Call) (answer, error) {
	req := control.OrphansRequest{Action: "start", Report: c.Has("REPORT")}
	if c.Has("OLDER") {
		n, err := in.integer(c, "older")
		if err != nil {
			return answer{}, err
		}
		unit, named := units[c.After("older")]
		if !named {
			unit = time.Second
		}
		const longest = 100 * 366 * 24 * time.Hour
		if n < 0 || n > int64(longest/unit) {
			return answer{}, fail(syntax.BadParameter, "", "older than %d times %v: at least 0, at most a century", n, unit)
		}
		req.MinAgeMS = (time.Duration(n) * unit).Milliseconds()
	}
	return in.verifications(ctx, c, "orphans", func(id int) any {
		r := req
		r.ID = id
		return r
	}, func(id int) any {
		return control.OrphansRequest{ID: id, Action: "status", WaitMS: verifyRound.Milliseconds()}
	})
}

// orphansStop ends a search for orphans, or a verification.
func (in *Interp) orphansStop(ctx context.Context, c *syntax.Call) (answer, error) {
	return in.each(ctx, c, func(con control.Connection) error {
		return in.ask(ctx, "orphans", control.OrphansRequest{ID: con.ID, Action: "stop"}, nil)
	})
}

// verifications runs a verb on every connection named, one after another, and tells what
// was found. It returns 1 if all were equal and -1 if not; of orphans, how many there were.
func (in *Interp) verifications(ctx context.Context, c *syntax.Call, verb string, start, look func(id int) any) (answer, error) {
	list, err := in.cons(ctx, c)
	if err != nil {
		return answer{}, err
	}
	out := answer{value: number(1)}
	var reports []control.VerifyReport
	orphans := int64(0)
	for _, con := range list {
		var rep control.VerifyReport
		if err := in.ask(ctx, verb, start(con.ID), &rep); err != nil {
			return answer{}, err
		}
		if rep, err = in.verified(ctx, verb, look(con.ID)); err != nil {
			return answer{}, err
		}
		reports = append(reports, rep)
		out.lines = append(out.lines, verifyLines(con, &rep)...)
		orphans += int64(rep.Totals.Orphans)
		if !rep.Equal {
			out.value = number(-1)
		}
	}
	if verb == "orphans" {
		out.value = number(orphans)
	}
	out.json = reports
	return out, nil
}

// verified waits for the end of a verification.
func (in *Interp) verified(ctx context.Context, verb string, look any) (rep control.VerifyReport, err error) {
	defer in.progress("")
	for {
		if err := in.ask(ctx, verb, look, &rep); err != nil {
			return rep, err
		}
		switch rep.State {
		case "done":
			return rep, nil
		case "running":
			t := rep.Totals
			in.progress(fmt.Sprintf("verifying: %d directories, %d files, %d bytes read, %d differences; %s", t.Dirs, t.Files, t.Read, t.Different, rep.Current))
		case "stopped":
			return rep, fail(syntax.Failed, "", "the verification of connection %d was stopped", rep.ID)
		default:
			return rep, fail(syntax.Failed, "correct what is named and start it again", "the verification of connection %d ended: %s", rep.ID, rep.Error)
		}
	}
}

// verifyLines tell people what was found.
func verifyLines(con control.Connection, rep *control.VerifyReport) []string {
	var out []string
	for _, d := range rep.Differences {
		line := fmt.Sprintf("%-20s %12d bytes  %q", strings.Join(d.Kinds, ","), d.Bytes, d.Path)
		if d.Treated != "" {
			line += "  " + d.Treated
		}
		out = append(out, line)
	}
	t := rep.Totals
	if more := int(t.Different) - len(rep.Differences); more > 0 {
		out = append(out, fmt.Sprintf("and %d more, see the log", more))
	}
	result := "equal"
	switch {
	case rep.OrphansOnly:
		result = fmt.Sprintf("%d orphans, %d treated", t.Orphans, t.Treated)
	case !rep.Equal:
		result = fmt.Sprintf("%d differences", t.Different)
	}
	line := fmt.Sprintf("Connection %d, %s to %s: %s; %d files, %d directories, %d bytes", con.ID, con.Set, con.Target, result, t.Files, t.Dirs, t.Bytes)
	if t.Unsettled > 0 {
		line += fmt.Sprintf("; %d changed at every look", t.Unsettled)
	}
	if t.Errors > 0 {
		line += fmt.Sprintf("; %d unreadable", t.Errors)
	}
	out = append(out, line)
	if rep.Log != "" {
		out = append(out, "Log on the source: "+rep.Log)
	}
	if rep.Remirror {
		out = append(out, "A mirror of what differs was started")
	}
	return out
}
