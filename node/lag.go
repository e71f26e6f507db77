package node

import (
	"sync"
	"time"

	"understudy/fileop"
)

// lagMeter tells how old the oldest operation is that is captured and not yet applied. It
// knows operations by the frames the journal seals, 2 ms of them or less; those being
// gathered are not counted yet.
type lagMeter struct {
	mu    sync.Mutex // guards what follows; taken with the journal locked
	marks []lagMark  // oldest first; at most lagMarks
	done  fileop.Seq
}

// lagMark is a frame: its last operation, and when its first was captured.
type lagMark struct {
	seq fileop.Seq
	at  time.Time
}

const lagMarks = 4096

// add remembers a frame. When the list is full the newest mark moves on: the oldest is
// what counts.
func (l *lagMeter) add(seq fileop.Seq, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case seq <= l.done:
	case len(l.marks) == lagMarks:
		l.marks[lagMarks-1].seq = seq
	default:
		l.marks = append(l.marks, lagMark{seq, at})
	}
}

// applied forgets what the target has applied.
func (l *lagMeter) applied(seq fileop.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = max(l.done, seq)
	i := 0
	for i < len(l.marks) && l.marks[i].seq <= seq {
		i++
	}
	l.marks = append(l.marks[:0], l.marks[i:]...)
}

// now is the present lag.
func (l *lagMeter) now() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.marks) == 0 {
		return 0
	}
	return time.Since(l.marks[0].at)
}
