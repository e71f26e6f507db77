package applier

import (
	"context"
	"fmt"
	"sync"

	"understudy/fileop"
)

type laneItem struct {
	frame fileop.Frame
	index uint64
}

// lane is one lane's prefetched frames, bounded in bytes. One goroutine fills it, the
// deciding one takes.
type lane struct {
	mu    sync.Mutex // guards items, bytes, err, seen
	items []laneItem
	bytes int
	err   error // why no more will come
	seen  int   // frames already searched by findAbort

	room  chan struct{} // capacity 1: bytes went down
	ready chan struct{} // capacity 1: items or err came
}

func newLane() *lane {
	return &lane{room: make(chan struct{}, 1), ready: make(chan struct{}, 1)}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// fill takes frames from next until it fails or ctx ends.
func (l *lane) fill(ctx context.Context, next func(context.Context) (laneItem, error)) {
	for {
		it, err := next(ctx)
		l.mu.Lock()
		if err != nil {
			l.err = err
		} else {
			l.items = append(l.items, it)
			l.bytes += len(it.frame.Body)
		}
		full := l.bytes >= maxLaneBytes
		l.mu.Unlock()
		signal(l.ready)
		if err != nil {
			return
		}
		for full {
			select {
			case <-ctx.Done():
				return
			case <-l.room:
			}
			l.mu.Lock()
			full = l.bytes >= maxLaneBytes
			l.mu.Unlock()
		}
	}
}

// take returns the next frame if there is one, or why there will be none.
func (l *lane) take() (laneItem, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.items) == 0 {
		return laneItem{}, false, l.err
	}
	it := l.items[0]
	l.items[0] = laneItem{}
	l.items = l.items[1:]
	l.bytes -= len(it.frame.Body)
	l.seen = max(l.seen-1, 0)
	signal(l.room)
	return it, true, nil
}

// findAbort looks ahead for a MirrorAbort: while the queue waits for mirror data, the
// word that it will not come stands further back in the queue. It returns up to which
// mirror record.
func (l *lane) findAbort() (upTo fileop.Seq) {
	l.mu.Lock()
	items := l.items[min(l.seen, len(l.items)):]
	l.seen = len(l.items)
	l.mu.Unlock()
	for i := range items {
		upTo = max(upTo, abortIn(items[i].frame.Records()))
	}
	return upTo
}

func abortIn(r fileop.Reader) (upTo fileop.Seq) {
	var op fileop.Op
	for {
		if ok, err := r.Next(&op); !ok || err != nil {
			return upTo // an error is reported when the record's turn comes
		}
		if op.Kind == fileop.MirrorAbort {
			upTo = op.Other
		}
	}
}

// cursor reads one lane record by record.
type cursor struct {
	*lane
	item laneItem
	rd   fileop.Reader
	op   fileop.Op // the next record, if have
	have bool
	open bool // item is being read
}

// more reports whether records follow the one last taken that are here already.
func (c *cursor) more() bool {
	if c.have || c.open && c.op.Seq < c.item.frame.Last() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.items) > 0
}

// peek makes the next record available in c.op and reports whether there is one. begin
// is asked about each frame first, end told after the last record of one was taken.
func (c *cursor) peek(begin func(*laneItem) error, end func(*laneItem)) (bool, error) {
	for !c.have {
		if c.open {
			ok, err := c.rd.Next(&c.op)
			if err != nil {
				return false, fmt.Errorf("%w: %w", ErrProtocol, err)
			}
			if ok {
				c.have = true
				break
			}
			c.open = false
			end(&c.item)
		}
		it, ok, err := c.take()
		if !ok {
			return false, err
		}
		if err := begin(&it); err != nil {
			return false, err
		}
		c.item, c.rd, c.open = it, it.frame.Records(), true
	}
	return true, nil
}
