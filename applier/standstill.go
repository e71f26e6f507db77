package applier

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// standstill lets several readers look at the replica between two records. While one of
// them does, nothing is applied; those that come meanwhile join it.
type standstill struct {
	mu   sync.Mutex // guards what follows
	n    int        // readers
	none chan struct{}

	look sync.Mutex // one reader at a time uses what is the deciding goroutine's own
}

// stand is called by the deciding goroutine. It stands still from the call of in until the
// last reader has left; in, or whom it tells, leaves once.
func (s *standstill) stand(in func()) {
	none := make(chan struct{})
	s.mu.Lock()
	s.n, s.none = 1, none
	s.mu.Unlock()
	in()
	<-none
}

// join makes the caller a reader too, if the applier stands still.
func (s *standstill) join() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.none == nil {
		return false
	}
	s.n++
	return true
}

func (s *standstill) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n--; s.n == 0 {
		close(s.none)
		s.none = nil
	}
}

// still stops applying until done is called. It may be called again before, also by others
// and by whoever is called back with a record. ErrClosed: nothing is applied any more.
func (a *Applier) still(ctx context.Context) (done func(), err error) {
	s := &a.quiet
	if s.join() {
		return s.leave, nil
	}
	in := make(chan struct{})
	if err := a.do(ctx, func() { s.stand(func() { close(in) }) }); err != nil {
		return nil, err
	}
	<-in
	return s.leave, nil
}

// Listener is told of a record that has just taken effect and of the position it led to,
// before anything else is applied. It must not block or keep op. It may read the replica.
type Listener func(op *fileop.Op, pos Position)

// listeners are those who are told.
type listeners struct {
	mu   sync.Mutex // guards what follows, and is held while they are told
	of   map[int]Listener
	last int

	cutMu sync.Mutex // guards what follows
	cuts  map[key]uint64
	base  uint64
}

// maxShifted bounds the files whose cuts are counted one by one, some 50 bytes each.
const maxShifted = 1 << 16

// Listen has f told of every record from now on, until stop is called. After that it is not
// called any more. f must not call stop.
func (a *Applier) Listen(f Listener) (stop func()) {
	l := &a.listen
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[int]Listener{}
	}
	l.last++
	no := l.last
	l.of[no] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.of, no)
	}
}

// told tells the listeners of op. The deciding goroutine calls it.
func (a *Applier) told(op *fileop.Op) {
	l := &a.listen
	l.mu.Lock()
	nobody := len(l.of) == 0
	l.mu.Unlock()
	if nobody {
		return
	}
	l.cut(op)
	a.quiet.stand(func() {
		defer a.quiet.leave()
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, f := range l.of {
			f(op, a.pos)
		}
	})
}

// cut counts what moves or cuts the content of a file.
func (l *listeners) cut(op *fileop.Op) {
	const moves = unix.FALLOC_FL_COLLAPSE_RANGE | unix.FALLOC_FL_INSERT_RANGE
	if op.Kind != fileop.Truncate && (op.Kind != fileop.Fallocate || op.Flags&moves == 0) {
		return
	}
	l.cutMu.Lock()
	defer l.cutMu.Unlock()
	if len(l.cuts) >= maxShifted {
		l.base += 1 << 32 // each was cut, for all that is known
		l.cuts = nil
	}
	if l.cuts == nil {
		l.cuts = map[key]uint64{}
	}
	l.cuts[key{op.Tree, op.Obj}]++
}

func (l *listeners) cutsOf(k key) uint64 {
	l.cutMu.Lock()
	defer l.cutMu.Unlock()
	return l.base + l.cuts[k]
}

// Running reports whether Run is under way.
func (a *Applier) Running() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}
