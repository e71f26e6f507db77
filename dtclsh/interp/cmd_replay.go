package interp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Marks, histories and replays. A target keeps them, so they are asked for there, also
// when the source is gone.

// replayRound is how long one request for the state of a replay waits.
const replayRound = 500 * time.Millisecond

func (in *Interp) mark(ctx context.Context, c *syntax.Call) (answer, error) {
	label, _, err := in.arg(c, "label")
	if err != nil {
		return answer{}, err
	}
	var marks []control.Mark
	out, err := in.each(ctx, c, func(con control.Connection) error {
		var m control.Mark
		err := in.ask(ctx, "mark", control.MarkRequest{ID: con.ID, Label: label}, &m)
		marks = append(marks, m)
		return err
	})
	if err != nil {
		return out, err
	}
	out.json = marks
	for _, m := range marks {
		out.value = number(int64(m.Op))
		out.lines = append(out.lines, fmt.Sprintf("Mark %q is operation %d, %s", m.Label, m.Op, moment(m.Time)))
	}
	return out, nil
}

// moment writes a time as REPLAY takes it.
func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05.000") }

// keptAt finds the target of a history, its source and its set: the argument is a number
// of a connection of the current source, or the name of a set; then the target is the one
// named, or the current one.
func (in *Interp) keptAt(ctx context.Context, c *syntax.Call) (m Client, source, set string, err error) {
	s, given, err1 := in.arg(c, "con")
	from, named, err2 := in.arg(c, "from")
	if err := errors.Join(err1, err2); err != nil {
		return nil, "", "", err
	}
	if _, isNumber := plain(s).Int(); given && isNumber && !named {
		home, err := in.current(ctx)
		if err != nil {
			return nil, "", "", err
		}
		list, err := in.cons(ctx, c)
		if e := new(Error); errors.As(err, &e) && e.Code == syntax.NoCon {
			if only := in.onlyHistory(ctx, home); only != nil {
				return home, only.Source, only.Set, nil
			}
		}
		if err != nil {
			return nil, "", "", err
		}
		m, _, err = in.machine(ctx, list[0].Target)
		return m, home.Node(), list[0].Set, err
	}
	if named {
		m, _, err = in.machine(ctx, from)
	} else {
		m, err = in.onTarget(ctx)
	}
	return m, "", s, err
}

// onlyHistory is the one that a machine keeps; nil if there is not just one. On a target
// the source's numbers mean nothing.
func (in *Interp) onlyHistory(ctx context.Context, m Client) *control.History {
	var list control.HistoryList
	if err := in.askOn(ctx, m, "history", control.HistoryRequest{}, &list); err != nil || len(list.Histories) != 1 {
		return nil
	}
	return &list.Histories[0]
}

func (in *Interp) history(ctx context.Context, c *syntax.Call) (answer, error) {
	m, source, set, err := in.keptAt(ctx, c)
	if err != nil {
		return answer{}, err
	}
	req := control.HistoryRequest{Source: source, Set: set}
	if c.Cmd.Name == "HISTORY CLEAR" {
		if source, err = in.sourceOf(ctx, m, source, set); err != nil {
			return answer{}, err
		}
		req.Source = source
		return ok(), in.askOn(ctx, m, "history.clear", req, nil)
	}
	var list control.HistoryList
	if err := in.askOn(ctx, m, "history", req, &list); err != nil {
		return answer{}, err
	}
	out := answer{value: number(int64(len(list.Histories))), json: list.Histories}
	for _, h := range list.Histories {
		out.lines = append(out.lines, historyLines(m.Node(), &h)...)
	}
	return out, nil
}

// sourceOf is the source of the only history of a set.
func (in *Interp) sourceOf(ctx context.Context, m Client, source, set string) (string, error) {
	var list control.HistoryList
	if source != "" {
		return source, nil
	}
	if err := in.askOn(ctx, m, "history", control.HistoryRequest{Set: set}, &list); err != nil {
		return "", err
	}
	if len(list.Histories) != 1 {
		return "", fail(syntax.BadParameter, "give the number of the connection", "%s keeps %d histories of set %q", m.Node(), len(list.Histories), set)
	}
	return list.Histories[0].Source, nil
}

func historyLines(node string, h *control.History) []string {
	state := "kept"
	if !h.Active {
		state = "not growing"
	}
	lines := []string{fmt.Sprintf("- History of %s from %s on %s -", h.Set, h.Source, node),
		fmt.Sprintf("Keeps %s; %s; %d bytes of log, %d bases, in %s", h.Keep, state, h.Bytes, h.Bases, h.Dir)}
	if h.Error != "" {
		lines = append(lines, "Trouble: "+h.Error)
	}
	rows := [][]string{{"From", "To", "Operations", "Epoch"}}
	for _, s := range h.Spans {
		rows = append(rows, []string{moment(s.FromTime), moment(s.ToTime), fmt.Sprintf("%d to %d", s.From, s.To), s.Epoch})
	}
	lines = append(lines, table(rows)...)
	if len(h.Marks) == 0 {
		return lines
	}
	rows = [][]string{{"Mark", "When", "Operation", "Epoch"}}
	for _, m := range h.Marks {
		rows = append(rows, []string{m.Label, moment(m.Time), fmt.Sprint(m.Op), m.Epoch})
	}
	return append(lines, table(rows)...)
}

