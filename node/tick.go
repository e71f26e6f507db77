package node

import (
	"context"
	"time"
)

// atEach calls f again and again, the first time one interval from now, until ctx ends. A
// call that takes longer than an interval is followed by the next at once, and no more are
// made up for.
func atEach(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}
