package stream

import (
	"context"
	"errors"
)

// openTarget opens T. One that lost what was applied, or part of what is behind it, begins
// anew behind cfg.Applied. Nothing is lost by that: the source trims Q only up to what the
// target reported as durable, which is no more than Applied, and the chain of frames shows
// if what it then sends is no continuation. A source that has trimmed more begins a new
// epoch, as ever.
func (s *Server) openTarget(ctx context.Context, cfg *ReceiverConfig) (*store, error) {
	name := targetStream(cfg.Source, cfg.Connection, cfg.Epoch)
	open := func() (*store, error) {
		subject := targetSubject(cfg.Source, cfg.Connection, cfg.Epoch)
		return s.openStore(ctx, name, subject, cfg.Epoch, cfg.MaxBytes, cfg.Applied)
	}
	st, err := open()
	reaches := err == nil && st.last.Frame >= cfg.Applied.Frame && st.first <= cfg.Applied.Frame+1
	if reaches || cfg.Applied.Frame == 0 || err != nil && !errors.Is(err, ErrBroken) {
		return st, err
	}
	had := uint64(0)
	if st != nil {
		had = st.last.Frame
		st.close()
	}
	cfg.Log.Warn("target queue lost frames, beginning it anew behind what is applied", "connection", cfg.Connection,
		"frame", cfg.Applied.Frame, "had", had, "err", err)
	if s.clustered() {
		name = s.clusterName(name)
	}
	if err := s.deleteStream(ctx, name, s.clustered()); err != nil {
		return nil, err
	}
	return open()
}
