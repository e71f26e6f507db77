package stream

import (
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"understudy/fileop"
)

// records holds buffers in which records are encoded before the lock is taken.
var records = sync.Pool{New: func() any { return new([]byte) }}

// Put appends op to the queue lane, sets its numbers and returns its own. It copies
// what it needs and never blocks. Once a record could not be logged the history has a
// hole, so the journal takes nothing after it: see Failed.
func (j *Journal) Put(op *fileop.Op) (fileop.Seq, error) { return j.put(op, fileop.LaneQueue) }

// PutMirror appends op to the mirror lane, as Put. A record that cannot be logged is an
// error of the call alone.
func (j *Journal) PutMirror(op *fileop.Op) (fileop.Seq, error) { return j.put(op, fileop.LaneMirror) }

func (j *Journal) put(op *fileop.Op, lane fileop.Lane) (_ fileop.Seq, err error) {
	defer func() {
		if err != nil && lane == fileop.LaneQueue {
			j.forsake()
		}
	}()
	if p := j.err.Load(); p != nil {
		return 0, *p
	}
	if lane == fileop.LaneQueue {
		j.stamp(op)
	}
	buf := records.Get().(*[]byte)
	rec, err := encode((*buf)[:0], op, lane)
	if err != nil {
		if lane == fileop.LaneQueue {
			j.fail(fmt.Errorf("log operation: %w", err))
		}
		return 0, fmt.Errorf("log record: %w", err)
	}
	var crc uint32
	if j.cfg.Tail != nil && lane == fileop.LaneQueue {
		crc = crc32.Checksum(rec, castagnoli)
	}
	j.mu.Lock()
	var wake bool
	if lane == fileop.LaneQueue {
		wake, err = j.addQueue(op, rec, crc)
	} else {
		wake, err = j.addMirror(op, rec)
	}
	j.mu.Unlock()
	*buf = rec
	records.Put(buf)
	if err != nil {
		if lane == fileop.LaneQueue && !errors.Is(err, ErrClosed) {
			j.fail(err)
			return 0, j.Err()
		}
		return 0, err
	}
	if wake {
		poke(j.wake)
	}
	return op.Seq, nil
}

// stampEvery is how fine the moments in the log are. Each time costs ten bytes.
const stampEvery = time.Millisecond

// stamp gives op the time of this machine's clock, unless an operation before it got the
// same, to within stampEvery.
func (j *Journal) stamp(op *fileop.Op) {
	now := time.Now()
	last := j.stamped.Load()
	if at := now.UnixNano(); !op.Time.IsZero() || at >= last && at-last < int64(stampEvery) || !j.stamped.CompareAndSwap(last, at) {
		return
	}
	op.Time = fileop.Time{Sec: now.Unix(), Nsec: uint32(now.Nanosecond())}
}

func encode(b []byte, op *fileop.Op, lane fileop.Lane) ([]byte, error) {
	if err := op.Check(); err != nil {
		return nil, err
	}
	if op.Kind.Lane() != lane {
		return nil, fmt.Errorf("%w: %s in the wrong lane", fileop.ErrInvalid, op.Kind)
	}
	b = fileop.AppendRecord(b, op)
	if len(b) > maxRecord {
		return nil, fmt.Errorf("%w: %s of %d bytes", fileop.ErrTooLarge, op.Kind, len(b))
	}
	return b, nil
}

