package applier

import "understudy/fileop"

// choice is what the deciding goroutine does next.
type choice uint8

const (
	wait        choice = iota
	applyQueue         // the queue's next record
	applyMirror        // the mirror lane's next record
	dropMirror         // it was given up, and later operations are applied already
)

// decide merges the lanes. q and m are the next records, nil if none is there yet;
// applied and mirrored are the last ones executed; mirror records up to aborted are not
// waited for.
//
// A queue record was logged after q.Other mirror records, a mirror record after m.Other
// queue records, so at most one of the two can be next, and it is the same one however
// the lanes arrive.
func decide(applied, mirrored, aborted fileop.Seq, q, m *fileop.Op) choice {
	if m != nil {
		if m.Seq <= mirrored {
			return dropMirror
		}
		next := m.Seq == mirrored+1 || m.Seq-1 <= aborted
		if next && m.Other <= applied {
			return applyMirror
		}
	}
	if q != nil && (q.Other <= max(mirrored, aborted) || q.Kind == fileop.MirrorAbort) {
		return applyQueue
	}
	return wait
}
