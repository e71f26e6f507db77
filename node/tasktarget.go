package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/fileop"
)

// The target's half of task commands.

func (r *replica) taskPlace() *taskPlace {
	var paths []string
	for _, root := range r.info.Roots {
		paths = append(paths, root.Path)
	}
	p := r.app.Position()
	usable := "0"
	if p.Mirrored && !p.Remirror {
		usable = "1"
	}
	return &taskPlace{n: r.n, about: r.about(), counts: r.info.key(), log: r.log,
		env: []string{"UNDERSTUDY_PATHS=" + strings.Join(paths, "\n"), "UNDERSTUDY_USABLE=" + usable}}
}

func (r *replica) taskRecord(def *fileop.TaskCommand, seq fileop.Seq) *taskRecord {
	return &taskRecord{Connection: r.info.Connection, Epoch: r.info.Epoch, TaskInfo: control.TaskInfo{Task: taskName(def.ID), Job: def.Job, User: def.User,
		Source: r.info.Source, Target: r.n.cfg.Name, Set: r.info.Set, Op: uint64(seq), Queued: time.Unix(0, def.At).UTC(), State: taskReceived,
		Points: []control.TaskPoint{}}}
}

// serveTasks runs, until ctx ends, the programs of tasks that the source says this machine
// has received.
func (r *replica) serveTasks(ctx context.Context) (stop func(), err error) {
	return r.n.srv.Handle(taskSubject(r.info.Source, r.info.Connection), func(asked context.Context, data []byte) ([]byte, error) {
		q, err := decodeReply[taskNotice](data, "notice of a task")
		if err == nil && q.Epoch != r.info.Epoch {
			err = fmt.Errorf("task of epoch %x", q.Epoch)
		}
		if err != nil {
			return nil, err
		}
		frame, err := r.recv.Frame(asked, q.Frame)
		if err != nil {
			return nil, err
		}
		tasks, err := frame.Tasks()
		for i := range tasks {
			if tasks[i].Seq == q.Seq {
				r.n.wait.Go(func() { r.received(ctx, &tasks[i]) })
			}
		}
		return nil, err
	})
}

// received runs what a task runs when it is in the queue.
func (r *replica) received(ctx context.Context, op *fileop.Op) (rec *taskRecord, def fileop.TaskCommand, ok bool) {
	if err := def.Parse(op.Data); err != nil {
		r.log.Error("task in the queue not understood", "seq", op.Seq, "err", err)
		return nil, def, false
	}
	rec = r.taskRecord(&def, op.Seq)
	isNew, err := r.n.tasks.add(rec)
	if err != nil {
		r.log.Warn("task not remembered", "job", def.Job, "err", err)
	}
	if isNew {
		r.n.events.Raise(event.TaskArrived, r.about(), rec.Job, rec.Source, rec.User, rec.Queued.Format(time.RFC3339))
	}
	r.taskPlace().runTask(ctx, rec, &def, fileop.OnReceive)
	return rec, def, true
}

// onTask is applier.Config.OnTask.
func (r *replica) onTask(ctx context.Context, op *fileop.Op) {
	rec, def, ok := r.received(ctx, op)
	if ok {
		r.setTask(rec.Job)
		r.taskPlace().runTask(ctx, rec, &def, fileop.OnExecute)
		r.setTask("")
	}
}

// setTask says which task applying waits for.
func (r *replica) setTask(job string) {
	r.mu.Lock()
	r.task = job
	r.mu.Unlock()
	r.poke()
}