// addQueue gives op its number and place. It reports whether Run must look. Callers hold mu.
func (j *Journal) addQueue(op *fileop.Op, rec []byte, crc uint32) (wake bool, err error) {
	if j.closed {
		return false, fmt.Errorf("journal %s: %w", j.cfg.Connection, ErrClosed)
	}
	if n := j.unstored.Load() + int64(len(rec)); n > j.memoryMax.Load() {
		return false, fmt.Errorf("%w: %d bytes wait in memory for the store", ErrFull, n)
	}
	op.Seq, op.Other = j.queue.Next(), j.mirror.Next()-1
	if j.tail != nil {
		if err := j.tail.put(op.Seq, op.Other, op.Tree, op.Token, rec, crc); err != nil {
			return false, err
		}
	}
	if op.Kind == fileop.MirrorAbort {
		j.dropMirror()
	}
	if op.Kind != fileop.Task {
		return j.appendQueue(rec, op.Other), nil
	}
	j.sealQueue(time.Now()) // a task has a frame of its own: nothing waits with it that came before
	j.appendQueue(rec, op.Other)
	j.sealQueue(time.Now())
	return true, nil
}

// appendQueue adds a record to the frame being built. Callers hold mu.
func (j *Journal) appendQueue(rec []byte, other fileop.Seq) (wake bool) {
	b := j.queue
	if !b.Fits(len(rec)) {
		j.sealQueue(time.Now())
		wake = true
	}
	if b.Count() == 0 {
		j.queueAt = time.Now()
		wake = true
	}
	before := b.Size()
	b.Add(rec, other)
	j.unstored.Add(int64(b.Size() - before))
	j.counts.ops++
	if b.Size() >= flushBytes || b.Count() >= flushRecords {
		j.sealQueue(time.Now())
		wake = true
	}
	return wake
}

func (j *Journal) addMirror(op *fileop.Op, rec []byte) (wake bool, err error) {
	if j.closed {
		return false, fmt.Errorf("journal %s: %w", j.cfg.Connection, ErrClosed)
	}
	if j.mirBytes > 2*j.cfg.MirrorWindow+mirrorSlack {
		return false, fmt.Errorf("%w: %d bytes under way", ErrNoCredit, j.mirBytes)
	}
	b := j.mirror
	if !b.Fits(len(rec)) {
		j.sealMirror(time.Now())
	}
	if b.Count() == 0 {
		j.mirrorAt = time.Now()
		wake = true
	}
	op.Other = j.queue.Next() - 1
	if j.tail != nil {
		j.tail.logMirror(b.Next())
	}
	before := b.Size()
	op.Seq = b.Add(rec, op.Other)
	j.mirBytes += int64(b.Size() - before)
	j.counts.mirrorRecords++
	if b.Size() >= flushBytes || b.Count() >= flushRecords {
		j.sealMirror(time.Now())
	}
	return wake, nil
}

// sealQueue moves the frame being built to the frames that wait. Callers hold mu.
func (j *Journal) sealQueue(now time.Time) {
	f := seal(j.queue, j.queueAt)
	if f.data == nil {
		return
	}
	j.mem.push(f)
	if j.cfg.OnSeal != nil {
		j.cfg.OnSeal(f.last, f.at)
	}
	j.queueSeal.sealed(now)
	j.counts.bytes += uint64(len(f.data))
}

// sealMirror moves the mirror frame being built to those the transmitter takes. Callers hold mu.
func (j *Journal) sealMirror(now time.Time) {
	f := seal(j.mirror, j.mirrorAt)
	if f.data == nil {
		return
	}
	if len(f.data) > smallFrame {
		j.reuse()
	}
	j.out.push(f)
	if j.tail != nil {
		j.tail.sealMirror(f.last, f.end)
	}
	j.flying = append(j.flying, mirrorFlight{f.last, int64(len(f.data))})
	j.mirSeal.sealed(now)
	poke(j.feed)
}

// Pace says how long a writer should wait before its next operation, so that it does
// not fill the memory faster than the disk empties it: nothing below half of MemoryMax,
// up to 5 ms near it.
func (j *Journal) Pace() time.Duration {
	half := j.memoryMax.Load() / 2
	over := j.unstored.Load() - half
	if over <= 0 {
		return 0
	}
	return min(maxPace, time.Duration(over*int64(maxPace)/half))
}

const maxPace = 5 * time.Millisecond