func (in *Interp) replay(ctx context.Context, c *syntax.Call) (answer, error) {
	m, source, set, err := in.keptAt(ctx, c)
	if err != nil {
		return answer{}, err
	}
	req := control.ReplayRequest{Action: "start", Source: source, Set: set, Overwrite: c.Has("OVERWRITE")}
	var err1, err2, err3 error
	req.To, _, err1 = in.arg(c, "path")
	req.Label, _, err2 = in.arg(c, "label")
	req.Epoch, _, err3 = in.arg(c, "epoch")
	if err := errors.Join(err1, err2, err3); err != nil {
		return answer{}, err
	}
	op, err := in.optional(c, "op")
	if err != nil {
		return answer{}, err
	}
	if _, given := c.Arg("op"); given && op < 1 {
		return answer{}, fail(syntax.BadParameter, "", "operation %d: 1 or more", op)
	}
	req.Op = uint64(op)
	if req.At, err = in.past(c); err != nil {
		return answer{}, err
	}
	var rep control.Replay
	if err := in.askOn(ctx, m, "replay", req, &rep); err != nil {
		return answer{}, err
	}
	return in.rebuilt(ctx, m, rep)
}

// past is the date and time given to AT, in seconds and parts of them, of this machine's
// time zone; zero if there is none.
func (in *Interp) past(c *syntax.Call) (time.Time, error) {
	ds, given, err1 := in.arg(c, "at_date")
	ts, _, err2 := in.arg(c, "at_time")
	if err := errors.Join(err1, err2); err != nil || !given {
		return time.Time{}, err
	}
	for _, date := range []string{"2006-01-02", "1/2/06", "1/2/2006"} {
		for _, clock := range []string{"15:04:05", "15:04"} {
			if t, err := time.ParseInLocation(date+" "+clock, ds+" "+ts, time.Local); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fail(syntax.BadTime, `as in: at 2026-03-31 "22:00:05"`, "%q %q is no date and time", ds, ts)
}

// rebuilt waits for the end of a replay. Interrupted, the replay goes on.
func (in *Interp) rebuilt(ctx context.Context, m Client, rep control.Replay) (answer, error) {
	defer in.progress("")
	for rep.State == "copying" || rep.State == "applying" {
		req := control.ReplayRequest{Action: "status", ID: rep.ID, WaitMS: replayRound.Milliseconds()}
		if err := in.askOn(ctx, m, "replay", req, &rep); err != nil {
			return answer{}, err
		}
		in.progress(replayText(&rep))
	}
	out := answer{value: number(int64(rep.Op)), json: rep, lines: []string{replayText(&rep)}}
	if rep.State != "done" {
		return out, fail(syntax.Failed, "correct what is named and replay again", "replay %d %s: %s", rep.ID, rep.State, rep.Error)
	}
	return out, nil
}

func replayText(r *control.Replay) string {
	when := ""
	if !r.Time.IsZero() {
		when = ", " + moment(r.Time)
	}
	text := fmt.Sprintf("Replay %d of %s from %s to %s: %s, operation %d%s", r.ID, r.Set, r.Source, r.To, r.State, r.Op, when)
	switch r.State {
	case "copying":
		text += fmt.Sprintf("; %d objects, %d bytes copied", r.Objects, r.Copied)
	case "applying":
		text += fmt.Sprintf("; operation %d applied", r.Applied)
	case "done":
		text += fmt.Sprintf("; %.1f s", r.Seconds)
	default:
		text += "; " + r.Error
	}
	return text
}

func (in *Interp) replayStatus(ctx context.Context, c *syntax.Call) (answer, error) {
	m, _, _, err := in.keptAt(ctx, c)
	if err != nil {
		return answer{}, err
	}
	var list control.ReplayList
	if err := in.askOn(ctx, m, "replay", control.ReplayRequest{Action: "status"}, &list); err != nil {
		return answer{}, err
	}
	out := answer{value: number(int64(len(list.Replays))), json: list.Replays}
	for _, r := range list.Replays {
		out.lines = append(out.lines, replayText(&r))
	}
	return out, nil
}

func (in *Interp) replayStop(ctx context.Context, c *syntax.Call) (answer, error) {
	m, _, _, err := in.keptAt(ctx, c)
	if err != nil {
		return answer{}, err
	}
	id, err := in.integer(c, "replay")
	if err != nil {
		return answer{}, err
	}
	var rep control.Replay
	err = in.askOn(ctx, m, "replay", control.ReplayRequest{Action: "stop", ID: int(id)}, &rep)
	return answer{value: number(1), json: rep, lines: []string{replayText(&rep)}}, err
}
