package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

const (
	// publishTimeout is how long the own store may stay silent. After a full disk a
	// stream answers nothing at all.
	publishTimeout = 10 * time.Second
	// trimEvery and trimSoon space the purges: each costs some milliseconds.
	trimEvery = time.Second
	trimSoon  = 200 * time.Millisecond
)

// Run seals frames, stores them, and trims what the target confirmed, until ctx ends or
// Close is called, then returns nil; or it returns what made the journal fail. It is
// called once.
func (j *Journal) Run(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	j.mu.Lock()
	select {
	case <-j.stop:
		j.mu.Unlock()
		return nil
	default:
	}
	j.running = done
	j.mu.Unlock()
	pub, err := newPublisher(j.st.nc, j.st.subject, j.st.last.Frame, storeWindow, j.stored, func() { poke(j.wake) })
	if err != nil {
		j.fail(err)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return j.publishLoop(ctx, pub) })
	g.Go(func() error { return j.trimLoop(ctx) })
	if err := g.Wait(); err != nil && !errors.Is(err, errStopped) {
		j.fail(err)
		return j.Err()
	}
	return nil
}

// errStopped ends both loops; it is no failure.
var errStopped = errors.New("stopped")

func (j *Journal) publishLoop(ctx context.Context, pub *publisher) error {
	defer func() { pub.close() }()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, err := j.publishDue(pub, j.sealDue(time.Now()))
		if err != nil && j.st.remote && !errors.Is(err, ErrFull) {
			if pub, err = j.regain(ctx, pub, err); err == nil {
				continue
			}
		}
		if err != nil {
			return queueError(err)
		}
		timer.Reset(wait)
		select {
		case <-j.wake:
		case <-timer.C:
		case <-j.failed:
			return j.Err()
		case <-j.stop:
			return errStopped
		case <-ctx.Done():
			return errStopped
		}
	}
}

// publishDue publishes what can be and returns when to look again, at the latest after wait.
func (j *Journal) publishDue(pub *publisher, wait time.Duration) (time.Duration, error) {
	if err := j.publishReady(pub); err != nil {
		return wait, err
	}
	_, stuck, err := pub.state()
	if err != nil || stuck.IsZero() {
		return wait, err
	}
	left := publishTimeout - time.Since(stuck)
	if left <= 0 {
		return wait, fmt.Errorf("%w: no acknowledgement for %v", ErrStore, publishTimeout)
	}
	return min(wait, left), nil
}

// queueError makes a failure of Q one of the two reasons a journal ends for.
func queueError(err error) error {
	if errors.Is(err, ErrFull) || errors.Is(err, ErrBroken) || errors.Is(err, ErrStore) || errors.Is(err, errStopped) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

// sealDue seals what is due and returns how long nothing else will be.
func (j *Journal) sealDue(now time.Time) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	wait := time.Hour
	if j.queue.Count() > 0 {
		due := j.queueSeal.due(now)
		if j.flush || due <= 0 {
			j.sealQueue(now)
		} else {
			wait = due
		}
	}
	j.flush = false
	if j.mirror.Count() > 0 {
		if due := j.mirSeal.due(now); due <= 0 {
			j.sealMirror(now)
		} else {
			wait = min(wait, due)
		}
	}
	return wait
}

// publishReady hands sealed frames to the store as far as the window allows.
func (j *Journal) publishReady(pub *publisher) error {
	for {
		j.mu.Lock()
		f, ok := j.mem.at(j.published + 1)
		j.mu.Unlock()
		if !ok || !pub.room(len(f.data)) {
			return nil // an acknowledgement wakes the loop
		}
		failpoint.Hit(failpoint.StoreBefore)
		if err := pub.publish(f.data, f.at); err != nil {
			return err
		}
		failpoint.Hit(failpoint.StoreAfter)
		j.mu.Lock()
		j.published++
		j.mu.Unlock()
	}
}

// stored notes that Q has frame i.
func (j *Journal) stored(i uint64, f flight) {
	j.mu.Lock()
	j.acked = i
	if m, ok := j.mem.at(i); ok {
		j.ackedSeq = m.last
	}
	if j.tail != nil {
		j.tail.trim(j.ackedSeq)
	}
	j.ackedMem += f.bytes
	j.mem.trim(j.acked, j.confirmed.Frame, &j.ackedMem, int(j.cfg.TailMax))
	more := j.published+1 < j.mem.end()
	j.announce()
	j.mu.Unlock()
	j.unstored.Add(-int64(f.bytes))
	if more {
		poke(j.wake)
	}
	poke(j.feed)
}

// frameState tells the transmitter where frame i is.
type frameState int

const (
	frameAhead  frameState = iota // not stored yet
	frameMemory                   // at hand
	frameStored                   // in Q only
)

func (j *Journal) stateOf(i uint64) (sealed, frameState) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if i > j.acked {
		return sealed{}, frameAhead
	}
	if f, ok := j.mem.at(i); ok {
		return f, frameMemory
	}
	return sealed{}, frameStored
}

// Confirm says that the target has applied everything up to the end of frame, whose
// last operation is seq, and that this survives a power cut. Q may forget it.
func (j *Journal) Confirm(frame uint64, seq fileop.Seq) {
	j.mu.Lock()
	if frame <= j.confirmed.Frame || frame > j.acked {
		j.mu.Unlock()
		return
	}
	j.confirmed = Position{Frame: frame, Seq: seq}
	j.mem.trim(j.acked, frame, &j.ackedMem, int(j.cfg.TailMax))
	j.mu.Unlock()
	poke(j.trimNow)
}

func (j *Journal) trimLoop(ctx context.Context) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return errStopped
		case <-j.stop:
			return errStopped
		case <-j.trimNow:
			if time.Since(j.st.purgedAt()) < trimSoon {
				continue // the tick does it
			}
		case <-tick.C:
			if err := j.checkDisk(); err != nil {
				return err
			}
			j.shrinkTail()
		}
		j.trim(ctx)
	}
}

func (j *Journal) checkDisk() error {
	if j.st.remote {
		return nil
	}
	_, free, err := diskSpace(j.st.srv.cfg.StoreDir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	if low := j.st.srv.cfg.MinFree; free < low {
		return fmt.Errorf("%w: %d bytes free on the disk of %s, at least %d must stay", ErrFull, free, j.st.srv.cfg.StoreDir, low)
	}
	return nil
}

// trim purges what is confirmed and looks at the size of Q. What it cannot do now, it
// does later: a queue that stays too long is no damage.
func (j *Journal) trim(ctx context.Context) {
	purged := j.st.purgedTo()
	j.mu.Lock()
	keep := j.confirmed.Frame
	stale := j.counts.infoFrame != j.acked || keep > purged
	acked := j.acked
	j.mu.Unlock()
	if !stale {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	failpoint.Hit(failpoint.TrimBefore)
	err := j.st.purge(ctx, keep)
	failpoint.Hit(failpoint.TrimAfter)
	var info *jetstream.StreamInfo
	if err == nil {
		info, err = j.st.stream.Info(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			j.log.Warn("queue not trimmed", "connection", j.cfg.Connection, "err", err)
		}
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts.infoFrame, j.counts.infoBytes, j.counts.infoFirst = acked, info.State.Bytes, info.State.FirstTime
}
