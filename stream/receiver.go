package stream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// ReceiverConfig describes the target queue of one connection and epoch.
type ReceiverConfig struct {
	Source       string // name of the source machine
	Connection   string
	Epoch        fileop.Epoch
	MaxBytes     int64    // of the queue on disk; 0: what the disk bears. At least 32 MiB
	MirrorWindow int64    // as in JournalConfig
	Applied      Position // what the applier has done: Next goes on behind Seq
	MirrorDone   fileop.Seq
	Log          *slog.Logger
}

// Receiver holds what a source sent (T) and hands it out in order. Next is called by
// one goroutine, NextMirror by one, everything else by any.
type Receiver struct {
	cfg  ReceiverConfig
	log  *slog.Logger
	st   *store
	stop func() // of the request handler
	rd   *reader
	via  *relay          // to a queue in a cluster; nil: the source reaches it
	ctx  context.Context // ends with Close
	end  context.CancelCauseFunc

	mirConn *nats.Conn
	mirSub  *nats.Subscription
	mir     mirrorLane

	mu     sync.Mutex // guards what follows
	closed bool
	keep   uint64 // purge below this frame
	later  bool   // a purge is planned
	purges sync.WaitGroup
	stats  ReceiverStats
}

// ReceiverStats is a plain copy of a receiver's figures.
type ReceiverStats struct {
	Frames        uint64     // handed out since the start
	Bytes         uint64     // of these
	Op            fileop.Seq // last operation handed out
	Frame         uint64     // last frame handed out
	MirrorBytes   uint64
	MirrorRecord  fileop.Seq // last mirror record handed out
	MirrorLost    uint64     // times mirror frames were missing
	MirrorPending int        // bytes received and not handed out
}

// OpenReceiver opens the target queue, or continues it. From then on the source's
// transmitter can reach it. What is stored and no unbroken history up to Applied, as a
// power cut may leave it, is deleted: the queue begins anew behind Applied, from where the
// source still has everything. ErrBroken: there is no such place.
func (s *Server) OpenReceiver(ctx context.Context, cfg ReceiverConfig) (_ *Receiver, err error) {
	if cfg.MirrorWindow <= 0 {
		cfg.MirrorWindow = DefaultMirrorWindow
	}
	if cfg.Log == nil {
		cfg.Log = s.log
	}
	r := &Receiver{cfg: cfg, log: cfg.Log}
	r.ctx, r.end = context.WithCancelCause(context.Background())
	if r.st, err = s.openTarget(ctx, &cfg); err != nil {
		return nil, err
	}
	r.st.onLost(r.end)
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	// Frames below the first stored one are applied; the first says itself what it follows.
	// Not before the last applied one, which stays: what is before it may be purged now.
	start := Position{Frame: max(r.st.first, cfg.Applied.Frame, 1) - 1}
	if r.rd, err = r.st.read(ctx, start); err != nil {
		return nil, err
	}
	r.rd.free = start.Frame > 0
	if err = r.openMirror(); err != nil {
		return nil, err
	}
	if r.st.remote {
		if r.via, err = r.st.openRelay(targetSubject(cfg.Source, cfg.Connection, cfg.Epoch)); err != nil {
			return nil, err
		}
	}
	r.stop, err = s.Handle(lastSubject(cfg.Source, cfg.Connection, cfg.Epoch), func(ctx context.Context, _ []byte) ([]byte, error) {
		p, err := r.Last(ctx)
		if errors.Is(err, ErrBroken) { // Next may wait for what will never come
			r.end(err)
		}
		if err != nil {
			return nil, err
		}
		return appendPosition(nil, p), nil
	})
	return r, err
}

// Last is how far T reaches.
func (r *Receiver) Last(ctx context.Context) (Position, error) {
	p, _, err := r.st.readLast(ctx)
	if err != nil {
		return p, fmt.Errorf("last frame of target queue: %w", err)
	}
	return p, nil
}

// Next waits for the next frame that holds operations not applied yet, and returns it
// with its number. A frame that is damaged or not exactly the successor of the one
// before is ErrBroken, wrapping fileop.ErrDamaged or fileop.ErrNotNext; the connection
// then needs a new epoch. The frame's bytes belong to the caller.
func (r *Receiver) Next(ctx context.Context) (fileop.Frame, uint64, error) {
	ctx, cancel := r.until(ctx)
	defer cancel()
	var silent stall
	for {
		first := r.rd.free || r.rd.pos.Frame == 0
		f, raw, _, err := r.rd.next(ctx, stallCheck)
		if errors.Is(err, ErrNoAnswer) && ctx.Err() == nil {
			if err = r.checkStall(ctx, &silent); err == nil {
				continue
			}
		}
		if err != nil && r.rereads(ctx, err) {
			silent = stall{}
			continue
		}
		if err != nil {
			return f, 0, fmt.Errorf("receive: %w", err)
		}
		if err := r.joins(&f, first); err != nil {
			return f, 0, fmt.Errorf("receive: %w: frame %d: %w", ErrBroken, r.rd.pos.Frame, err)
		}
		if f.Last() <= r.cfg.Applied.Seq {
			continue
		}
		r.mu.Lock()
		r.stats.Frames++
		r.stats.Bytes += uint64(len(raw))
		r.stats.Op, r.stats.Frame = f.Last(), r.rd.pos.Frame
		r.mu.Unlock()
		return f, r.rd.pos.Frame, nil
	}
}

