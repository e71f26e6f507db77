package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"understudy/fileop"
)

// mirrorLane is where the mirror frames stand. It is guarded by Receiver.mu.
type mirrorLane struct {
	last   fileop.Seq   // last mirror record handed out
	chain  fileop.Chain // of its frame
	joined bool         // chain is known
	lost   bool         // frames are missing: wait for SkipMirror
	held   *nats.Msg    // the frame that showed the loss; it may begin the next run
	skip   chan struct{}
}

// openMirror subscribes to the mirror frames. What has arrived and not been taken waits
// in the subscription, bounded by its limit: twice the window, as an abort returns all
// credit before the frames of the ended run have been dropped here. A source that sends
// more loses frames, which is noticed.
func (r *Receiver) openMirror() (err error) {
	r.mir = mirrorLane{last: r.cfg.MirrorDone, skip: make(chan struct{}, 1)}
	subject := mirrorSubject(r.cfg.Source, r.cfg.Connection, r.cfg.Epoch)
	if r.mirConn, err = r.st.srv.connect("mirror"); err != nil {
		return err
	}
	if r.mirSub, err = r.mirConn.SubscribeSync(subject); err == nil {
		err = r.mirSub.SetPendingLimits(-1, int(2*r.cfg.MirrorWindow)+mirrorSlack)
	}
	if err == nil {
		err = r.mirConn.Flush()
	}
	if err != nil {
		return fmt.Errorf("receive mirror frames: %w", connError(err))
	}
	return nil
}

// NextMirror waits for the next mirror frame. When frames are missing it returns
// ErrMirrorLost once; after that it waits for SkipMirror. The frame's bytes belong to
// the caller.
func (r *Receiver) NextMirror(ctx context.Context) (fileop.Frame, error) {
	ctx, cancel := r.until(ctx)
	defer cancel()
	for {
		if err := r.awaitSkip(ctx); err != nil {
			return fileop.Frame{}, err
		}
		m, err := r.arrived(ctx)
		switch {
		case ctx.Err() != nil:
			return fileop.Frame{}, fmt.Errorf("receive mirror: %w", context.Cause(ctx))
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // frames over the limit were dropped; the gap shows
		case err != nil:
			return fileop.Frame{}, fmt.Errorf("receive mirror: %w", connError(err))
		}
		f, err := fileop.ParseFrame(m.Data)
		if err == nil && (f.Epoch != r.cfg.Epoch || f.Lane != fileop.LaneMirror) {
			err = fmt.Errorf("%w: epoch %x, lane %d", fileop.ErrNotNext, f.Epoch, f.Lane)
		}
		take, err := r.acceptMirror(m, &f, err)
		if err != nil {
			return fileop.Frame{}, fmt.Errorf("receive mirror: %w", err)
		}
		if take {
			r.mu.Lock()
			r.stats.MirrorBytes += uint64(len(m.Data))
			r.stats.MirrorRecord = f.Last()
			r.mu.Unlock()
			return f, nil
		}
	}
}

// arrived returns the frame that was held, or waits for the next message.
func (r *Receiver) arrived(ctx context.Context) (*nats.Msg, error) {
	r.mu.Lock()
	m := r.mir.held
	r.mir.held = nil
	r.mu.Unlock()
	if m != nil {
		return m, nil
	}
	return r.mirSub.NextMsgWithContext(ctx)
}

// acceptMirror takes the successor, passes over frames of a run that was aborted, and
// calls everything else a loss.
func (r *Receiver) acceptMirror(m *nats.Msg, f *fileop.Frame, err error) (take bool, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.mir
	switch {
	case err != nil:
	case f.Last() <= l.last:
		return false, nil
	case f.First != l.last+1 || l.joined && f.Prev != l.chain:
		l.held = m
		err = fmt.Errorf("%w: frame begins at record %d, want %d", fileop.ErrNotNext, f.First, l.last+1)
	default:
		l.last, l.chain, l.joined = f.Last(), f.Chain, true
		return true, nil
	}
	l.lost = true
	r.stats.MirrorLost++
	return false, fmt.Errorf("%w: %w", ErrMirrorLost, err)
}

func (r *Receiver) awaitSkip(ctx context.Context) error {
	for {
		r.mu.Lock()
		lost := r.mir.lost
		r.mu.Unlock()
		if !lost {
			return nil
		}
		select {
		case <-r.mir.skip:
		case <-ctx.Done():
			return fmt.Errorf("receive mirror: %w", context.Cause(ctx))
		}
	}
}

// SkipMirror obeys a MirrorAbort: the mirror records up to k are not waited for and, if
// they still arrive, dropped. The next frame begins at k+1.
func (r *Receiver) SkipMirror(k fileop.Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &r.mir
	if k < l.last {
		return
	}
	l.last, l.joined, l.lost = k, false, false
	poke(l.skip)
}
