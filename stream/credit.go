package stream

import (
	"context"
	"fmt"

	"understudy/fileop"
)

// Credit waits until n more bytes of mirror records may be under way: logged, and not
// yet applied by the target. It reserves nothing, so each of several callers may
// overshoot by its own n. Ask before taking a lock.
func (j *Journal) Credit(ctx context.Context, n int) error {
	j.mu.Lock()
	for {
		if err := j.Err(); err != nil {
			j.mu.Unlock()
			return err
		}
		if j.mirBytes == 0 || j.mirBytes+int64(n) <= j.cfg.MirrorWindow {
			j.mu.Unlock()
			return nil
		}
		changed := j.await()
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for mirror credit: %w", context.Cause(ctx))
		}
		j.mu.Lock()
	}
}

// MirrorApplied returns the credit of the mirror records up to k, which the target has
// applied.
func (j *Journal) MirrorApplied(k fileop.Seq) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for n < len(j.flying) && j.flying[n].last <= k {
		j.mirBytes -= j.flying[n].bytes
		n++
	}
	if n > 0 {
		j.flying = j.flying[n:]
		j.announce()
	}
}

// dropMirror forgets the mirror frames not sent yet and returns all credit: with the
// MirrorAbort being logged nobody waits for them. Callers hold mu.
func (j *Journal) dropMirror() {
	if f := seal(j.mirror, j.mirrorAt); f.data != nil && j.tail != nil {
		j.tail.sealMirror(f.last, f.end)
	}
	j.out = window{base: j.out.end()}
	j.flying, j.mirBytes = nil, 0
	j.announce()
}

// peekMirror returns the next mirror frame to send, without taking it.
func (j *Journal) peekMirror() (n uint64, data []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if f, ok := j.out.at(j.out.base); ok {
		return j.out.base, f.data
	}
	return 0, nil
}

// maxSpare is how many buffers of sent mirror frames wait for the next ones: as many as
// are filled while one is sent. Fresh memory for each would cost more than the copy.
const maxSpare = 4

// takeMirror removes mirror frame n, now sent and copied by the connection, unless an
// abort has dropped it.
func (j *Journal) takeMirror(n uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.out.frames) == 0 || j.out.base != n {
		return
	}
	if f := j.out.drop(); len(f.data) > smallFrame && len(j.spare) < maxSpare {
		j.spare = append(j.spare, f.data)
	}
}

// reuse gives the mirror's builder, which has none, the buffer of a frame that was
// sent. Callers hold mu.
func (j *Journal) reuse() {
	if last := len(j.spare) - 1; last >= 0 {
		j.mirror.Recycle(j.spare[last])
		j.spare[last] = nil
		j.spare = j.spare[:last]
	}
}

// MirrorUnderway reports whether mirror frames were sent of which the target has not
// applied every record: they would be lost by a cut.
func (j *Journal) MirrorUnderway() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.flying) > len(j.out.frames)
}
