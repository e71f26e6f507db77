package history

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"understudy/fileop"
	"understudy/internal/atomicfile"
)

// SegmentBytes is when a segment is closed and the next one begun: small enough that
// retention follows its limits closely, large enough that a log of 100 GiB has 6,400.
var SegmentBytes int64 = 16 << 20 // changed by tests alone

// maxMarks bounds the marks of one segment that are listed; more stay in the log.
const maxMarks = 4096

// Start is where a log begins: behind the state of its base.
type Start struct {
	Epoch  fileop.Epoch `json:"epoch"`
	Op     fileop.Seq   `json:"op"`     // last operation the base has
	Frame  fileop.Seq   `json:"frame"`  // last operation of the last whole frame before it
	Chain  fileop.Chain `json:"chain"`  // of that frame
	Mirror fileop.Seq   `json:"mirror"` // last mirror record the base has
	Time   time.Time    `json:"time"`   // of that operation
	Whole  bool         `json:"whole"`  // the base is a past moment of the source
}

// fromFile says what the first of the segments begins with.
const fromFile = "from.json"

// Segment is one file of the log.
type Segment struct {
	No     uint64       `json:"no"`
	Bytes  int64        `json:"bytes"`
	Ops    uint64       `json:"ops"`    // operations of the queue lane
	Last   time.Time    `json:"last"`   // when its last record came, by this machine's clock
	Mirror bool         `json:"mirror"` // it holds mirror records or borders of epochs
	Spans  []Span       `json:"spans"`
	Marks  []Mark       `json:"marks"`
	Epoch  fileop.Epoch `json:"epoch"` // at its end
	Op     fileop.Seq   `json:"op"`    // last of that epoch, at its end
	End    follower     `json:"end"`   // what the next one begins with
}

// Log is the frames behind a base. Its methods may be called by several goroutines.
type Log struct {
	dir string

	mu     sync.Mutex // guards what follows
	start  Start
	segs   []*Segment // oldest first; the last one grows
	f      *os.File   // the last one
	at     follower   // the state at the end
	err    error      // why nothing is appended any more
	unsync bool
	buf    []byte
}

func (l *Log) path(no uint64) string    { return filepath.Join(l.dir, fmt.Sprintf("%016x.log", no)) }
func (l *Log) sumPath(no uint64) string { return filepath.Join(l.dir, fmt.Sprintf("%016x.json", no)) }

// Create begins an empty log behind a base.
func Create(dir string, from Start) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	l := &Log{dir: dir, start: from}
	l.at = follower{Epoch: from.Epoch, Queue: from.Frame, Chain: from.Chain, Mirror: from.Mirror, Whole: from.Whole, From: from.Op}
	if err := writeJSON(filepath.Join(dir, fromFile), l.at); err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	return l, l.next(1)
}

