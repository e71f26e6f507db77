package interp

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// LOGVIEWER: the events of the current source.

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
	if _, given, _ := in.arg(c, "file"); given {
		return answer{}, notYet("LOGVIEWER -f", "leave -f out: the events come from the current source")
	}
	f, err := in.logFilter(c)
	if err != nil {
		return answer{}, err
	}
	var reply control.Events
	req := control.EventsRequest{}
	if err := in.ask(ctx, "events", req, &reply); err != nil {
		return answer{}, err
	}
	a := in.events(&reply, f)
	if !c.Has("-c") {
		return a, nil
	}
	total := int64(0)
	for {
		in.print(a)
		n, _ := a.value.Int()
		total += n
		req = control.EventsRequest{Since: max(reply.Last, 1), WaitMS: logWait.Milliseconds()}
		if k := len(reply.Events); k > 0 {
			req.Since = reply.Events[k-1].Seq
		}
		began := time.Now()
		reply = control.Events{Last: req.Since}
		if err := in.ask(ctx, "events", req, &reply); err != nil {
			return answer{value: number(total)}, err
		}
		a = in.events(&reply, f)
		if len(reply.Events) == 0 && time.Since(began) < logPause {
			select {
			case <-ctx.Done():
				return answer{value: number(total)}, context.Cause(ctx)
			case <-time.After(logPause):
			}
		}
	}
}

// events shows rows, oldest first.
func (in *Interp) events(reply *control.Events, f logFilter) answer {
	shown := []control.Event{}
	a := answer{}
	for i := range reply.Events {
		e := &reply.Events[i]
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
