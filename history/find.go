package history

import (
	"fmt"
	"path/filepath"
	"time"

	"understudy/fileop"
)

// Moment is one operation of a log.
type Moment struct {
	Epoch fileop.Epoch
	Op    fileop.Seq
	Time  time.Time // by the source's clock
}

// Segments are plain copies of the log's segments, oldest first.
func (l *Log) Segments() []Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Segment, 0, len(l.segs))
	for i, s := range l.segs {
		c := *s
		if i == len(l.segs)-1 {
			c.close(l.at)
			c.Spans, c.Marks = append([]Span(nil), s.Spans...), append([]Mark(nil), s.Marks...)
		}
		out = append(out, c)
	}
	return out
}

// Bytes is the size of the log.
func (l *Log) Bytes() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		n += s.Bytes
	}
	return n
}

// Spans are the operations after which the replica was a past moment of the source, as
// runs, oldest first. The first is the base's own.
func (l *Log) Spans() (out []Span) {
	start := l.Start()
	if start.Whole {
		out = append(out, Span{start.Epoch, start.Op, start.Op, start.Time, start.Time})
	}
	for _, s := range l.Segments() {
		for _, sp := range start.clip(s.Spans) {
			out = extend(out, sp)
		}
	}
	return out
}

// clip takes away what the base is past.
func (s Start) clip(spans []Span) (out []Span) {
	for _, sp := range spans {
		switch {
		case sp.Epoch == s.Epoch && sp.To < s.Op, sp.Epoch != s.Epoch && sp.ToTime.Before(s.Time):
			continue
		case sp.Epoch == s.Epoch && sp.From < s.Op:
			sp.From, sp.FromTime = s.Op, s.Time
		}
		out = append(out, sp)
	}
	return out
}

// Marks lists the labels, oldest first.
func (l *Log) Marks() (out []Mark) {
	start := l.Start()
	for _, s := range l.Segments() {
		for _, m := range s.Marks {
			if m.Epoch == start.Epoch && m.Op >= start.Op || m.Epoch != start.Epoch && !m.Time.Before(start.Time) {
				out = append(out, m)
			}
		}
	}
	return out
}

// FindOp is operation op of an epoch; zero is the newest epoch that has it.
func (l *Log) FindOp(epoch fileop.Epoch, op fileop.Seq) (Moment, error) {
	spans := l.Spans()
	for i := len(spans) - 1; i >= 0; i-- {
		if s := spans[i]; (epoch == 0 || s.Epoch == epoch) && s.From <= op && op <= s.To {
			return Moment{Epoch: s.Epoch, Op: op}, nil
		}
	}
	return Moment{}, fmt.Errorf("%w: operation %d", ErrNoMoment, op)
}

// FindLabel is the last mark of this name.
func (l *Log) FindLabel(label string) (Moment, error) {
	marks := l.Marks()
	for i := len(marks) - 1; i >= 0; i-- {
		if m := marks[i]; m.Label == label {
			return Moment{m.Epoch, m.Op, m.Time}, nil
		}
	}
	return Moment{}, fmt.Errorf("%w: no mark %q", ErrNoMoment, label)
}

// Last is the last operation of the log after which the replica was whole.
func (l *Log) Last() (Moment, error) {
	spans := l.Spans()
	if len(spans) == 0 {
		return Moment{}, fmt.Errorf("%w: it is empty", ErrNoMoment)
	}
	s := spans[len(spans)-1]
	return Moment{s.Epoch, s.To, s.ToTime}, nil
}

