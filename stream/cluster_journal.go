package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// regainFirst and regainMax space the questions to a cluster that does not answer. How
// long they go on is bounded by what the journal may hold in memory meanwhile.
const (
	regainFirst = 100 * time.Millisecond
	regainMax   = 2 * time.Second
)

// regain goes on after a cluster lost its leader, or the way to it: what was under way may
// or may not be stored, so the cluster is asked how far the queue reaches, and the rest is
// published again from memory. ErrBroken: it lost what it had acknowledged.
func (j *Journal) regain(ctx context.Context, old *publisher, why error) (*publisher, error) {
	old.close()
	j.log.Warn("queue's cluster did not take a frame, asking how far it is", "connection", j.cfg.Connection, "err", why)
	for wait := regainFirst; ; wait = min(2*wait, regainMax) {
		select {
		case <-ctx.Done():
			return old, errStopped
		case <-j.stop:
			return old, errStopped
		case <-j.failed:
			return old, j.Err()
		case <-time.After(wait):
		}
		pub, err := j.rejoin(ctx)
		if err == nil {
			j.log.Info("queue's cluster answers again", "connection", j.cfg.Connection)
			return pub, nil
		}
		if errors.Is(err, ErrBroken) {
			return old, err
		}
	}
}

func (j *Journal) rejoin(ctx context.Context) (*publisher, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	last, _, err := j.st.readLast(ctx)
	if err != nil {
		return nil, err
	}
	if err := j.catchUp(last); err != nil {
		return nil, err
	}
	return newPublisher(j.st.nc, j.st.subject, last.Frame, storeWindow, j.stored, func() { poke(j.wake) })
}

// catchUp counts as stored what the cluster has, and has the rest published again.
func (j *Journal) catchUp(last Position) error {
	j.mu.Lock()
	acked := j.acked
	f, ok := j.mem.at(last.Frame)
	j.mu.Unlock()
	switch {
	case last.Frame < acked:
		return fmt.Errorf("%w: the cluster ends at frame %d, and had acknowledged %d", ErrBroken, last.Frame, acked)
	case last.Frame > acked && (!ok || f.end != last.Chain):
		return fmt.Errorf("%w: frame %d of the cluster is not the one sent", ErrBroken, last.Frame)
	}
	for i := acked + 1; i <= last.Frame; i++ {
		j.mu.Lock()
		f, _ := j.mem.at(i) // not stored yet, so it is in memory
		j.mu.Unlock()
		j.stored(i, flight{bytes: len(f.data), at: f.at})
	}
	j.mu.Lock()
	j.published = last.Frame
	j.mu.Unlock()
	return nil
}
