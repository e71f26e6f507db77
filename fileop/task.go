package fileop

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// TaskPoint is a place at which a task command runs a program (B8.30).
type TaskPoint uint8

// The points, in the order of their moments. The numbers are on the wire.
const (
	OnQueue    TaskPoint = iota // on the source, when the task is in its queue
	OnTransmit                  // on the source, just before the task is sent
	OnReceive                   // on the target, when the task is in its queue
	OnExecute                   // on the target, when everything before the task is applied
	TaskPoints
)

var pointNames = [TaskPoints]string{"onqueue", "ontransmit", "onreceive", "onexecute"}

func (p TaskPoint) String() string {
	if p < TaskPoints {
		return pointNames[p]
	}
	return fmt.Sprintf("point-%d", uint8(p))
}

// Limits of a task.
const (
	MaxTaskArgs  = 64
	MaxTaskBytes = 32 << 10 // of all paths and arguments together
	MaxTaskLimit = 366 * 24 * time.Hour
)

// Forever is the limit of a task that the queue waits for however long it takes.
const Forever time.Duration = -1

// TaskRun is the program of one point.
type TaskRun struct {
	Path string // absolute and clean; "": nothing is run at this point
	Args []string
}

// TaskCommand is what stands in the Data of a Task operation.
type TaskCommand struct {
	ID    uint64 // random, never 0: by it a machine knows what it has run already
	Job   string // the operator's name for it
	User  string // who queued it, for people
	At    int64  // when, by the source's clock, in nanoseconds since 1970
	Limit time.Duration
	Runs  [TaskPoints]TaskRun
}

// jobName: what is safe in logs, names of files aside.
var jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._:-]{0,63}$`)

// Check refuses what cannot be run as it stands.
func (t *TaskCommand) Check() error {
	if t.ID == 0 || len(t.User) > MaxName {
		return fmt.Errorf("%w: task without a number, or of a user of %d bytes", ErrInvalid, len(t.User))
	}
	if !jobName.MatchString(t.Job) {
		return fmt.Errorf("%w: job name %.100q: up to 64 letters, digits, blanks and . _ : -", ErrInvalid, t.Job)
	}
	if t.Limit != Forever && (t.Limit < 0 || t.Limit > MaxTaskLimit) {
		return fmt.Errorf("%w: timeout %v: up to %v", ErrInvalid, t.Limit, MaxTaskLimit)
	}
	programs, bytes := 0, 0
	for p := range t.Runs {
		r := &t.Runs[p]
		if r.Path != "" {
			programs++
		}
		if err := r.check(); err != nil {
			return fmt.Errorf("%s: %w", TaskPoint(p), err)
		}
		bytes += len(r.Path) + len(strings.Join(r.Args, " "))
	}
	if programs == 0 || bytes > MaxTaskBytes {
		return fmt.Errorf("%w: task of %d programs in %d bytes", ErrInvalid, programs, bytes)
	}
	return nil
}

func (r *TaskRun) check() error {
	if r.Path == "" && len(r.Args) == 0 {
		return nil
	}
	if !path.IsAbs(r.Path) || path.Clean(r.Path) != r.Path || len(r.Path) > MaxPath || strings.Contains(r.Path, "\x00") {
		return fmt.Errorf("%w: program %.100q: the absolute path of a file", ErrInvalid, r.Path)
	}
	if len(r.Args) > MaxTaskArgs {
		return fmt.Errorf("%w: %d arguments", ErrTooLarge, len(r.Args))
	}
	for _, a := range r.Args {
		if strings.Contains(a, "\x00") {
			return fmt.Errorf("%w: argument %.100q", ErrInvalid, a)
		}
	}
	return nil
}

// Append encodes t.
func (t *TaskCommand) Append(b []byte) []byte {
	b = appendUint(b, 1, t.ID)
	b = appendString(b, 2, t.Job)
	b = appendString(b, 3, t.User)
	b = appendUint(b, 4, uint64(t.At))
	b = appendUint(b, 5, protowire.EncodeZigZag(int64(t.Limit)))
	for p := range t.Runs {
		if r := &t.Runs[p]; r.Path != "" {
			in := appendUint(nil, 1, uint64(p))
			in = appendString(in, 2, r.Path)
			for _, a := range r.Args {
				in = protowire.AppendString(protowire.AppendTag(in, 3, protowire.BytesType), a)
			}
			b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), in)
		}
	}
	return b
}

// Parse decodes t from b and checks it.
func (t *TaskCommand) Parse(b []byte) error {
	*t = TaskCommand{}
	err := eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			t.ID = v
		case 2:
			t.Job, err = parseString(p, MaxName)
		case 3:
			t.User, err = parseString(p, MaxName)
		case 4:
			t.At = int64(v)
		case 5:
			t.Limit = time.Duration(protowire.DecodeZigZag(v))
		case 6:
			err = t.parseRun(p)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("task: %w", err)
	}
	if err := t.Check(); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	return nil
}

func (t *TaskCommand) parseRun(b []byte) error {
	var r TaskRun
	at := uint64(0)
	err := eachField(b, func(n protowire.Number, v uint64, p []byte) (err error) {
		switch n {
		case 1:
			at = v
		case 2:
			r.Path, err = parseString(p, MaxPath)
		case 3:
			if len(r.Args) >= MaxTaskArgs {
				return fmt.Errorf("%w: over %d arguments", ErrTooLarge, MaxTaskArgs)
			}
			var a string
			a, err = parseString(p, MaxTaskBytes)
			r.Args = append(r.Args, a)
		}
		return err
	})
	if err == nil && (at >= uint64(TaskPoints) || r.Path == "" || t.Runs[at].Path != "") {
		err = fmt.Errorf("%w: program at point %d", ErrInvalid, at)
	}
	if err == nil {
		t.Runs[at] = r
	}
	return err
}

// isTask reports whether an encoded record (AppendRecord) is a Task: the kind comes first.
func isTask(rec []byte) bool {
	return len(rec) > 1 && rec[0] == fKind<<3 && rec[1] == byte(Task)
}

// FrameTasks returns the Task operations of a frame, which are few, without decoding the
// other records. ParseFrame has taken the frame before: its checksums are not looked at.
// Data are slices of it.
func FrameTasks(frame []byte) (out []Op, err error) {
	if len(frame) < HeaderSize || Lane(frame[5]) != LaneQueue {
		return nil, nil
	}
	f := Frame{Header: decodeHeader(frame), Body: frame[HeaderSize:]}
	return f.Tasks()
}

// Tasks is FrameTasks of a frame that is parsed.
func (f *Frame) Tasks() (out []Op, err error) {
	r := f.Records()
	for r.left > 0 {
		at := r
		rec, err := r.skip()
		if err != nil {
			return nil, err
		}
		if !isTask(rec) {
			continue
		}
		var op Op
		if _, err := at.Next(&op); err != nil {
			return nil, err
		}
		out = append(out, op)
	}
	return out, nil
}

// skip passes over the next record and returns it encoded.
func (r *Reader) skip() ([]byte, error) {
	delta, l := protowire.ConsumeVarint(r.rest)
	if l < 0 {
		return nil, fmt.Errorf("%w: record %d: counter", ErrInvalid, r.seq)
	}
	rec, l2 := protowire.ConsumeBytes(r.rest[l:])
	if l2 < 0 {
		return nil, fmt.Errorf("%w: record %d: length", ErrInvalid, r.seq)
	}
	r.rest = r.rest[l+l2:]
	r.other += Seq(delta)
	r.seq++
	r.left--
	return rec, nil
}
