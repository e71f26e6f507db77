package history

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/fileop"
)

const epoch fileop.Epoch = 7

// frame makes one frame of labels behind what b made before.
func frame(t testing.TB, b *fileop.Builder, labels ...string) fileop.Frame {
	t.Helper()
	for i, l := range labels {
		at := time.Unix(1_000_000+int64(b.Next()), int64(i))
		rec := fileop.AppendRecord(nil, &fileop.Op{Kind: fileop.Barrier, Path: MarkPrefix + l, Time: fileop.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}})
		b.Add(rec, 0)
	}
	_, _, raw := b.Finish()
	f, err := fileop.ParseFrame(raw)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func create(t testing.TB) (*Log, *fileop.Builder, string, Start) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	start := Start{Epoch: epoch, Time: time.Unix(1_000_000, 0), Whole: true}
	l, err := Create(dir, start)
	if err != nil {
		t.Fatal(err)
	}
	return l, fileop.NewBuilder(fileop.LaneQueue, epoch, 1, 0), dir, start
}

func add(t testing.TB, l *Log, f fileop.Frame, index uint64) {
	t.Helper()
	if err := l.Append(&f, index); err != nil {
		t.Fatal(err)
	}
}

// read returns the numbers of the frames of the queue lane.
func read(t testing.TB, l *Log) (out []fileop.Seq) {
	t.Helper()
	es, err := l.Epochs(epoch)
	if err != nil {
		t.Fatal(err)
	}
	r := l.Lane(es[0], true, fileop.LaneQueue, 0, All)
	defer r.Close()
	for {
		f, _, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f.First)
	}
}

