package node

import (
	"context"
)

// durable is how an fsync of an application waits for the queue: in strict mode until
// everything before it is on the disk of Q, else not at all. A queue that is lost ends
// the waiting; so does ctx. The session ends then, which is logged there.
func (s *session) durable() func(context.Context) {
	if !s.c.n.cfg.Strict {
		return nil
	}
	return func(ctx context.Context) {
		if err := s.journal.Sync(ctx); err != nil {
			s.c.log.Warn("an fsync did not wait for the queue any longer", "err", err)
		}
	}
}
