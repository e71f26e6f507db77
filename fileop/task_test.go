package fileop

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func someTask() TaskCommand {
	t := TaskCommand{ID: 7, Job: "nightly 1", User: "user bob", At: 12345, Limit: time.Minute}
	t.Runs[OnQueue] = TaskRun{Path: "/bin/true"}
	t.Runs[OnExecute] = TaskRun{Path: "/opt/ha/snap.sh", Args: []string{"vol1", "", "$(reboot)"}}
	return t
}

func TestTasksTravel(t *testing.T) {
	q := someTask()
	for _, limit := range []time.Duration{0, Forever, time.Second, MaxTaskLimit} {
		q.Limit = limit
		var got TaskCommand
		if err := got.Parse(q.Append(nil)); err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v became %+v, %v", q, got, err)
		}
	}
}

func TestTaskRefuses(t *testing.T) {
	for what, spoil := range map[string]func(*TaskCommand){
		"no number": func(q *TaskCommand) { q.ID = 0 }, "no job": func(q *TaskCommand) { q.Job = "" },
		"a job with a line's end": func(q *TaskCommand) { q.Job = "a\nb" },
		"a relative path":         func(q *TaskCommand) { q.Runs[OnQueue].Path = "bin/true" },
		"a path with ..":          func(q *TaskCommand) { q.Runs[OnQueue].Path = "/bin/../true" },
		"NUL in a path":           func(q *TaskCommand) { q.Runs[OnQueue].Path = "/bin/\x00" },
		"NUL in an argument":      func(q *TaskCommand) { q.Runs[OnExecute].Args[0] = "\x00" },
		"arguments":               func(q *TaskCommand) { q.Runs[OnQueue].Args = make([]string, MaxTaskArgs+1) },
		"bytes":                   func(q *TaskCommand) { q.Runs[OnQueue].Args = []string{strings.Repeat("x", MaxTaskBytes)} },
		"nothing to run":          func(q *TaskCommand) { q.Runs = [TaskPoints]TaskRun{} },
		"a negative limit":        func(q *TaskCommand) { q.Limit = -2 },
		"an endless limit":        func(q *TaskCommand) { q.Limit = MaxTaskLimit + 1 },
	} {
		q := someTask()
		spoil(&q)
		if err := new(TaskCommand).Parse(q.Append(nil)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// TestTasksOfAFrame: they are found among other records, with their numbers.
func TestTasksOfAFrame(t *testing.T) {
	b := NewBuilder(LaneQueue, 1, 1, 0)
	q := someTask()
	for i := range 9 {
		op := Op{Kind: Write, Obj: ObjID{1, 1}, Data: []byte{8, byte(Task)}}
		if i%4 == 2 {
			op = Op{Kind: Task, Path: q.Job, Data: q.Append(nil)}
		}
		b.Add(AppendRecord(nil, &op), 3)
	}
	_, _, raw := b.Finish()
	got, err := FrameTasks(raw)
	if err != nil || len(got) != 2 || got[0].Seq != 3 || got[1].Seq != 7 || got[1].Other != 3 || new(TaskCommand).Parse(got[1].Data) != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := FrameTasks(raw[:len(raw)-1]); err == nil {
		t.Error("a cut frame is taken")
	}
}

func FuzzTask(f *testing.F) {
	q := someTask()
	f.Add(q.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var q TaskCommand
		if q.Parse(b) != nil {
			return
		}
		var again TaskCommand
		if err := again.Parse(q.Append(nil)); err != nil || !reflect.DeepEqual(again, q) {
			t.Errorf("%+v became %+v, %v", q, again, err)
		}
	})
}
