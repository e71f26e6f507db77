package node

import (
	"sync"
	"sync/atomic"

	"understudy/fileop"
	"understudy/mirror"
	"understudy/stream"
)

// healing is the mirror that makes good what was lost on the way. What the mirror itself
// knows to be doubtful is compared by content, whatever its date.
var healing = mirror.Options{Mode: mirror.Diff, Checksum: true}

// orders are the mirrors a session still has to run: the last one asked for, then one
// that heals. Its methods may be called by several goroutines.
type orders struct {
	wake chan struct{} // something is ordered

	mu    sync.Mutex // guards what follows
	asked *mirror.Options
	heal  bool
	runs  bool // one is under way

	tail     *stream.Tail // hears of what is ordered; nil: none
	wasEmpty bool
	begun    *atomic.Uint64 // counts the runs, repetitions aside
}

// tell has a tail hear of what is ordered. It is called before the first order.
func (q *orders) tell(t *stream.Tail, wasEmpty bool, begun *atomic.Uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tail, q.wasEmpty, q.begun = t, wasEmpty, begun
}

// first asks for the run that a session begins with, which began at since: it knows
// what must be doubted.
func (q *orders) first(o mirror.Options, since fileop.Time) {
	if q.tail != nil {
		q.tail.Begin(doubts(o, q.wasEmpty, since))
	}
	q.put(o)
}

// due tells the tail. q.mu is held.
func (q *orders) due(o mirror.Options) {
	if q.tail != nil {
		q.tail.Unquiet(stream.UnquietOrder, doubts(o, q.wasEmpty, lately()))
	}
}

// newOrders is busy from the start if a first mirror will be ordered, so that nobody
// takes the moment before for idle.
func newOrders(busy bool) *orders { return &orders{wake: make(chan struct{}, 1), runs: busy} }

// put asks for a run in place of the one asked for before. A healing one stays due if
// this one leaves differences.
func (q *orders) put(o mirror.Options) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.due(o)
	q.asked = &o
	q.heal = q.heal && !complete(o)
	poke(q.wake)
}

// putHeal asks for a healing run, unless one is ordered that heals as well.
func (q *orders) putHeal() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.due(healing)
	q.heal = q.asked == nil || !complete(*q.asked)
	poke(q.wake)
}

// complete reports that nothing differs after a run with these options.
func complete(o mirror.Options) bool { return !o.Newer && !o.AttributesOnly }

// take returns the next run, which is under way until done.
func (q *orders) take() (o mirror.Options, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.asked != nil:
		o, q.asked = *q.asked, nil
	case q.heal:
		o, q.heal = healing, false
	default:
		return o, false
	}
	q.runs = true
	if q.begun != nil {
		q.begun.Add(1)
	}
	return o, true
}

func (q *orders) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.runs = false
	if q.tail != nil && !q.heal && q.asked == nil {
		q.tail.Quiet(stream.UnquietOrder)
	}
}

// busy reports whether a run is under way or due.
func (q *orders) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.runs || q.heal || q.asked != nil
}

// repeated is the run that makes up for one that lost records. What the lost one was to
// doubt stays doubted. A full mirror doubts every file, unless the replica was empty
// before it: what is there then was sent by it.
func repeated(o mirror.Options, wasEmpty bool) mirror.Options {
	if o.Mode == mirror.Diff {
		return o
	}
	o = healing
	o.ChecksumAll = !wasEmpty
	return o
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
