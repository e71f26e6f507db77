package stream

import "time"

// A frame is sealed at flushBytes or flushRecords, or when the pacer says so: at once
// while frames are few, else flushEvery after the one before. So an operation on a
// quiet connection waits for nothing, and a burst of small ones shares frames.
const (
	flushBytes   = 256 << 10
	flushRecords = 1024
	flushEvery   = 2 * time.Millisecond
	flushBurst   = 8 // frames sealed at once after a pause
)

// pacer spaces frames. The zero value is ready.
type pacer struct {
	next time.Time // when the schedule of one frame each flushEvery has its next
}

// due returns how long to wait before sealing a frame: 0 for now.
func (p *pacer) due(now time.Time) time.Duration {
	return max(0, p.next.Add(-flushBurst*flushEvery).Sub(now))
}

// sealed notes that a frame was sealed.
func (p *pacer) sealed(now time.Time) {
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(flushEvery)
	// Frames sealed for their size do not push the schedule further away than one step.
	if limit := now.Add((flushBurst + 1) * flushEvery); p.next.After(limit) {
		p.next = limit
	}
}
