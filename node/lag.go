package node

import (
	"context"
	"sync"
	"time"

	"understudy/fileop"
	"understudy/stream"
)

// lagMeter tells how old the oldest operation is that is captured and not yet applied.
// It samples, so its resolution is lagSample.
type lagMeter struct {
	mu    sync.Mutex
	marks []lagMark // oldest first; at most lagMarks
	done  fileop.Seq
}

type lagMark struct {
	seq fileop.Seq
	at  time.Time
}

const (
	lagSample = 5 * time.Millisecond
	lagMarks  = 4096
)

// run samples the journal until ctx ends.
func (l *lagMeter) run(ctx context.Context, j *stream.Journal) error {
	tick := time.NewTicker(lagSample)
	defer tick.Stop()
	var before fileop.Seq
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if last, _ := j.Last(); last != before {
				before = last
				l.add(last, now)
			}
		}
	}
}

// add remembers that operation seq was the last at a time. When the list is full the
// newest mark moves on: the oldest is what counts.
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
