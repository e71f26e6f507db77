package stream

import "time"

// A frame is sealed at flushBytes or flushRecords, or when the pacer says so: at once
// while frames are few, else flushEvery after the one before. So an operation on a
// quiet connection waits for nothing, and a burst of small ones shares frames. A frame
// costs both machines about 0.5 ms of CPU together, so under lasting load they come
// every flushBusy: a burst of 10,000 file creations then costs a third as much.
const (
	flushBytes   = 256 << 10
	flushRecords = 1024
	flushEvery   = 2 * time.Millisecond
	flushBurst   = 8 // frames sealed at once after a pause
	flushBusy    = 5 * time.Millisecond
	flushStreak  = 100 // frames in a row after which load counts as lasting
)

// pacer spaces frames. The zero value is ready.
type pacer struct {
	next   time.Time // when the schedule of one frame each flushEvery has its next
	streak int       // frames sealed since the schedule was last behind the clock
}

// due returns how long to wait before sealing a frame: 0 for now.
func (p *pacer) due(now time.Time) time.Duration {
	return max(0, p.next.Add(-flushBurst*flushEvery).Sub(now))
}

// sealed notes that a frame was sealed.
func (p *pacer) sealed(now time.Time) {
	if p.next.Before(now) {
		p.next, p.streak = now, 0
	}
	every := flushEvery
	if p.streak++; p.streak > flushStreak {
		every = flushBusy
	}
	p.next = p.next.Add(every)
	// Frames sealed for their size do not push the schedule further away than one step.
	if limit := now.Add(flushBurst*flushEvery + every); p.next.After(limit) {
		p.next = limit
	}
}