// Open goes on with a log whose base stands at start. What is torn at its end is cut off.
func Open(dir string, start Start) (*Log, error) {
	l := &Log{dir: dir, start: start}
	if err := readJSON(filepath.Join(dir, fromFile), &l.at); err != nil {
		return nil, fmt.Errorf("open history: %w: %w", ErrDamaged, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	slices.Sort(names)
	for i, name := range names {
		var no uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "%x.log", &no); err != nil {
			return nil, fmt.Errorf("open history: %w: file %s", ErrDamaged, name)
		}
		if n := len(l.segs); n > 0 && l.segs[n-1].No+1 != no {
			return nil, fmt.Errorf("open history: %w: segment %d is missing", ErrDamaged, no-1)
		}
		if err := l.load(no, i == len(names)-1); err != nil {
			return nil, fmt.Errorf("open history: %w", err)
		}
	}
	if len(l.segs) == 0 {
		return l, l.next(1)
	}
	last := l.segs[len(l.segs)-1]
	if l.f, err = os.OpenFile(l.path(last.No), os.O_RDWR, 0); err == nil {
		_, err = l.f.Seek(last.Bytes, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	return l, nil
}

// load takes a segment's summary, or makes it again. The last one is read whole.
func (l *Log) load(no uint64, last bool) error {
	s := new(Segment)
	if !last && readJSON(l.sumPath(no), s) == nil && s.No == no {
		if st, err := os.Stat(l.path(no)); err == nil && st.Size() == s.Bytes {
			l.segs, l.at = append(l.segs, s), s.End
			return nil
		}
	}
	*s = Segment{No: no}
	raw, err := os.ReadFile(l.path(no))
	if err != nil {
		return err
	}
	rest := raw
	for len(rest) > 0 {
		h, body, err := cut(rest)
		if err == nil {
			err = l.follow(s, &h, body)
		}
		if err != nil && last {
			break
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w", no, err)
		}
		rest = rest[headSize+h.size:]
	}
	s.Bytes = int64(len(raw) - len(rest))
	s.close(l.at)
	l.segs = append(l.segs, s)
	if len(rest) > 0 {
		return os.Truncate(l.path(no), s.Bytes)
	}
	return nil
}

// cut takes the record at the beginning of b.
func cut(b []byte) (h head, body []byte, err error) {
	if h, err = parseHead(b); err != nil {
		return h, nil, err
	}
	if len(b) < headSize+h.size {
		return h, nil, fmt.Errorf("%w: record is cut", ErrDamaged)
	}
	body = b[headSize : headSize+h.size]
	return h, body, h.check(body)
}

func (h *head) check(body []byte) error {
	if len(body) != h.size || crcOf(body) != h.sum {
		return fmt.Errorf("%w: checksum of a record", ErrDamaged)
	}
	return nil
}

// follow accounts for one record in the summary of its segment.
func (l *Log) follow(s *Segment, h *head, body []byte) error {
	s.Last = time.Unix(0, h.at)
	switch h.kind {
	case kindBegin:
		e, err := parseEnd(body)
		l.at = follower{Epoch: e.Epoch, Now: l.at.Now}
		s.Mirror = true
		return err
	case kindEnd:
		e, err := parseEnd(body)
		// What came behind is in the log and was not applied: it does not count.
		l.at.Ended, l.at.Queue, l.at.Mirror, s.Mirror = true, e.Applied, e.Mirror, true
		return err
	}
	if h.kind == kindVoid {
		_, err := parseEnd(body)
		l.at.Broken, s.Mirror = l.at.Broken || l.at.Run != 0, true
		return err
	}
	f, err := fileop.ParseFrame(body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return l.followFrame(s, &f)
}

func (l *Log) followFrame(s *Segment, f *fileop.Frame) error {
	if f.Lane == fileop.LaneMirror {
		l.at.Broken = l.at.Broken || l.at.Run != 0 && f.First != l.at.Mirror+1
		l.at.Mirror, s.Mirror = f.Last(), true
		return nil
	}
	var out seen
	if err := l.at.frame(f, s.Last, &out); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	l.at.Queue, l.at.Chain = f.Last(), f.Chain
	s.Ops += uint64(f.Count)
	for _, sp := range out.spans {
		s.Spans = extend(s.Spans, sp)
	}
	if room := maxMarks - len(s.Marks); room > 0 {
		s.Marks = append(s.Marks, out.marks[:min(room, len(out.marks))]...)
	}
	return nil
}

// close completes a summary.
func (s *Segment) close(at follower) { s.End, s.Epoch, s.Op = at, at.Epoch, at.Queue }

// next begins a segment. Callers hold mu, or nobody knows l yet.
func (l *Log) next(no uint64) error {
	if l.f != nil {
		last := l.segs[len(l.segs)-1]
		last.close(l.at)
		if err := l.f.Sync(); err != nil {
			return fmt.Errorf("sync history: %w", err)
		}
		if err := writeJSON(l.sumPath(last.No), last); err != nil {
			return fmt.Errorf("close segment of the history: %w", err)
		}
		l.f.Close()
		l.f = nil
	}
	f, err := os.OpenFile(l.path(no), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = atomicfile.SyncDir(l.dir)
	}
	if err != nil {
		return fmt.Errorf("begin segment of the history: %w", err)
	}
	l.f, l.segs = f, append(l.segs, &Segment{No: no, Last: time.Now()})
	return nil
}

// Begin is told the epoch whose frames come next. It goes on with the present one, or
// begins another behind the end of that; else it is ErrGap.
func (l *Log) Begin(e fileop.Epoch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.err
	case e == l.at.Epoch && !l.at.Ended:
		return nil
	case !l.at.Ended || e == l.at.Epoch:
		return l.broken(fmt.Errorf("%w: epoch %x begins, and %x has no end", ErrGap, e, l.at.Epoch))
	}
	return l.write(kindBegin, 0, End{Epoch: e}.encode(), nil)
}

// Mirror is the last mirror record of the present epoch.
func (l *Log) Mirror() fileop.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at.Mirror
}

// Void says that the replica goes on behind mirror record after, and never applies those that
// the log has behind it.
func (l *Log) Void(after fileop.Seq) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || after >= l.at.Mirror {
		return l.err
	}
	return l.write(kindVoid, 0, End{Epoch: l.at.Epoch, Applied: after, Mirror: l.at.Mirror}.encode(), nil)
}

// EndEpoch says what the replica has applied of the epoch that ends.
func (l *Log) EndEpoch(e End) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || e.Epoch != l.at.Epoch || l.at.Ended {
		return l.err
	}
	if err := l.write(kindEnd, 0, e.encode(), nil); err != nil {
		return err
	}
	return l.sync()
}

