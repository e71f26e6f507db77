package applier

import (
	"bytes"
	"fmt"

	"understudy/fileop"
)

// opTask has a task command run at its place: everything before it is applied, times
// included, nothing after it. Requests are answered meanwhile. If the run ends first, the
// operation counts as not applied: its turn comes again.
func (a *Applier) opTask(op *fileop.Op) error {
	if a.cfg.OnTask == nil {
		return nil
	}
	if err := a.settle(); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	a.show()
	own := *op
	own.Data = bytes.Clone(op.Data)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.cfg.OnTask(a.ctx, &own)
	}()
	for {
		select {
		case <-done:
			return a.ctx.Err()
		case f := <-a.ctl:
			f()
		}
	}
}
