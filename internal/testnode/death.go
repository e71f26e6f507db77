package testnode

import "time"

// AwaitEnd waits until the daemon has ended by itself, at most limit, and reports
// whether it has.
func (d *Daemon) AwaitEnd(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case _, ok := <-d.lines:
			if !ok {
				d.lines = nil // its process is being waited for
			}
		case err := <-d.ended:
			d.ended <- err // for cleanup
			return true
		case <-timer.C:
			return false
		}
	}
}
