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

// Waiting. Whatever ends a wait, the work waited for goes on.

const (
	// settleRound bounds one request, so that a node waits little longer for a shell
	// that went away.
	settleRound = 5 * time.Second
	// lookEvery is how often a wait looks how far it is, for the progress line.
	lookEvery = 250 * time.Millisecond
)

// settled waits until what connection id captured before is applied on its target.
func (in *Interp) settled(ctx context.Context, id int) error {
	c, err := in.current(ctx)
	if err != nil {
		return err
	}
	defer in.progress("")
	for {
		done := make(chan error, 1)
		go func() {
			done <- c.Call(ctx, "settle", control.SettleRequest{ID: id, TimeoutMS: settleRound.Milliseconds()}, nil)
		}()
		err := in.watch(ctx, id, done)
		var ce *control.Error
		if !errors.As(err, &ce) || ce.Code != control.NotReady || ctx.Err() != nil {
			return err
		}
	}
}

// watch shows how far connection id is until done says something.
func (in *Interp) watch(ctx context.Context, id int, done <-chan error) error {
	if in.cfg.Progress == nil {
		return <-done
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		st, err := in.nodeStatus(ctx)
		if err != nil {
			return <-done
		}
		for _, con := range st.Connections {
			if con.ID == id {
				in.progress(progressLine(con))
			}
		}
	}
}

func (in *Interp) progress(line string) {
	if in.cfg.Progress != nil {
		in.cfg.Progress(line)
	}
}

// progressLine draws a bar where the size is known.
func progressLine(c control.Connection) string {
	bar := ""
	if c.MirrorPercent >= 0 {
		const width = 24
		full := min(width, int(c.MirrorPercent*width/100))
		bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "] "
	}
	line := fmt.Sprintf("%s%s, %d files, %d bytes; %d operations in queue; target %s", bar, mirrorText(c), c.MirrorFiles, c.MirrorBytes, c.QueuedOps, c.TargetState)
	if c.LastError != "" {
		line += "; " + c.LastError
	}
	return line
}

func (in *Interp) settle(ctx context.Context, c *syntax.Call) (answer, error) {
	return in.each(ctx, c, func(con control.Connection) error { return in.settled(ctx, con.ID) })
}

// waitOnMirror waits until the mirror's last byte is on the target. A mirror that was
// stopped, or left something out, is an error.
func (in *Interp) waitOnMirror(ctx context.Context, c *syntax.Call) (answer, error) {
	return in.each(ctx, c, func(con control.Connection) error {
		if err := in.settled(ctx, con.ID); err != nil {
			return err
		}
		st, err := in.nodeStatus(ctx)
		if err != nil {
			return err
		}
		for _, now := range st.Connections {
			switch {
			case now.ID != con.ID:
			case now.Mirror == "Incomplete":
				return fail(syntax.Failed, "make it readable, then: mirror start "+fmt.Sprint(now.ID), "the mirror of connection %d is incomplete: %s", now.ID, now.LastError)
			case strings.HasPrefix(now.Mirror, "Remirror"):
				return fail(syntax.NoMirror, "mirror start "+fmt.Sprint(now.ID), "the mirror of connection %d was stopped", now.ID)
			}
		}
		return nil
	})
}

// units of durations; a bare number counts in the local setting WaitUnit.
var units = map[string]time.Duration{"MILLISECONDS": time.Millisecond, "SECONDS": time.Second, "MINUTES": time.Minute, "HOURS": time.Hour, "DAYS": 24 * time.Hour}

func (in *Interp) wait(ctx context.Context, c *syntax.Call) (answer, error) {
	n, err := in.integer(c, "duration")
	if err != nil {
		return answer{}, err
	}
	unit, named := units[c.After("duration")]
	if !named {
		unit = time.Duration(in.local["waitunit"].n) * time.Millisecond
	}
	const longest = 366 * 24 * time.Hour
	if n < 0 || n > int64(longest/unit) {
		return answer{}, fail(syntax.BadParameter, "", "waiting %d times %v: at least 0, at most a year", n, unit)
	}
	t := time.NewTimer(time.Duration(n) * unit)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	case <-t.C:
		return ok(), nil
	}
}
