package tui

import (
	"context"
	"errors"
	"time"

	"understudy/dtclsh/console"
	"understudy/dtclsh/interp"
	"understudy/dtclsh/syntax"
)

// job is what the goroutine of the interpreter does for the screen.
type job struct {
	script   syntax.Script
	typed    string // what script was made of
	err      error  // why it could not be
	complete bool   // complete line, at pos
	line     string
	pos      int
}

// work runs jobs, one at a time: the interpreter is for one goroutine.
func (c *Client) work(ctx context.Context, in *interp.Interp) {
	completer := console.NewCompleter(in)
	log := clientLog{file: c.cfg.LogFile}
	c.locate(ctx, in)
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-c.jobs:
			switch {
			case j.complete:
				c.running(ctx, nil)
				head, list, tail := completer.Complete(j.line, j.pos)
				c.program.Send(completedMsg{j.line, head, list, tail})
				continue
			case in.ClientLog():
				if err := log.keep(time.Now(), j.typed); err != nil {
					c.program.Send(textMsg{troubleLine, []string{err.Error()}})
				}
			}
			if j.err != nil {
				in.SyntaxError(j.err)
				c.running(ctx, nil)
			} else if c.run(ctx, in, j.script) {
				c.leave()
				return
			}
			c.locate(ctx, in)
			c.program.Send(doneMsg{})
		}
	}
}

// run runs a script; Interrupt ends it alone. It reports whether the session is over.
func (c *Client) run(ctx context.Context, in *interp.Interp, s syntax.Script) (over bool) {
	jobCtx, cancel := context.WithCancel(ctx)
	c.running(jobCtx, cancel)
	defer c.running(ctx, nil)
	defer cancel()
	err := in.Run(jobCtx, s)
	if jobCtx.Err() != nil && ctx.Err() == nil {
		c.program.Send(textMsg{troubleLine, []string{"  Interrupted; connections keep running"}})
	}
	return errors.Is(err, interp.ErrExit)
}

// running notes the job that Interrupt ends.
func (c *Client) running(ctx context.Context, cancel context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx, c.cancel = ctx, cancel
	if c.hasty && cancel != nil {
		cancel()
	}
	c.hasty = false
}

// interrupt ends the running job, or the one about to run.
func (c *Client) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	} else {
		c.hasty = true
	}
}

// submit hands a job to the worker, which the model knows to be idle.
func (c *Client) submit(j job) bool {
	select {
	case c.jobs <- j:
		return true
	default:
		return false
	}
}

// locate tells the followers which machine is the source now.
func (c *Client) locate(ctx context.Context, in *interp.Interp) {
	address, name := in.Source(ctx)
	now := place{address, name}
	if before := c.place.Load(); before != nil && *before == now {
		return
	}
	c.place.Store(&now)
	for _, ch := range c.moved {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
