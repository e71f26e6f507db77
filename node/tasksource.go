package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/fileop"
	"understudy/internal/access"
	"understudy/stream"
)

// The source's half of task commands.

// taskPoll is how often the state of a task that is under way is looked at.
const taskPoll = 50 * time.Millisecond

// queueTask is the verb. It returns when the task is stored in the queue.
func (n *Node) queueTask(ctx context.Context, req control.TaskRequest) (any, error) {
	c, err := n.taskConnection(&req)
	if err != nil {
		return nil, err
	}
	s, err := n.live(c.ID)
	if err != nil {
		return nil, err
	}
	if c.replicationOff() {
		return nil, control.Errorf(control.Refused, "start replication", "replication of connection %d is stopped: nothing is queued", c.ID)
	}
	def := newTask(&req, access.CallerOf(ctx).String())
	if err := def.Check(); err != nil {
		return nil, control.Errorf(control.BadRequest, "", "%v", err)
	}
	if err := n.taskEnabled(&def); err != nil {
		return nil, err
	}
	n.tasks.count(c.taskCounts(), func(t *taskCounts) { t.Submitted++ })
	if err := s.hintsDone(ctx); err != nil {
		return nil, c.whyNot(err)
	}
	return s.putTask(ctx, &def)
}

// putTask gives the task its place in the order.
func (s *session) putTask(ctx context.Context, def *fileop.TaskCommand) (any, error) {
	c := s.c
	op := fileop.Op{Kind: fileop.Task, Path: def.Job, Data: def.Append(nil)}
	seq, err := s.journal.Put(&op)
	if err != nil {
		return nil, err
	}
	c.n.tasks.count(c.taskCounts(), func(t *taskCounts) { t.Queued++ })
	rec := s.taskRecord(def, seq)
	if err := s.journal.Sync(ctx); err != nil {
		return nil, control.Errorf(control.NotReady, "look at: status", "task %s is not known to be stored: %v", def.Job, err)
	}
	if _, err := c.n.tasks.add(rec); err != nil {
		c.log.Error("task not remembered", "job", def.Job, "err", err)
	}
	c.n.wait.Go(func() { s.taskPlace().runTask(s.ctx, rec, def, fileop.OnQueue) })
	reply := control.TaskReply{Task: rec.Task, ConID: c.ID, Op: uint64(seq), Notes: []string{}}
	if !s.mirrorIdle() {
		reply.Notes = append(reply.Notes, "a mirror is under way: the replica is not whole when the task runs")
	} else if a := s.lastAck(); !a.Usable {
		reply.Notes = append(reply.Notes, "the replica is not usable: "+a.State)
	}
	return reply, nil
}

// hintsDone brings what is only hinted at into the queue: with such a capture the order of
// changes is not kept, but what was changed before the command comes before it.
func (s *session) hintsDone(ctx context.Context) error {
	if _, _, kept := s.fidelity(); kept {
		return nil
	}
	s.lookAgain()
	return s.c.await(ctx, func() bool { return s.c.current() != s || s.mirrorIdle() })
}

func newTask(req *control.TaskRequest, user string) fileop.TaskCommand {
	var id [8]byte
	rand.Read(id[:])
	def := fileop.TaskCommand{ID: binary.LittleEndian.Uint64(id[:]) | 1, Job: req.Job, User: clip(user), At: time.Now().UnixNano(),
		Limit: time.Duration(req.TimeoutMS) * time.Millisecond}
	if req.TimeoutMS == -1 {
		def.Limit = fileop.Forever
	}
	for p, program := range []*control.TaskProgram{req.OnQueue, req.OnTransmit, req.OnReceive, req.OnExecute} {
		if program != nil {
			def.Runs[p] = fileop.TaskRun{Path: program.Path, Args: program.Args}
		}
	}
	return def
}

// taskEnabled refuses a task of which nothing would run: the switch is each machine's own,
// so one that concerns the target may be queued all the same (B8.28).
func (n *Node) taskEnabled(def *fileop.TaskCommand) error {
	if n.conf().TaskCommands || def.Runs[fileop.OnReceive].Path != "" || def.Runs[fileop.OnExecute].Path != "" {
		return nil
	}
	return control.Errorf(control.Refused, "set EnableTaskCmdProcessing = 1", "task commands are switched off on %s, and %s concerns no other machine", n.cfg.Name, def.Job)
}

