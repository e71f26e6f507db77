package interp

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
	"understudy/event"
)

// LOGVIEWER: the events of the current source, or of a journal in a file.

const (
	// logWait is how long the machine may keep a question for what happens next.
	logWait = 20 * time.Second
	// logPause is between two questions where the machine does not wait.
	logPause = time.Second
)

// logFilter says which events are shown.
type logFilter struct{ only, without map[int]bool }

func (f *logFilter) shows(e *control.Event) bool {
	return (len(f.only) == 0 || f.only[e.ID]) && !f.without[e.ID]
}

// logFilter reads -e 4007,4009 and -n: numbers behind a comma belong to the option before.
func (in *Interp) logFilter(c *syntax.Call) (logFilter, error) {
	f := logFilter{map[int]bool{}, map[int]bool{}}
	var list map[int]bool
	for _, it := range c.Items {
		switch it.Name {
		case "only":
			list = f.only
		case "without":
			list = f.without
		case "more":
		default:
			continue
		}
		word, err := in.textOf(it.Value)
		if err != nil {
			return f, err
		}
		id, err := strconv.Atoi(word)
		if err != nil || list == nil {
			return f, fail(syntax.BadParameter, "-e or -n, and numbers of events divided by commas", "%q is no number of an event", word)
		}
		list[id] = true
	}
	return f, nil
}

func (in *Interp) logviewer(ctx context.Context, c *syntax.Call) (answer, error) {
	f, err := in.logFilter(c)
	if err != nil {
		return answer{}, err
	}
	next := in.eventsOfMachine()
	file, given, err := in.arg(c, "file")
	if err == nil && given {
		next, err = in.eventsOfFile(file)
	}
	if err != nil {
		return answer{}, err
	}
	rows, err := next(ctx, 0)
	if err != nil {
		return answer{}, err
	}
	a := in.events(rows, f)
	if !c.Has("-c") && (given || !c.Has("-f")) {
		return a, nil
	}
	return in.followEvents(ctx, a, f, next)
}

// eventSource gives what came since its last call; where it can, it waits for something.
type eventSource func(ctx context.Context, wait time.Duration) ([]control.Event, error)

// followEvents shows what happens until ctx ends.
func (in *Interp) followEvents(ctx context.Context, a answer, f logFilter, next eventSource) (answer, error) {
	total := int64(0)
	for {
		in.print(a)
		n, _ := a.value.Int()
		total += n
		began := time.Now()
		rows, err := next(ctx, logWait)
		if err != nil {
			return answer{value: number(total)}, err
		}
		a = in.events(rows, f)
		if len(rows) > 0 || time.Since(began) >= logPause {
			continue
		}
		select {
		case <-ctx.Done():
			return answer{value: number(total)}, context.Cause(ctx)
		case <-time.After(logPause):
		}
	}
}

// eventsOfMachine asks the current source: for the newest first, then for what follows.
func (in *Interp) eventsOfMachine() eventSource {
	req := control.EventsRequest{}
	return func(ctx context.Context, wait time.Duration) ([]control.Event, error) {
		req.WaitMS = wait.Milliseconds()
		reply := control.Events{Last: req.Since}
		if err := in.ask(ctx, "events", req, &reply); err != nil {
			return nil, err
		}
		req.Since = max(reply.Last, 1)
		if k := len(reply.Events); k > 0 {
			req.Since = reply.Events[k-1].Seq
		}
		return reply.Events, nil
	}
}

// eventsOfFile reads the journal of any machine, in a file or directory of this one.
func (in *Interp) eventsOfFile(path string) (eventSource, error) {
	const hint = "a file events-1.log, events-2.log ... below DATA/events of a machine, or that directory, or copies of them"
	files, err := event.OpenFiles(path)
	if err != nil {
		return nil, fail(syntax.BadParameter, hint, "%v", err)
	}
	return func(context.Context, time.Duration) ([]control.Event, error) {
		rows, damaged, err := files.Next()
		if err != nil {
			return nil, fail(syntax.BadParameter, hint, "%v", err)
		}
		if damaged > 0 {
			in.warn(fmt.Sprintf("%d rows of %s are damaged and left out", damaged, path))
		}
		out := make([]control.Event, len(rows))
		for i, e := range rows {
			out[i] = control.Event{Seq: e.Seq, Time: e.Time, ID: int(e.ID), Category: e.Category, Severity: string(e.Severity), Text: e.Text,
				Set: e.About.Set, Source: e.About.Source, Target: e.About.Target, Connection: e.About.Connection, Repeated: e.Repeated}
		}
		return out, nil
	}, nil
}

// events shows rows, oldest first.
func (in *Interp) events(rows []control.Event, f logFilter) answer {
	shown := []control.Event{}
	a := answer{}
	for i := range rows {
		e := &rows[i]
		if !f.shows(e) {
			continue
		}
		shown = append(shown, *e)
		line := fmt.Sprintf("%s  %-7s  %d  %s", e.Time.Local().Format("01/02/2006 15:04:05.000"), e.Severity, e.ID, e.Text)
		if e.Repeated > 0 {
			line += fmt.Sprintf(" (repeated %d times)", e.Repeated)
		}
		a.lines = append(a.lines, in.paint(alertColour[e.Severity], line))
	}
	a.value, a.json = number(int64(len(shown))), shown
	return a
}

// shutdown stops the daemon of a machine.
func (in *Interp) shutdown(ctx context.Context, c *syntax.Call) (answer, error) {
	name, given, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	m, err := in.current(ctx)
	if given {
		m, _, err = in.machine(ctx, name)
	}
	if err == nil {
		err = in.askOn(ctx, m, "shutdown", struct{}{}, nil)
	}
	if err != nil {
		return answer{}, err
	}
	return said("%s stops", m.Node()), nil
}
