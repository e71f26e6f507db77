package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// resume asks T how far it reaches and continues there.
func (t *Transmitter) resume(ctx context.Context) error {
	gen := t.l.Generation()
	pos, err := t.cfg.Last(ctx)
	if err != nil {
		return fmt.Errorf("ask target for its last frame: %w", err)
	}
	if _, at := t.j.stateOf(pos.Frame); pos.Frame > 0 && at == frameAhead {
		return fmt.Errorf("%w: target has frame %d, the source queue does not", ErrBroken, pos.Frame)
	}
	if purged := t.j.confirmedFrame(); pos.Frame < purged {
		return fmt.Errorf("%w: target ends at frame %d, but had confirmed %d", ErrBroken, pos.Frame, purged)
	}
	pub, err := newPublisher(t.l.bulk, targetSubject(t.cfg.Source, t.cfg.Connection, t.j.cfg.Epoch), pos.Frame, transmitWindow,
		t.acked, func() { poke(t.poke) })
	if err != nil {
		return err
	}
	t.pub, t.gen, t.pos = pub, gen, pos
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ops, t.stats.InFlight = nil, 0
	t.stats.Frame, t.stats.Op = pos.Frame, pos.Seq
	t.stats.Resends++
	if _, at := t.j.stateOf(pos.Frame + 1); at == frameAhead {
		t.stats.LastError, t.stats.TargetFull = "", false // nothing is left to send
	}
	if t.lastT.IsZero() {
		t.lastT = time.Now() // how old the first frame is shows when it comes from Q
	}
	return nil
}

func (j *Journal) confirmedFrame() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.confirmed.Frame
}

// nextQueue returns the next queue frame if one can be sent now. It is kept in t.ready
// until it is sent.
func (t *Transmitter) nextQueue(ctx context.Context) (*outgoing, error) {
	if t.pub == nil {
		return nil, nil
	}
	if t.ready == nil {
		q, err := t.fetch(ctx)
		if err != nil || q == nil {
			return nil, err
		}
		t.ready = q
		if q.tasks, err = t.tasks(q.data); err != nil {
			return nil, err
		}
	}
	if t.careful {
		if inFlight, _, _ := t.pub.state(); inFlight > 0 {
			return nil, nil
		}
	}
	if !t.pub.room(len(t.ready.data)) {
		return nil, nil
	}
	return t.ready, nil
}

// fetch takes the frame after t.pos from memory or, when it fell behind, from Q, and
// checks that it is the successor of what T has.
func (t *Transmitter) fetch(ctx context.Context) (*outgoing, error) {
	i := t.pos.Frame + 1
	mem, where := t.j.stateOf(i)
	switch where {
	case frameAhead:
		return nil, nil
	case frameStored:
		return t.fetchStored(ctx)
	}
	if t.rd != nil { // caught up
		t.rd.close()
		t.rd = nil
	}
	f, err := fileop.ParseFrame(mem.data)
	if err == nil {
		err = f.Follows(t.j.cfg.Epoch, t.pos.Seq, t.pos.Chain)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: frame %d: %w", ErrBroken, i, err)
	}
	return &outgoing{data: mem.data, at: mem.at, after: Position{Frame: i, Seq: f.Last(), Chain: f.Chain}}, nil
}

func (t *Transmitter) fetchStored(ctx context.Context) (*outgoing, error) {
	if t.rd == nil || t.rd.pos != t.pos {
		if t.rd != nil {
			t.rd.close()
		}
		var err error
		if t.rd, err = t.j.st.read(ctx, t.pos); err != nil {
			return nil, err
		}
	}
	_, raw, at, err := t.rd.next(ctx, stallCheck)
	if err != nil {
		t.rd.close()
		t.rd = nil
		if errors.Is(err, ErrNoAnswer) { // it should be there
			if lacks := t.j.st.lacks(ctx, t.pos.Frame+1); lacks != nil {
				return nil, lacks
			}
		}
		return nil, err
	}
	t.mu.Lock()
	t.stats.FromDisk++
	t.mu.Unlock()
	return &outgoing{data: raw, at: at, after: t.rd.pos}, nil
}

