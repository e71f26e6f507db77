package stacked

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"understudy/capture"
	"understudy/fileop"
)

// maxPace bounds what a sink can make a writer wait: it asks for milliseconds.
const maxPace = 50 * time.Millisecond

// sinks are those operations are given to.
type sinks struct {
	mu   sync.RWMutex // held for reading while operations are given out
	list []*tap       // guarded by mu
	n    atomic.Int32 // len(list), to be looked at without mu

	ops   atomic.Uint64
	bytes atomic.Uint64
}

// tap tells two attachments of one sink apart.
type tap struct{ sink capture.Sink }

func (s *sinks) attach(sink capture.Sink) (detach func()) {
	t := &tap{sink}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, t)
	s.n.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.list, t); i >= 0 {
			s.list = slices.Delete(s.list, i, i+1)
			s.n.Add(-1)
		}
	}
}

// tapped reports whether anybody listens. Asked after an effect and before describing
// it: whoever attaches in between does not need to hear of it.
func (s *sinks) tapped() bool { return s.n.Load() > 0 }

// emit gives ops, which took effect together, to all sinks. The caller holds the locks
// of their objects.
func (s *sinks) emit(ops ...*fileop.Op) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, op := range ops {
		for _, t := range s.list {
			t.sink.Put(op)
		}
		s.ops.Add(1)
		if op.Kind == fileop.Write {
			s.bytes.Add(uint64(len(op.Data)))
		}
	}
}

// pace waits as long as the slowest sink wants; no lock is held. A signal to the writer
// does not cut it short: Go programs are sent some all the time.
func (s *sinks) pace() {
	if d := s.wanted(); d > 0 {
		time.Sleep(min(d, maxPace))
	}
}

func (s *sinks) wanted() (d time.Duration) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.list {
		d = max(d, t.sink.Pace())
	}
	return d
}