// Append takes a frame; index is its place in the target's queue. One that is here
// already is passed over.
func (l *Log) Append(f *fileop.Frame, index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if f.Epoch != l.at.Epoch || l.at.Ended {
		return l.broken(fmt.Errorf("%w: frame of epoch %x in epoch %x", ErrGap, f.Epoch, l.at.Epoch))
	}
	if f.Lane == fileop.LaneMirror {
		if f.Last() <= l.at.Mirror {
			return nil
		}
		return l.write(kindFrame, 0, nil, f)
	}
	switch {
	case f.Last() == l.at.Queue && f.Chain == l.at.Chain, f.Last() < l.at.Queue:
		return nil
	}
	if err := f.Follows(l.at.Epoch, l.at.Queue, l.at.Chain); err != nil {
		return l.broken(fmt.Errorf("%w: %w", ErrGap, err))
	}
	return l.write(kindFrame, index, nil, f)
}

func (l *Log) broken(err error) error {
	if l.err == nil {
		l.err = err
	}
	return err
}

// write appends a record: body, or the frame f. Callers hold mu. What fails ends the log:
// a hole must not be followed by anything.
func (l *Log) write(kind byte, index uint64, body []byte, f *fileop.Frame) error {
	if s := l.segs[len(l.segs)-1]; s.Bytes >= SegmentBytes {
		if err := l.next(s.No + 1); err != nil {
			return l.broken(err)
		}
	}
	s := l.segs[len(l.segs)-1]
	if f != nil {
		body = f.AppendTo(l.buf[:0])
		l.buf = body
	}
	now := time.Now()
	h := head{kind: kind, size: len(body), sum: crcOf(body), index: index, at: now.UnixNano()}
	var hb [headSize]byte
	if err := writeBoth(l.f, h.append(hb[:0]), body); err != nil {
		return l.broken(fmt.Errorf("append to history: %w", err))
	}
	s.Bytes += int64(headSize + len(body))
	l.unsync = true
	var err error
	if f != nil {
		s.Last = now
		err = l.followFrame(s, f)
	} else {
		err = l.follow(s, &h, body)
	}
	if err != nil {
		return l.broken(err)
	}
	return nil
}

// Sync makes everything appended so far durable.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sync()
}

func (l *Log) sync() error {
	if !l.unsync || l.f == nil {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return l.broken(fmt.Errorf("sync history: %w", err))
	}
	l.unsync = false
	return nil
}

// Err is why the log takes nothing more; nil while it does.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close syncs and closes. Readers go on with what is stored.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.sync()
	err = errors.Join(err, l.f.Close())
	l.f = nil
	l.broken(ErrClosed)
	return err
}

// ErrClosed: the log was closed.
var ErrClosed = errors.New("history is closed")

// SetStart says that the base stands at a later operation now. The caller remembers it.
func (l *Log) SetStart(s Start) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start = s
}

// Start is where the base stands.
func (l *Log) Start() Start {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start
}

// Drop forgets the segments before no. The last one stays.
func (l *Log) Drop(no uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.segs) > 1 && l.segs[0].No < no {
		s := l.segs[0]
		// What the next segment begins with, first: without it its summary could not be
		// made again.
		if err := writeJSON(filepath.Join(l.dir, fromFile), s.End); err != nil {
			return fmt.Errorf("trim history: %w", err)
		}
		if err := os.Remove(l.path(s.No)); err != nil {
			return fmt.Errorf("trim history: %w", err)
		}
		_ = os.Remove(l.sumPath(s.No)) // found at the next Drop of nothing; harmless
		l.segs = l.segs[1:]
	}
	return nil
}
