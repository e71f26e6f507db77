package stream

import (
	"context"
	"fmt"
	"time"
)

// stallCheck is how long a reader hears nothing before the store is asked whether there
// is something to hear.
var stallCheck = 5 * time.Second

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
	return fmt.Errorf("receive: %w: frame %d is stored and is not delivered", ErrBroken, r.rd.pos.Frame+1)
}
