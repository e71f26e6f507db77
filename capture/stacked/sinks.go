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

// sinks are those operations are given to. Giving out waits for nobody: a sink may
// take the lock of a file in its Put (the mirror reads what a link brought in), and
// whoever holds that lock must be able to give out his own operation meanwhile.
type sinks struct {
	mu   sync.Mutex             // guards changes of list
	list atomic.Pointer[[]*tap] // replaced whole; nil: none

	ops   atomic.Uint64
	bytes atomic.Uint64
}

// tap is one attachment of a sink.
type tap struct {
	sink capture.Sink

	mu     sync.Mutex
	closed bool       // guarded by mu: no call begins any more
	calls  int        // guarded by mu: calls under way
	idle   *sync.Cond // calls became 0
}

// begin reports whether the sink may be called; end follows the call.
func (t *tap) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.calls++
	return true
}

func (t *tap) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls--; t.calls == 0 {
		t.idle.Broadcast()
	}
}

// close waits until no call is under way.
func (t *tap) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for t.calls > 0 {
		t.idle.Wait()
	}
}

func (s *sinks) taps() []*tap {
	if l := s.list.Load(); l != nil {
		return *l
	}
	return nil
}

func (s *sinks) attach(sink capture.Sink) (detach func()) {
	t := &tap{sink: sink}
	t.idle = sync.NewCond(&t.mu)
	s.change(func(l []*tap) []*tap { return append(l, t) })
	return func() {
		s.change(func(l []*tap) []*tap {
			return slices.DeleteFunc(l, func(other *tap) bool { return other == t })
		})
		t.close()
	}
}

func (s *sinks) change(f func([]*tap) []*tap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := f(slices.Clone(s.taps()))
	s.list.Store(&l)
}

// tapped reports whether anybody listens. Asked after an effect and before describing
// it: whoever attaches in between does not need to hear of it.
func (s *sinks) tapped() bool { return len(s.taps()) > 0 }

// emit gives ops, which took effect together, to all sinks. The caller holds the locks
// of their objects.
func (s *sinks) emit(ops ...*fileop.Op) {
	for _, t := range s.taps() {
		if !t.begin() {
			continue
		}
		for _, op := range ops {
			t.sink.Put(op)
		}
		t.end()
	}
	s.ops.Add(uint64(len(ops)))
	for _, op := range ops {
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
	for _, t := range s.taps() {
		if t.begin() {
			d = max(d, t.sink.Pace())
			t.end()
		}
	}
	return d
}
