package node

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/fileop"
)

// Task commands (B8.26): programs that run at defined points of the replicated data. A
// task is an operation of the queue. Where its program runs, and what it waits for:
//
//	onqueue     source   the task is stored in the source's queue
//	ontransmit  source   onqueue is over; the task, in a frame of its own, is about to be sent
//	onreceive   target   the task is stored in the target's queue
//	onexecute   target   everything before it is applied, onreceive is over; nothing after it is
//
// The queue waits at that place until the program ends or its time is over.

// taskPlace is one machine's half of the tasks of a connection or replica.
type taskPlace struct {
	n      *Node
	about  event.About
	counts string // key of taskLog.count
	env    []string
	log    *slog.Logger
}

// runTask runs the program of a point, if there is one and this machine has not started
// it before, and waits for its end as long as the task says. It returns early when ctx
// ends, which ends the program.
func (pl *taskPlace) runTask(ctx context.Context, rec *taskRecord, def *fileop.TaskCommand, point fileop.TaskPoint) {
	run := def.Runs[point]
	if run.Path == "" {
		return
	}
	p := control.TaskPoint{Point: point.String(), Path: run.Path, Args: run.Args, Exit: -1, State: taskRunning}
	p.File = filepath.Join(pl.n.tasks.dir, rec.Task+"-"+p.Point+".log")
	if !pl.n.conf().TaskCommands {
		p.State, p.File, p.Ended = taskIgnored, "", time.Now()
	}
	first, running, err := pl.claim(ctx, rec, p)
	if err != nil {
		return
	}
	if !first {
		if running != nil && def.Limit != 0 {
			select {
			case <-running:
			case <-ctx.Done():
			}
		}
		return
	}
	switch {
	case p.State == taskIgnored:
		pl.count(p.State)
		pl.raise(event.TaskDisabled, run.Path, rec.Job)
	case def.Limit == 0:
		pl.runAside(rec, &p)
	default:
		if def.Limit == fileop.Forever {
			pl.raise(event.TaskUnlimited, run.Path, rec.Job)
		}
		pl.runNow(ctx, rec, &p, def.Limit)
	}
}

// claim is taskLog.claim; while nothing can be written down, nothing is started.
func (pl *taskPlace) claim(ctx context.Context, rec *taskRecord, p control.TaskPoint) (first bool, running chan struct{}, err error) {
	for said := false; ; {
		if first, running, err = pl.n.tasks.claim(rec, p); err == nil {
			return first, running, nil
		}
		if !said {
			pl.log.Error("task waits until it can be written down", "job", rec.Job, "err", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return false, nil, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// runAside runs a program that nobody waits for.
func (pl *taskPlace) runAside(rec *taskRecord, p *control.TaskPoint) {
	select {
	case pl.n.aside <- struct{}{}:
	default:
		p.State, p.Err, p.Ended = taskFailed, "too many programs that nobody waits for run already", time.Now()
		pl.over(rec, p)
		return
	}
	own := *p
	pl.n.wait.Go(func() {
		defer func() { <-pl.n.aside }()
		pl.runNow(pl.n.ctx, rec, &own, 0)
	})
}

func (pl *taskPlace) runNow(ctx context.Context, rec *taskRecord, p *control.TaskPoint, limit time.Duration) {
	pl.raise(event.TaskRuns, p.Point, p.Path, rec.Job)
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "HOME=/",
		taskIDEnv + "=" + rec.Task, "UNDERSTUDY_JOB=" + rec.Job, "UNDERSTUDY_POINT=" + p.Point, "UNDERSTUDY_SOURCE=" + rec.Source,
		"UNDERSTUDY_TARGET=" + rec.Target, "UNDERSTUDY_SET=" + rec.Set, "UNDERSTUDY_USER=" + rec.User}, pl.env...)
	runProgram(ctx, p, env, limit)
	pl.over(rec, p)
}

// over notes and tells how a program ended.
func (pl *taskPlace) over(rec *taskRecord, p *control.TaskPoint) {
	pl.n.tasks.ended(rec, *p)
	pl.count(p.State)
	switch {
	case p.State == taskSucceeded:
		pl.raise(event.TaskEnded, p.Path, p.Exit, rec.Job, p.Point)
	case p.State == taskTimedOut:
		pl.raise(event.TaskTimedOut, p.Ended.Sub(p.Started).Round(time.Second), p.Path, rec.Job)
	case p.Exit > 0 && p.Exit != 126 && p.Exit != 127:
		pl.raise(event.TaskFailed, p.Path, p.Exit, rec.Job, p.File)
	default:
		pl.raise(event.TaskNotRun, p.Path, rec.Job, p.Err)
	}
}

func (pl *taskPlace) raise(id event.ID, args ...any) { pl.n.events.Raise(id, pl.about, args...) }

func (pl *taskPlace) count(state string) {
	pl.n.tasks.count(pl.counts, func(c *taskCounts) {
		switch state {
		case taskSucceeded:
			c.Succeeded++
		case taskTimedOut:
			c.TimedOut++
		case taskIgnored:
			c.Ignored++
		default:
			c.Failed++
		}
	})
}

// tellInterrupted ends and tells of what ran when the daemon ended.
func (n *Node) tellInterrupted() {
	list, err := n.tasks.interrupted()
	if err != nil {
		n.log.Error("interrupted tasks not written down", "err", err)
	}
	for i := range list {
		r := &list[i]
		endLeftovers(r.Task)
		for _, p := range r.Points {
			if p.State == taskInterrupted && time.Since(p.Ended) < time.Minute {
				n.events.Raise(event.TaskNotRun, event.About{Set: r.Set, Source: r.Source, Target: r.Target}, p.Path, r.Job, p.Err)
			}
		}
	}
}

// listTasks is the verb.
func (n *Node) listTasks(_ context.Context, req control.TasksRequest) (any, error) {
	out := n.tasks.list(req.Job)
	if !req.Output {
		return out, nil
	}
	left := 512 << 10 // of a reply
	for i := len(out.Tasks) - 1; i >= 0; i-- {
		for j := range out.Tasks[i].Points {
			p := &out.Tasks[i].Points[j]
			raw, err := readSome(p.File, min(left, maxTaskOutput+100))
			if err != nil {
				continue // nothing was printed, or it is gone
			}
			p.Output = strings.ToValidUTF8(string(raw), "?")
			left -= len(raw)
		}
	}
	return out, nil
}
