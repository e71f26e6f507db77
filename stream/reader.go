package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

const (
	// pullBytes bounds what one pull may put under way, pullFrames what may wait to be
	// read: frames have at most 1 MiB. Pulls by number alone overrun the server's pending
	// limit and lose the connection; for pulls by bytes alone the library keeps a channel of
	// a million places, 8 MB for each reader.
	pullBytes     = 8 << 20
	pullFrames    = 32
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	// clusterHeartbeat finds within some seconds that the server of a cluster is gone that
	// served a reader. The library would then ask for the same consumer again and again,
	// which may have been placed on the server that is gone; a new reader has a new one.
	clusterHeartbeat = time.Second
)

// reader reads the frames of a store in order, each checked to be the successor of
// the one before. One goroutine uses it.
type reader struct {
	st   *store
	it   jetstream.MessagesContext
	pos  Position // last frame read
	free bool     // the first frame read may have any predecessor
}

// read opens a reader behind pos.
func (st *store) read(ctx context.Context, pos Position) (*reader, error) {
	r := &reader{st: st, pos: pos}
	cfg := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: pos.Frame + 1,
		InactiveThreshold: time.Minute,
	}
	beat := pullHeartbeat
	if st.remote {
		cfg.MaxResetAttempts, beat = 1, clusterHeartbeat
	}
	c, err := st.js.OrderedConsumer(ctx, st.name, cfg)
	if err != nil {
		return nil, fmt.Errorf("read queue %s: %w", st.name, storeError(err))
	}
	r.it, err = c.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullFrames, pullBytes), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(beat))
	if err != nil {
		return nil, fmt.Errorf("read queue %s: %w", st.name, storeError(err))
	}
	return r, nil
}

// next waits for the next frame. ErrBroken means it is not the successor. wait 0 waits
// until ctx ends; a longer wait that passes returns ErrNoAnswer.
func (r *reader) next(ctx context.Context, wait time.Duration) (f fileop.Frame, raw []byte, at time.Time, err error) {
	wctx := ctx
	if wait > 0 {
		var cancel context.CancelFunc
		wctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	m, err := r.it.Next(jetstream.NextContext(wctx))
	if err != nil {
		return f, nil, at, r.nextError(ctx, err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return f, nil, at, fmt.Errorf("read queue %s: %w: %w", r.st.name, ErrStore, err)
	}
	raw = m.Data()
	if err := r.check(meta.Sequence.Stream, raw, &f); err != nil {
		return f, nil, at, fmt.Errorf("read queue %s: %w: frame %d: %w", r.st.name, ErrBroken, r.pos.Frame+1, err)
	}
	r.pos, r.free = Position{Frame: r.pos.Frame + 1, Seq: f.Last(), Chain: f.Chain}, false
	return f, raw, meta.Timestamp, nil
}

func (r *reader) check(i uint64, raw []byte, f *fileop.Frame) (err error) {
	if failpoint.Planted(failpoint.PlantNoChain) {
		r.pos.Frame = i - 1
		*f, err = fileop.ParseFrame(raw)
		return err
	}
	if i != r.pos.Frame+1 {
		return fmt.Errorf("%w: the store has frame %d instead", fileop.ErrNotNext, i)
	}
	if *f, err = fileop.ParseFrame(raw); err != nil {
		return err
	}
	if f.Lane != fileop.LaneQueue {
		return fmt.Errorf("%w: lane %d", fileop.ErrNotNext, f.Lane)
	}
	if r.free {
		return f.Follows(r.st.epoch, f.First-1, f.Prev)
	}
	return f.Follows(r.st.epoch, r.pos.Seq, r.pos.Chain)
}

func (r *reader) nextError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("read queue %s: %w", r.st.name, ErrNoAnswer)
	case errors.Is(err, jetstream.ErrMsgIteratorClosed):
		return fmt.Errorf("read queue %s: %w: %w", r.st.name, ErrClosed, err)
	}
	return fmt.Errorf("read queue %s: %w", r.st.name, storeError(err))
}

func (r *reader) close() { r.it.Stop() }
