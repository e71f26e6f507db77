package interp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// QUEUETASK and STATUS TASKS.

func (in *Interp) queueTask(ctx context.Context, c *syntax.Call) (answer, error) {
	req := control.TaskRequest{TimeoutMS: -1}
	var err error
	for name, into := range map[string]*string{"job": &req.Job, "target": &req.Target, "repset": &req.Set} {
		if *into, _, err = in.arg(c, name); err != nil {
			return answer{}, err
		}
	}
	for name, into := range map[string]**control.TaskProgram{"onqueue": &req.OnQueue, "ontransmit": &req.OnTransmit, "onreceive": &req.OnReceive, "onexecute": &req.OnExecute} {
		if *into, err = in.taskProgram(c, name); err != nil {
			return answer{}, err
		}
	}
	if _, given := c.Arg("timeout"); given {
		if req.TimeoutMS, err = in.taskTimeout(c); err != nil {
			return answer{}, err
		}
	}
	var reply control.TaskReply
	if err := in.ask(ctx, "task", req, &reply); err != nil {
		return answer{}, err
	}
	for _, note := range reply.Notes {
		in.warn(note)
	}
	a := said("Task %s stands in the queue of connection %d, as operation %d", req.Job, reply.ConID, reply.Op)
	a.json = reply
	return a, nil
}

// taskProgram is the program of a point; several arguments are one text, divided by blanks.
func (in *Interp) taskProgram(c *syntax.Call, point string) (*control.TaskProgram, error) {
	path, given, err := in.arg(c, point)
	if err != nil || !given {
		return nil, err
	}
	args, _, err := in.arg(c, point+"_args")
	return &control.TaskProgram{Path: path, Args: strings.Fields(args)}, err
}

// taskTimeout is in milliseconds; a bare number counts in seconds (B8.33).
func (in *Interp) taskTimeout(c *syntax.Call) (int64, error) {
	n, err := in.integer(c, "timeout")
	if err != nil {
		return 0, err
	}
	unit, named := units[c.After("timeout")]
	if !named {
		unit = time.Second
	}
	const longest = 366 * 24 * time.Hour
	if n < 0 || n > int64(longest/unit) {
		return 0, fail(syntax.BadParameter, "FOREVER waits however long it takes", "timeout of %d times %v: at least 0, at most a year", n, unit)
	}
	return (time.Duration(n) * unit).Milliseconds(), nil
}

// statusTasks is STATUS TASKS.
func (in *Interp) statusTasks(ctx context.Context) (answer, error) {
	var list control.TaskList
	if err := in.ask(ctx, "tasks", control.TasksRequest{Output: true}, &list); err != nil {
		return answer{}, err
	}
	rows := [][]string{{"Job", "From", "To", "Rep Set", "Queued", "State", "Point", "Program", "Ended"}}
	var printed []string
	for _, t := range list.Tasks {
		row := []string{t.Job, t.Source, t.Target, t.Set, t.Queued.Local().Format("01/02/2006 15:04:05"), t.State}
		if len(t.Points) == 0 {
			rows = append(rows, append(row, "", "", ""))
		}
		for _, p := range t.Points {
			end := p.State
			if p.Exit > 0 {
				end = fmt.Sprintf("%s, exit code %d", end, p.Exit)
			}
			rows = append(rows, append(row, p.Point, p.Path, end))
			for line := range strings.Lines(p.Output) {
				printed = append(printed, fmt.Sprintf("%s %s: %s", t.Job, p.Point, strings.TrimRight(line, "\n")))
			}
		}
	}
	lines := append([]string{"- Tasks -"}, table(rows)...)
	const most = 50 // lines; the file has all
	if over := len(printed) - most; over > 0 {
		printed = append([]string{fmt.Sprintf("(%d lines before)", over)}, printed[over:]...)
	}
	return answer{value: number(int64(len(list.Tasks))), json: list.Tasks, lines: append(lines, printed...)}, nil
}