// joins refuses frames that do not meet what was applied: the first one must not begin
// behind it, and where a frame ends or begins exactly there the chains must be equal.
func (r *Receiver) joins(f *fileop.Frame, first bool) error {
	done := r.cfg.Applied
	switch {
	case first && f.First > done.Seq+1:
		return fmt.Errorf("%w: it begins at operation %d, but only %d are applied", fileop.ErrNotNext, f.First, done.Seq)
	case done.Chain != 0 && f.Last() == done.Seq && f.Chain != done.Chain,
		done.Chain != 0 && f.First == done.Seq+1 && f.Prev != done.Chain:
		return fmt.Errorf("%w: another history than the applied one at operation %d", fileop.ErrNotNext, done.Seq)
	}
	return nil
}

// Received reads what is stored behind Applied, without taking it: what may have been
// applied before a stop that was not clean.
func (r *Receiver) Received(ctx context.Context) iter.Seq2[fileop.Frame, error] {
	return func(yield func(fileop.Frame, error) bool) {
		last, err := r.Last(ctx)
		if err != nil {
			yield(fileop.Frame{}, err)
			return
		}
		for i := r.cfg.Applied.Frame + 1; i <= last.Frame; i++ {
			f, err := r.st.frame(ctx, i)
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// Frame reads frame i of the queue, without taking it.
func (r *Receiver) Frame(ctx context.Context, i uint64) (fileop.Frame, error) {
	ctx, cancel := r.until(ctx)
	defer cancel()
	return r.st.frame(ctx, i)
}

// until ends with ctx and with the receiver.
func (r *Receiver) until(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.ctx, func() { cancel(context.Cause(r.ctx)) })
	return ctx, func() { stop(); cancel(nil) }
}

// purgeEvery spaces the purges of T, each of which costs some milliseconds.
const purgeEvery = 250 * time.Millisecond

// Purge forgets the frames before frame, which is applied and durable; frame itself
// stays. It happens within a quarter of a second: calls in quick succession are gathered.
func (r *Receiver) Purge(frame uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = max(r.keep, frame)
	if r.closed || r.later {
		return
	}
	r.later = true
	r.purges.Add(1)
	time.AfterFunc(max(0, purgeEvery-time.Since(r.st.purgedAt())), r.purge)
}

func (r *Receiver) purge() {
	defer r.purges.Done()
	r.mu.Lock()
	r.later = false
	keep := r.keep
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, storeTimeout)
	defer cancel()
	failpoint.Hit(failpoint.PurgeBefore)
	defer failpoint.Hit(failpoint.PurgeAfter)
	if err := r.st.purge(ctx, keep); err != nil && r.ctx.Err() == nil {
		// Frames that stay too long are no damage; the next purge takes them too.
		r.log.Warn("target queue not trimmed", "connection", r.cfg.Connection, "err", err)
	}
}

// Stats may be called at any time.
func (r *Receiver) Stats() ReceiverStats {
	_, pending, _ := r.mirSub.Pending()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.MirrorPending = pending
	return s
}

// Close ends Next and NextMirror with ErrClosed. What is stored stays.
func (r *Receiver) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	keep := r.keep
	r.mu.Unlock()
	r.purges.Wait()
	err := r.st.purge(ctx, keep)
	r.stop()
	r.release()
	return err
}

func (r *Receiver) release() {
	r.end(fmt.Errorf("receiver %s: %w", r.cfg.Connection, ErrClosed))
	if r.rd != nil {
		r.rd.close()
	}
	if r.via != nil {
		r.via.close()
	}
	r.st.close()
	if r.mirConn != nil {
		r.st.srv.disconnect(r.mirConn)
	}
}

// Delete closes the receiver and deletes the queue with everything in it.
func (r *Receiver) Delete(ctx context.Context) error {
	r.mu.Lock()
	r.keep = 0 // no purge of what is deleted
	r.mu.Unlock()
	return errors.Join(r.Close(ctx), r.st.delete(ctx))
}