// FindTime is the last operation at or before t, by the source's clock, after which the
// replica was whole.
func (l *Log) FindTime(t time.Time) (found Moment, err error) {
	segs, start := l.Segments(), l.Start()
	for i := len(segs) - 1; i >= 0; i-- {
		spans := start.clip(segs[i].Spans)
		if len(spans) == 0 || spans[0].FromTime.After(t) {
			continue
		}
		if last := spans[len(spans)-1]; !last.ToTime.After(t) {
			return Moment{last.Epoch, last.To, last.ToTime}, nil
		}
		return l.findIn(segs, i, t)
	}
	if start.Whole && !start.Time.After(t) {
		return Moment{start.Epoch, start.Op, start.Time}, nil
	}
	return found, fmt.Errorf("%w: it begins after %s", ErrNoMoment, t.Format(time.RFC3339))
}

// Mirrored is the last mirror record before a moment's operation: later ones, up to the next
// operation, are not part of the moment.
func (l *Log) Mirrored(m Moment) (fileop.Seq, error) {
	if start := l.Start(); m.Epoch == start.Epoch && m.Op <= start.Op {
		return start.Mirror, nil
	}
	for _, s := range l.Segments() {
		for _, sp := range s.Spans {
			if sp.Epoch == m.Epoch && sp.From <= m.Op && m.Op <= sp.To {
				return l.mirroredIn(s.No, m)
			}
		}
	}
	return 0, fmt.Errorf("%w: operation %d", ErrNoMoment, m.Op)
}

// MirroredAt is what Mirrored is for an operation of segment no, also where the replica was no
// past moment.
func (l *Log) MirroredAt(no uint64, epoch fileop.Epoch, op fileop.Seq) (fileop.Seq, error) {
	return l.mirroredIn(no, Moment{Epoch: epoch, Op: op})
}

// mirroredIn looks for the operation of a moment in one segment.
func (l *Log) mirroredIn(no uint64, m Moment) (fileop.Seq, error) {
	r := l.Lane(Epoch{Epoch: m.Epoch, First: no}, false, fileop.LaneQueue, m.Op-1, m.Op)
	defer r.Close()
	f, _, err := r.Next()
	if err != nil {
		return 0, fmt.Errorf("find operation %d: %w", m.Op, err)
	}
	rd := f.Records()
	for {
		var op fileop.Op
		ok, err := rd.Next(&op)
		if err != nil || !ok {
			return 0, fmt.Errorf("%w: operation %d: %w", ErrDamaged, m.Op, err)
		}
		if op.Seq == m.Op {
			return op.Other, nil
		}
	}
}

// findIn reads one segment for the last whole operation at or before t.
func (l *Log) findIn(segs []Segment, i int, t time.Time) (found Moment, err error) {
	at, err := l.before(segs, i)
	if err != nil {
		return found, err
	}
	r := l.read(segs[i].No)
	defer r.close()
	for {
		h, body, err := r.next()
		if err == errEnd || err == nil && r.no != segs[i].No {
			break
		}
		if err != nil {
			return found, err
		}
		if h.kind == kindBegin {
			e, err := parseEnd(body)
			if err != nil {
				return found, err
			}
			at = follower{Epoch: e.Epoch, Now: at.Now}
			continue
		}
		if h.kind != kindFrame {
			continue
		}
		f, err := fileop.ParseFrame(body)
		if err != nil {
			return found, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if f.Lane != fileop.LaneQueue {
			continue
		}
		var out seen
		rd := f.Records()
		for {
			var op fileop.Op
			ok, err := rd.Next(&op)
			if err != nil {
				return found, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			if !ok {
				break
			}
			if at.Now.IsZero() && op.Time.IsZero() {
				at.Now = time.Unix(0, h.at)
			}
			at.op(&op, &out)
			if at.Now.After(t) {
				return found, nil
			}
			if at.Whole {
				found = Moment{at.Epoch, op.Seq, at.Now}
			}
		}
	}
	return found, nil
}

// before is the state segment i begins with.
func (l *Log) before(segs []Segment, i int) (at follower, err error) {
	if i > 0 {
		return segs[i-1].End, nil
	}
	err = readJSON(filepath.Join(l.dir, fromFile), &at)
	return at, err
}
