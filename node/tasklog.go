package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"understudy/control"
	"understudy/fileop"
	"understudy/internal/atomicfile"
)

// What a machine knows of task commands, over restarts. Before a program is started that
// is written down, so that no restart starts it again: each runs at most once. One that
// was under way when the daemon was killed is not repeated but told as interrupted: what
// it did is not known, and a backup or a switch done twice may be worse than one whose
// end a person looks at. A task whose program was not started stays in the queue and runs.

// States of a program.
const (
	taskRunning     = "running"
	taskSucceeded   = "succeeded"
	taskFailed      = "failed"
	taskTimedOut    = "timed out"
	taskIgnored     = "ignored"
	taskInterrupted = "interrupted"
)

// States of a task on its source; on the target it is received.
const (
	taskQueued   = "queued"
	taskDone     = "done"
	taskDropped  = "dropped"
	taskReceived = "received"
)

// maxTasks bounds the tasks that are remembered; the oldest that is over goes.
const maxTasks = 256

// taskRecord is what is known of one task.
type taskRecord struct {
	control.TaskInfo
	Connection string       `json:"connection"` // key
	Epoch      fileop.Epoch `json:"epoch"`
	Frame      uint64       `json:"frame,omitempty"` // of the queue, that holds it; 0: not sent yet

	notified bool // the target was told that it has the task
}

// taskCounts are figures since the start of the daemon (B8.37).
type taskCounts struct {
	Submitted, Queued, Succeeded, Failed, TimedOut, Ignored uint64
}

// taskLog keeps the records. All methods may be called by several goroutines.
type taskLog struct {
	dir string // of the outputs, and of the file
	log *slog.Logger

	mu      sync.Mutex // guards what follows; held while it is written down
	recs    []*taskRecord
	running map[string]chan struct{} // by task and point; closed at the program's end
	wake    chan struct{}            // closed and replaced when a task was added

	countMu sync.Mutex             // guards counts
	counts  map[string]*taskCounts // of a connection ("source." and its key) or a replica (its key)
}

func (l *taskLog) file() string { return filepath.Join(l.dir, "tasks.json") }

// openTasks reads the records. What ran when the daemon ended is interrupted.
func openTasks(data string, log *slog.Logger) (*taskLog, error) {
	l := &taskLog{dir: filepath.Join(data, "tasks"), log: log, running: map[string]chan struct{}{}, counts: map[string]*taskCounts{}, wake: make(chan struct{})}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of tasks: %w", err)
	}
	raw, err := os.ReadFile(l.file())
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = decodeJSON(raw, &l.recs, "records of tasks")
	}
	if err != nil {
		return nil, fmt.Errorf("%w; move %s away: tasks under way may then run again", err, l.file())
	}
	return l, nil
}

