package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"understudy/fileop"
)

// errEnd: nothing more is stored.
var errEnd = errors.New("end of the history")

// cursor reads records from one segment on. One goroutine uses it.
type cursor struct {
	l   *Log
	no  uint64
	f   *os.File
	buf *bufio.Reader
	off int64

	mirror bool // segments without mirror records and borders of epochs are passed over
}

func (l *Log) read(no uint64) *cursor { return &cursor{l: l, no: no} }

// extent is what a reader needs to know of a segment.
type extent struct {
	bytes  int64 // it may be read so far
	last   bool  // none follows
	mirror bool  // it holds mirror records or borders of epochs
}

func (l *Log) extent(no uint64) (extent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := int(no - l.segs[0].No) // they are numbered without a gap
	if no < l.segs[0].No || i >= len(l.segs) {
		return extent{}, fmt.Errorf("%w: segment %d", ErrDropped, no)
	}
	s := l.segs[i]
	return extent{s.Bytes, i == len(l.segs)-1, s.Mirror}, nil
}

// next is the next record; its body is the caller's. errEnd: there is none yet.
func (r *cursor) next() (h head, body []byte, err error) {
	for {
		s, err := r.l.extent(r.no)
		if err != nil {
			return h, nil, err
		}
		if r.off < s.bytes && (s.mirror || !r.mirror) {
			return r.record()
		}
		if s.last {
			return h, nil, errEnd
		}
		r.close()
		r.no, r.off = r.no+1, 0
	}
}

func (r *cursor) record() (h head, body []byte, err error) {
	if r.f == nil {
		if r.f, err = os.Open(r.l.path(r.no)); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: %w", ErrDropped, err)
			}
			return h, nil, err
		}
		r.buf = bufio.NewReaderSize(r.f, 256<<10)
	}
	var hb [headSize]byte
	if _, err := io.ReadFull(r.buf, hb[:]); err != nil {
		return h, nil, r.damaged(err)
	}
	if h, err = parseHead(hb[:]); err != nil {
		return h, nil, r.damaged(err)
	}
	body = make([]byte, h.size)
	if _, err := io.ReadFull(r.buf, body); err != nil {
		return h, nil, r.damaged(err)
	}
	if err := h.check(body); err != nil {
		return h, nil, r.damaged(err)
	}
	r.off += int64(headSize + h.size)
	return h, body, nil
}

func (r *cursor) damaged(err error) error {
	return fmt.Errorf("%w: segment %d at byte %d: %w", ErrDamaged, r.no, r.off, err)
}

func (r *cursor) close() {
	if r.f != nil {
		r.f.Close()
		r.f, r.buf = nil, nil
	}
}

// Epoch is the part of a log that belongs to one epoch.
type Epoch struct {
	Epoch fileop.Epoch
	First uint64 // segment it begins in
	End   *End   // nil: it goes on
	void  []End  // mirror records behind Applied up to Mirror were never applied
}

// Epochs lists the epochs from segment no on that hold records behind from, oldest first.
func (l *Log) Epochs(from fileop.Epoch) (out []Epoch, err error) {
	segs := l.Segments()
	if len(segs) == 0 {
		return nil, nil
	}
	at, err := l.before(segs, 0)
	if err != nil {
		return nil, err
	}
	out = append(out, Epoch{Epoch: at.Epoch, First: segs[0].No})
	if at.Ended {
		out[0].End = &End{at.Epoch, at.Queue, at.Mirror}
	}
	for _, s := range segs {
		if !s.Mirror {
			continue
		}
		if out, err = l.borders(out, s.No); err != nil {
			return nil, err
		}
	}
	for i := range out {
		if out[i].Epoch == from {
			return out[i:], nil
		}
	}
	return nil, fmt.Errorf("%w: epoch %x is not in it", ErrNoMoment, from)
}

// borders adds the begins and ends of epochs in one segment.
func (l *Log) borders(out []Epoch, no uint64) ([]Epoch, error) {
	r := l.read(no)
	defer r.close()
	for {
		h, body, err := r.next()
		if err == errEnd || err == nil && r.no != no {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if h.kind == kindFrame {
			continue
		}
		e, err := parseEnd(body)
		if err != nil {
			return nil, err
		}
		switch last := &out[len(out)-1]; h.kind {
		case kindBegin:
			out = append(out, Epoch{Epoch: e.Epoch, First: no})
		case kindVoid:
			last.void = append(last.void, e)
		default:
			last.End = &e
		}
	}
}

// Lane reads the frames of one lane of one epoch. One goroutine uses it.
type Lane struct {
	cur   *cursor
	lane  fileop.Lane
	epoch fileop.Epoch
	in    bool
	after fileop.Seq // records up to here are not wanted
	until fileop.Seq // nor those after
	void  []End      // nor these
}

// All is a number behind every record.
const All fileop.Seq = 1 << 62

// Lane opens a reader of the frames that hold records behind after, up to until. first: the
// log begins with this epoch.
func (l *Log) Lane(e Epoch, first bool, lane fileop.Lane, after, until fileop.Seq) *Lane {
	cur := l.read(e.First)
	cur.mirror = lane == fileop.LaneMirror
	return &Lane{cur: cur, lane: lane, epoch: e.Epoch, in: first, after: after, until: until, void: e.void}
}

// Next is the next frame and its index; io.EOF: there is no more.
func (r *Lane) Next() (f fileop.Frame, index uint64, err error) {
	for {
		h, body, err := r.cur.next()
		if err == errEnd {
			return f, 0, io.EOF
		}
		if err != nil {
			return f, 0, err
		}
		if h.kind != kindFrame {
			continue
		}
		if f, err = fileop.ParseFrame(body); err != nil {
			return f, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if f.Epoch != r.epoch {
			if r.in {
				return f, 0, io.EOF
			}
			continue
		}
		r.in = true
		if f.Lane != r.lane || f.Last() <= r.after {
			continue
		}
		if f, err = r.without(f); err != nil || f.Count == 0 {
			if err != nil {
				return f, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			continue
		}
		if f.First > r.until {
			return f, 0, io.EOF
		}
		return f, h.index, nil
	}
}

// without takes from a mirror frame what was never applied.
func (r *Lane) without(f fileop.Frame) (fileop.Frame, error) {
	for _, v := range r.void {
		switch {
		case f.Lane != fileop.LaneMirror || f.Last() <= v.Applied || f.Last() > v.Mirror:
		case f.First > v.Applied:
			return fileop.Frame{}, nil
		default:
			return f.Until(v.Applied)
		}
	}
	return f, nil
}

// Close ends it.
func (r *Lane) Close() { r.cur.close() }
