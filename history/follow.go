package history

import (
	"time"

	"understudy/fileop"
)

// Mark is a label in the log.
type Mark struct {
	Label string       `json:"label"`
	Epoch fileop.Epoch `json:"epoch"`
	Op    fileop.Seq   `json:"op"`
	Time  time.Time    `json:"time"` // by the source's clock
}

// MarkPrefix begins the path of the Barriers that are labels for people.
const MarkPrefix = "mark:"

// Span is a run of operations of one epoch after each of which the replica was a past
// moment of the source. Times are the source's.
type Span struct {
	Epoch    fileop.Epoch `json:"epoch"`
	From     fileop.Seq   `json:"from"`
	To       fileop.Seq   `json:"to"`
	FromTime time.Time    `json:"from_time"`
	ToTime   time.Time    `json:"to_time"`
}

// follower is what the operations so far say about the replica's state. It is a plain
// value: a copy goes on from there.
type follower struct {
	Epoch  fileop.Epoch `json:"epoch"`
	Ended  bool         `json:"ended"` // the epoch's end is in the log
	Queue  fileop.Seq   `json:"queue"` // last operation
	Chain  fileop.Chain `json:"chain"` // of its frame
	Mirror fileop.Seq   `json:"mirror"`
	Run    int64        `json:"run"`
	Broken bool         `json:"broken"`
	Whole  bool         `json:"whole"`
	Now    time.Time    `json:"now"`  // the source's clock at the last operation
	From   fileop.Seq   `json:"from"` // operations before are in the base
}

// seen is what one frame adds for listings.
type seen struct {
	spans []Span
	marks []Mark
}

// frame follows the operations of a queue frame; arrived stands in for the source's clock
// where no operation told it yet.
func (w *follower) frame(f *fileop.Frame, arrived time.Time, out *seen) error {
	r := f.Records()
	var op fileop.Op
	for {
		ok, err := r.Next(&op)
		if err != nil || !ok {
			return err
		}
		if w.Now.IsZero() && op.Time.IsZero() {
			w.Now = arrived
		}
		w.op(&op, out)
	}
}

func (w *follower) op(op *fileop.Op, out *seen) {
	if !op.Time.IsZero() {
		if t := time.Unix(op.Time.Sec, int64(op.Time.Nsec)); t.After(w.Now) {
			w.Now = t // the moments of a log do not go back where a clock does
		}
	}
	switch op.Kind {
	case fileop.Gap:
		w.Whole, w.Run, w.Broken = false, 0, false
	case fileop.MirrorBegin:
		w.Run, w.Broken = max(op.Len, 1), false
	case fileop.MirrorAbort:
		if op.Len == 0 || op.Len == w.Run {
			w.Run, w.Broken = 0, false
		}
	case fileop.MirrorEnd:
		if w.Run == max(op.Len, 1) && w.Run != 0 {
			w.Whole = w.Whole || !w.Broken
			w.Run = 0
		}
	case fileop.Barrier:
		if label, ok := markOf(op); ok && op.Seq >= w.From {
			out.marks = append(out.marks, Mark{label, w.Epoch, op.Seq, w.Now.UTC()})
		}
	}
	w.Queue = op.Seq
	if w.Whole && op.Seq >= w.From {
		out.spans = extend(out.spans, Span{w.Epoch, op.Seq, op.Seq, w.Now.UTC(), w.Now.UTC()})
	}
}

func markOf(op *fileop.Op) (string, bool) {
	if op.Kind != fileop.Barrier || len(op.Data) > 0 || len(op.Path) <= len(MarkPrefix) || op.Path[:len(MarkPrefix)] != MarkPrefix {
		return "", false
	}
	return op.Path[len(MarkPrefix):], true
}

// extend appends s to the spans, or lets the last one reach further.
func extend(spans []Span, s Span) []Span {
	if n := len(spans) - 1; n >= 0 && spans[n].Epoch == s.Epoch && spans[n].To+1 >= s.From && spans[n].To <= s.To {
		spans[n].To, spans[n].ToTime = s.To, s.ToTime
		return spans
	}
	return append(spans, s)
}