// taskConnection finds the connection to the target; where there are several, the set says
// which (B8.29).
func (n *Node) taskConnection(req *control.TaskRequest) (*Connection, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var found *Connection
	for _, c := range n.conns {
		if !strings.EqualFold(c.cfg.Target, req.Target) && c.cfg.Address != req.Target || req.Set != "" && !strings.EqualFold(c.cfg.Set, req.Set) || c.cfg.Restore != nil {
			continue
		}
		if found != nil {
			return nil, control.Errorf(control.BadRequest, "say of which replication set: FOR "+c.cfg.Set, "%s has several connections to %s; a task stands in the order of one", n.cfg.Name, req.Target)
		}
		found = c
	}
	if found == nil {
		return nil, control.Errorf(control.NotFound, "see: status con *", "no connection to %q", req.Target)
	}
	return found, nil
}

func (c *Connection) taskCounts() string { return "source." + c.key }

func (s *session) taskPlace() *taskPlace {
	return &taskPlace{n: s.c.n, about: s.c.about(), counts: s.c.taskCounts(), log: s.c.log}
}

func (s *session) taskRecord(def *fileop.TaskCommand, seq fileop.Seq) *taskRecord {
	return &taskRecord{Connection: s.c.key, Epoch: s.epoch, TaskInfo: control.TaskInfo{Task: taskName(def.ID), Job: def.Job, User: def.User,
		Source: s.c.n.cfg.Name, Target: s.c.cfg.Target, Set: s.c.cfg.Set, Op: uint64(seq), Queued: time.Unix(0, def.At).UTC(), State: taskQueued,
		Points: []control.TaskPoint{}}}
}

// beforeTask is stream.TransmitterConfig.BeforeTask.
func (s *session) beforeTask(ctx context.Context, frame uint64, op *fileop.Op) {
	var def fileop.TaskCommand
	if err := def.Parse(op.Data); err != nil {
		s.c.log.Error("task in the queue not understood", "seq", op.Seq, "err", err)
		return
	}
	rec := s.taskRecord(&def, op.Seq)
	if _, err := s.c.n.tasks.add(rec); err != nil { // a daemon before this one put it and was killed
		s.c.log.Warn("task not remembered", "job", def.Job, "err", err)
	}
	s.c.n.tasks.change(rec.Task, true, func(r *taskRecord) { r.Frame = frame })
	pl := s.taskPlace()
	pl.runTask(ctx, rec, &def, fileop.OnQueue)
	pl.runTask(ctx, rec, &def, fileop.OnTransmit)
}

// taskNotice tells the target that it has received a task.
type taskNotice struct {
	Epoch fileop.Epoch `json:"epoch"`
	Frame uint64       `json:"frame"`
	Seq   fileop.Seq   `json:"seq"`
}

func taskSubject(source, conn string) string {
	return "rq.task." + stream.Token(source) + "." + stream.Token(conn)
}

// keepTasks follows the tasks of the session to the target, until ctx ends.
func (s *session) keepTasks(ctx context.Context) error {
	s.c.dropTasks(s.epoch)
	for {
		list, more := s.c.n.tasks.pending(s.c.key, s.epoch)
		for i := range list {
			s.followTask(ctx, &list[i])
		}
		var again <-chan time.Time
		if len(list) > 0 {
			again = time.After(taskPoll)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-again:
		}
	}
}

func (s *session) followTask(ctx context.Context, r *taskRecord) {
	tasks, seq := s.c.n.tasks, fileop.Seq(r.Op)
	if s.lastAck().Applied >= seq {
		tasks.change(r.Task, true, func(r *taskRecord) { r.State = taskDone })
		return
	}
	if r.notified || r.Frame == 0 || s.sender.Stats().Frame < r.Frame || !s.link.Up() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	// What fails is tried again; at the latest the task itself tells the target.
	_, err := s.link.Request(ctx, taskSubject(s.c.n.cfg.Name, s.c.key), encodeJSON(taskNotice{s.epoch, r.Frame, seq}))
	if err == nil {
		tasks.change(r.Task, false, func(r *taskRecord) { r.notified = true })
	}
}

// dropTasks gives up and tells of tasks that went down with their queue; those of epoch
// except live on.
func (c *Connection) dropTasks(except fileop.Epoch) {
	for _, r := range c.n.tasks.drop(c.key, except) {
		c.raise(event.TaskDropped, r.Job, r.Source, r.User, r.Queued.Format(time.RFC3339))
	}
}

// readSome reads the beginning of a file.
func readSome(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(most)))
}