// TestTornEndIsCutOff (G91): whatever is missing at the end after a power cut, the log opens
// with what is whole, and goes on from there.
func TestTornEndIsCutOff(t *testing.T) {
	l, b, dir, start := create(t)
	frames := []fileop.Frame{frame(t, b, "a", "b"), frame(t, b, "c"), frame(t, b, "d")}
	sizes := []int64{0}
	for i, f := range frames {
		add(t, l, f, uint64(i+1))
		sizes = append(sizes, l.Bytes())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, fmt.Sprintf("%016x.log", 1))
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(raw); cut >= 0; cut -= 5 {
		if err := os.WriteFile(name, raw[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(dir, start)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		whole := 0
		for whole < len(frames) && sizes[whole+1] <= int64(cut) {
			whole++
		}
		if got := read(t, l); len(got) != whole {
			t.Fatalf("cut at %d: %d frames, want %d", cut, len(got), whole)
		}
		for i, f := range frames { // those that are there are passed over
			add(t, l, f, uint64(i+1))
		}
		if got := read(t, l); len(got) != len(frames) {
			t.Fatalf("cut at %d: %d frames after they came again", cut, len(got))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGapEndsTheLog (G91): a frame that is not the successor, and an epoch that begins
// before the end of the last, are no part of the past.
func TestGapEndsTheLog(t *testing.T) {
	l, b, _, _ := create(t)
	add(t, l, frame(t, b, "a"), 1)
	frame(t, b, "lost")
	f := frame(t, b, "c")
	if err := l.Append(&f, 3); !errors.Is(err, ErrGap) {
		t.Errorf("a gap: %v", err)
	}
	if err := l.Append(&f, 3); !errors.Is(err, ErrGap) {
		t.Errorf("after a gap: %v", err)
	}
	l, _, _, _ = create(t)
	if err := l.Begin(epoch + 1); !errors.Is(err, ErrGap) {
		t.Errorf("an epoch without the end of the last: %v", err)
	}
	l, b, _, _ = create(t)
	add(t, l, frame(t, b, "a"), 1)
	if err := errors.Join(l.EndEpoch(End{Epoch: epoch, Applied: 1}), l.Begin(epoch+1)); err != nil {
		t.Errorf("an epoch behind the end of the last: %v", err)
	}
}

// TestMoments finds operations by number, label and time, over segments and what was
// dropped.
func TestMoments(t *testing.T) {
	defer func(n int64) { SegmentBytes = n }(SegmentBytes)
	SegmentBytes = 400
	l, b, dir, _ := create(t)
	for i := range 40 {
		add(t, l, frame(t, b, fmt.Sprint(i+1)), uint64(i+1))
	}
	check := func(what string, from fileop.Seq) {
		t.Helper()
		for op := fileop.Seq(1); op <= 40; op++ {
			byOp, err1 := l.FindOp(0, op)
			byLabel, err2 := l.FindLabel(fmt.Sprint(op))
			byTime, err3 := l.FindTime(time.Unix(1_000_000+int64(op), 500))
			if op < from {
				if !errors.Is(err1, ErrNoMoment) || !errors.Is(err2, ErrNoMoment) || !errors.Is(err3, ErrNoMoment) {
					t.Errorf("%s: dropped operation %d: %v, %v, %v", what, op, err1, err2, err3)
				}
				continue
			}
			if op == from && from > 1 { // its mark went with its segment
				byLabel, err2 = byOp, nil
			}
			if err := errors.Join(err1, err2, err3); err != nil || byOp.Op != op || byLabel.Op != op || byTime.Op != op {
				t.Errorf("%s: operation %d: %v %v %v, %v", what, op, byOp, byLabel, byTime, err)
			}
		}
	}
	check("all", 1)
	segs := l.Segments()
	if len(segs) < 5 {
		t.Fatalf("%d segments", len(segs))
	}
	start := Start{Epoch: epoch, Op: segs[2].Op, Time: segs[2].End.Now, Whole: true}
	l.SetStart(start)
	if err := l.Drop(segs[3].No); err != nil {
		t.Fatal(err)
	}
	check("trimmed", start.Op)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if l, err = Open(dir, start); err != nil {
		t.Fatal(err)
	}
	check("opened again", start.Op)
}

// TestMirroredBefore (G90): a moment has the mirror records logged before its operation, and
// none of those behind it.
func TestMirroredBefore(t *testing.T) {
	defer func(n int64) { SegmentBytes = n }(SegmentBytes)
	SegmentBytes = 300
	l, b, _, start := create(t)
	rec := fileop.AppendRecord(nil, &fileop.Op{Kind: fileop.Barrier, Path: "x"})
	others := []fileop.Seq{0, 3, 3, 8, 8, 8, 9}
	for i := 0; i < len(others); i += 2 {
		for _, o := range others[i:min(i+2, len(others))] {
			b.Add(rec, o)
		}
		_, _, raw := b.Finish()
		f, err := fileop.ParseFrame(raw)
		if err != nil {
			t.Fatal(err)
		}
		add(t, l, f, uint64(i/2+1))
	}
	for i, want := range others {
		if got, err := l.Mirrored(Moment{Epoch: epoch, Op: fileop.Seq(i + 1)}); err != nil || got != want {
			t.Errorf("operation %d: mirror record %d, %v; want %d", i+1, got, err, want)
		}
	}
	for _, s := range l.Segments() {
		if s.Ops == 0 {
			continue
		}
		if got, err := l.MirroredAt(s.No, epoch, s.Op); err != nil || got != others[s.Op-1] {
			t.Errorf("end of segment %d, operation %d: mirror record %d, %v", s.No, s.Op, got, err)
		}
	}
	start.Op, start.Mirror = 4, 8
	l.SetStart(start)
	if got, err := l.Mirrored(Moment{Epoch: epoch, Op: 4}); err != nil || got != 8 {
		t.Errorf("the base's own operation: %d, %v", got, err)
	}
	if _, err := l.Mirrored(Moment{Epoch: epoch, Op: 99}); !errors.Is(err, ErrNoMoment) {
		t.Errorf("an operation to come: %v", err)
	}
}

// TestVoidRecordsAreLeftOut (G90): mirror records that the log got and a stopped replica never
// applied are no part of the past, also after the log was opened again.
func TestVoidRecordsAreLeftOut(t *testing.T) {
	l, _, dir, start := create(t)
	b := fileop.NewBuilder(fileop.LaneMirror, epoch, 1, 0)
	rec := fileop.AppendRecord(nil, &fileop.Op{Kind: fileop.MirrorBlock, Obj: fileop.ObjID{Ino: 1, Gen: 1}, Data: []byte("x")})
	two := func() fileop.Frame {
		b.Add(rec, 0)
		b.Add(rec, 0)
		_, _, raw := b.Finish()
		f, err := fileop.ParseFrame(raw)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for range 3 {
		add(t, l, two(), 0)
	}
	if err := l.Void(3); err != nil {
		t.Fatal(err)
	}
	add(t, l, two(), 0)
	if err := errors.Join(l.Void(8), l.Close()); err != nil { // nothing is void then
		t.Fatal(err)
	}
	l, err := Open(dir, start)
	if err != nil {
		t.Fatal(err)
	}
	es, err := l.Epochs(epoch)
	if err != nil {
		t.Fatal(err)
	}
	r := l.Lane(es[0], true, fileop.LaneMirror, 0, All)
	defer r.Close()
	var got []fileop.Seq
	for {
		f, _, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for s := f.First; s <= f.Last(); s++ {
			got = append(got, s)
		}
	}
	if fmt.Sprint(got) != "[1 2 3 7 8]" {
		t.Errorf("mirror records %v", got)
	}
}