// balanceMax bounds what one lane can save up against the other, in bytes.
const balanceMax = 1 << 20

// tasks are the Task operations in a frame.
func (t *Transmitter) tasks(data []byte) ([]fileop.Op, error) {
	if t.cfg.BeforeTask == nil {
		return nil, nil
	}
	tasks, err := fileop.FrameTasks(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return tasks, nil
}

// tellTasks lets the tasks of a frame be run for, which may take long.
func (t *Transmitter) tellTasks(ctx context.Context, q *outgoing) error {
	for i := range q.tasks {
		t.cfg.BeforeTask(ctx, q.after.Frame, &q.tasks[i])
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(q.tasks) > 0:
		return t.checkPublisher()
	}
	return nil
}

func (t *Transmitter) sendQueue(ctx context.Context, q *outgoing) error {
	if err := t.pass(ctx, len(q.data)); err != nil || t.pub == nil {
		return err
	}
	if err := t.tellTasks(ctx, q); err != nil || t.pub == nil {
		return err
	}
	t.balance = max(t.balance-float64(len(q.data)), -balanceMax)
	t.mu.Lock()
	t.ops = append(t.ops, q.after.Seq)
	t.stats.WireBytes += uint64(len(q.data) + wireOverhead)
	t.stats.InFlight += len(q.data)
	t.mu.Unlock()
	failpoint.Hit(failpoint.PublishBefore)
	if err := t.pub.publish(q.data, q.at); err != nil {
		return err
	}
	failpoint.Hit(failpoint.PublishAfter)
	t.pos, t.ready = q.after, nil
	return nil
}

func (t *Transmitter) sendMirror(ctx context.Context, n uint64, data []byte) error {
	if err := t.pass(ctx, len(data)); err != nil {
		return err
	}
	if !t.l.Up() {
		return nil
	}
	t.balance = min(t.balance+float64(len(data))/math.Float64frombits(t.weight.Load()), balanceMax)
	if err := t.l.bulk.Publish(mirrorSubject(t.cfg.Source, t.cfg.Connection, t.j.cfg.Epoch), data); err != nil {
		return fmt.Errorf("send mirror frame: %w", connError(err))
	}
	t.j.takeMirror(n)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.MirrorBytes += uint64(len(data))
	t.stats.WireBytes += uint64(len(data) + wireOverhead)
	return nil
}

// pass waits at the gate. The wait may be long, so the publisher is looked at again.
func (t *Transmitter) pass(ctx context.Context, n int) error {
	if err := t.cfg.Gate.Wait(ctx, n+wireOverhead); err != nil {
		return fmt.Errorf("%w: %w", errGate, err)
	}
	if t.l.Generation() != t.gen {
		return t.checkPublisher()
	}
	return nil
}

// acked notes that T has frame i.
func (t *Transmitter) acked(i uint64, f flight) {
	failpoint.Hit(failpoint.AckBefore)
	defer failpoint.Hit(failpoint.AckAfter)
	t.mu.Lock()
	t.stats.Frames++
	t.stats.Bytes += uint64(f.bytes)
	t.stats.InFlight = max(0, t.stats.InFlight-f.bytes)
	t.stats.Frame = i
	if len(t.ops) > 0 {
		t.stats.Op, t.ops = t.ops[0], t.ops[1:]
	}
	t.lastT = f.at
	t.stats.LastError, t.stats.TargetFull = "", false
	t.mu.Unlock()
	poke(t.poke)
}

// Stats may be called at any time.
func (t *Transmitter) Stats() TransmitterStats {
	t.mu.Lock()
	s := t.stats
	lastT := t.lastT
	if k := len(t.ops); k > 0 {
		s.OpsInFlight = t.ops[k-1] - s.Op
	}
	t.mu.Unlock()
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	if s.Op >= t.j.queue.Next()-1 {
		return s
	}
	var oldest time.Time
	if f, ok := t.j.mem.at(s.Frame + 1); ok {
		oldest = f.at
	} else if s.Frame >= t.j.mem.end()-1 {
		oldest = t.j.queueAt
	} else {
		oldest = lastT
	}
	if !oldest.IsZero() {
		s.Lag = time.Since(oldest)
	}
	return s
}
