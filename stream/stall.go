package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// stallCheck is how long a reader hears nothing before the store is asked whether there
// is something to hear.
var stallCheck = 5 * time.Second

// errNotDelivered: the reader is at fault, not the queue.
var errNotDelivered = errors.New("stored and not delivered")

// stall notices a frame that is stored and never delivered: one whose header bytes were
// damaged on the way is dropped by the client library without a word to its reader.
type stall struct {
	frame uint64 // last frame read when the store was first seen to have more
	seen  bool
}

// note takes the last frame read and the last one stored, and reports whether nothing
// moved since the call before although there is more.
func (s *stall) note(read, stored uint64) bool {
	if stored <= read {
		s.seen = false
		return false
	}
	stuck := s.seen && s.frame == read
	s.frame, s.seen = read, true
	return stuck
}

// checkStall is asked after a silence. It returns ErrBroken when the next frame is stored
// and does not come.
func (r *Receiver) checkStall(ctx context.Context, s *stall) error {
	info, err := r.st.stream.Info(ctx)
	if err != nil {
		return nil // the reader will notice what is wrong
	}
	if !s.note(r.rd.pos.Frame, info.State.LastSeq) {
		return nil
	}
	if err := r.st.lacks(ctx, r.rd.pos.Frame+1); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return fmt.Errorf("receive: %w: %w: frame %d", ErrBroken, errNotDelivered, r.rd.pos.Frame+1)
}

// rereads opens the reader of a queue in a cluster anew, where it was: a server of the
// cluster that ends takes the readers with it that it served. It reports false when err is
// of another kind, or there is no more time.
func (r *Receiver) rereads(ctx context.Context, err error) bool {
	if !r.st.remote || errors.Is(err, ErrBroken) && !errors.Is(err, errNotDelivered) {
		return false
	}
	pos, free := r.rd.pos, r.rd.free
	r.log.Info("target queue's reader opened anew", "connection", r.cfg.Connection, "frame", pos.Frame, "err", err)
	for wait := regainFirst; ctx.Err() == nil; wait = min(2*wait, regainMax) {
		r.rd.close()
		rd, err := r.st.readSoon(ctx, pos)
		if err == nil {
			rd.free = free
			r.rd = rd
			return true
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return false
}

// readSoon is read with little patience: the next attempt may be answered by another server.
func (st *store) readSoon(ctx context.Context, pos Position) (*reader, error) {
	ctx, cancel := context.WithTimeout(ctx, rereadTimeout)
	defer cancel()
	return st.read(ctx, pos)
}

const rereadTimeout = 3 * time.Second