// interrupted are the programs that ran when the daemon ended; they are marked so.
func (l *taskLog) interrupted() (list []taskRecord, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recs {
		found := false
		for i := range r.Points {
			if p := &r.Points[i]; p.State == taskRunning {
				p.State, p.Err, p.Ended, found = taskInterrupted, "the daemon ended while it ran", time.Now(), true
			}
		}
		if found {
			list = append(list, *r)
		}
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list, l.store()
}

// store writes the records. l.mu is held.
func (l *taskLog) store() error {
	for len(l.recs) > maxTasks {
		i := slices.IndexFunc(l.recs, (*taskRecord).over)
		if i < 0 {
			break // all of them run: bounded by what may run
		}
		for _, p := range l.recs[i].Points {
			_ = os.Remove(p.File) // a leftover costs 64 KiB
		}
		l.recs = slices.Delete(l.recs, i, i+1)
	}
	raw, err := json.MarshalIndent(l.recs, "", " ")
	if err == nil {
		err = atomicfile.Write(l.file(), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write down tasks: %w", err)
	}
	return nil
}

// over reports that nothing of a task runs.
func (r *taskRecord) over() bool {
	return !slices.ContainsFunc(r.Points, func(p control.TaskPoint) bool { return p.State == taskRunning })
}

func taskName(id uint64) string { return strconv.FormatUint(id, 16) }

// find returns the record of a task. l.mu is held.
func (l *taskLog) find(name string) *taskRecord {
	for _, r := range l.recs {
		if r.Task == name {
			return r
		}
	}
	return nil
}

// add remembers a task, wakes who works on them, and reports whether it was not known.
func (l *taskLog) add(r *taskRecord) (isNew bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.find(r.Task) != nil {
		return false, nil
	}
	own := *r // what is handed around does not change
	l.recs = append(l.recs, &own)
	close(l.wake)
	l.wake = make(chan struct{})
	return true, l.store()
}

// claim writes down that a program is being started. It returns a channel that is closed
// at the end of the program if it runs already, and false if it was started before.
func (l *taskLog) claim(r *taskRecord, p control.TaskPoint) (first bool, running chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch := l.running[r.Task+p.Point]; ch != nil {
		return false, ch, nil
	}
	known := l.find(r.Task)
	if known == nil {
		own := *r
		known = &own
		l.recs = append(l.recs, known)
	}
	if slices.ContainsFunc(known.Points, func(q control.TaskPoint) bool { return q.Point == p.Point }) {
		return false, nil, nil
	}
	p.Started = time.Now()
	known.Points = append(known.Points, p)
	if err := l.store(); err != nil {
		known.Points = known.Points[:len(known.Points)-1]
		return false, nil, err
	}
	if p.State == taskRunning {
		l.running[r.Task+p.Point] = make(chan struct{})
	}
	return true, nil, nil
}

// ended notes the end of a program. If that cannot be written, a restart calls it
// interrupted; it runs no second time.
func (l *taskLog) ended(r *taskRecord, p control.TaskPoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known := l.find(r.Task); known != nil {
		for i := range known.Points {
			if known.Points[i].Point == p.Point {
				p.Started = known.Points[i].Started
				known.Points[i] = p
			}
		}
	}
	if ch := l.running[r.Task+p.Point]; ch != nil {
		close(ch)
		delete(l.running, r.Task+p.Point)
	}
	if err := l.store(); err != nil {
		l.log.Warn("end of a task not written down", "job", r.Job, "err", err)
	}
}

// count changes the figures of a connection or replica.
func (l *taskLog) count(key string, f func(*taskCounts)) {
	l.countMu.Lock()
	defer l.countMu.Unlock()
	if l.counts[key] == nil {
		l.counts[key] = new(taskCounts)
	}
	f(l.counts[key])
}

func (l *taskLog) counted(key string) taskCounts {
	l.countMu.Lock()
	defer l.countMu.Unlock()
	if c := l.counts[key]; c != nil {
		return *c
	}
	return taskCounts{}
}

// pending are copies of the records of a connection's tasks that the target has not
// confirmed, and a channel that is closed when there is another.
func (l *taskLog) pending(key string, epoch fileop.Epoch) (list []taskRecord, more <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recs {
		if r.Connection == key && r.Epoch == epoch && r.State == taskQueued {
			list = append(list, *r)
		}
	}
	return list, l.wake
}

// change changes a record and writes it down if durably is true.
func (l *taskLog) change(name string, durably bool, f func(*taskRecord)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.find(name)
	if r == nil {
		return
	}
	f(r)
	if !durably {
		return
	}
	if err := l.store(); err != nil {
		l.log.Warn("state of a task not written down", "job", r.Job, "err", err)
	}
}

// drop gives up a connection's tasks that the target did not confirm, those of epoch
// aside, and returns them.
func (l *taskLog) drop(key string, except fileop.Epoch) (list []taskRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recs {
		if r.Connection == key && r.State == taskQueued && (r.Epoch != except || except == 0) {
			r.State = taskDropped
			list = append(list, *r)
		}
	}
	if len(list) > 0 {
		if err := l.store(); err != nil {
			l.log.Warn("state of a task not written down", "err", err)
		}
	}
	return list
}

// list is what the operator sees.
func (l *taskLog) list(job string) control.TaskList {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := control.TaskList{Tasks: []control.TaskInfo{}}
	for _, r := range l.recs {
		if job == "" || r.Job == job {
			info := r.TaskInfo
			info.Points = slices.Clone(r.Points)
			out.Tasks = append(out.Tasks, info)
		}
	}
	return out
}
