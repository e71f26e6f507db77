package control

import "time"

// TaskRequest queues a task command (B8.26).
type TaskRequest struct {
	Job    string `json:"job"`
	Target string `json:"target"`
	Set    string `json:"set,omitempty"` // where the source has several connections to the target
	// The programs of the points; nil: nothing is run there.
	OnQueue    *TaskProgram `json:"onqueue,omitempty"`
	OnTransmit *TaskProgram `json:"ontransmit,omitempty"`
	OnReceive  *TaskProgram `json:"onreceive,omitempty"`
	OnExecute  *TaskProgram `json:"onexecute,omitempty"`
	// TimeoutMS is how long the queue waits for each program, which is ended then.
	// 0: not at all, the program goes on by itself; -1: however long it takes.
	TimeoutMS int64 `json:"timeout_ms"`
}

// TaskProgram is an executable on the machine of its point.
type TaskProgram struct {
	Path string   `json:"path"` // absolute
	Args []string `json:"args,omitempty"`
}

// TaskReply says where the task stands.
type TaskReply struct {
	Task  string   `json:"task"` // names it, here and on the target
	ConID int      `json:"con_id"`
	Op    uint64   `json:"op"` // its number among the operations of the connection
	Notes []string `json:"notes,omitempty"`
}

// TasksRequest asks for the tasks a machine knows: those of a job, or all ("").
type TasksRequest struct {
	Job    string `json:"job,omitempty"`
	Output bool   `json:"output,omitempty"` // with what the programs printed
}

// TaskList answers "tasks", oldest first.
type TaskList struct {
	Tasks []TaskInfo `json:"tasks"`
}

// TaskInfo is what a machine knows of one task: its own half.
type TaskInfo struct {
	Task   string      `json:"task"`
	Job    string      `json:"job"`
	User   string      `json:"user"`
	Source string      `json:"source"`
	Target string      `json:"target"`
	Set    string      `json:"set"`
	Op     uint64      `json:"op"`
	Queued time.Time   `json:"queued"`
	State  string      `json:"state"` // queued, done, dropped; on the target: received
	Points []TaskPoint `json:"points"`
}

// TaskPoint is one program of a task on this machine.
type TaskPoint struct {
	Point   string    `json:"point"` // onqueue, ontransmit, onreceive, onexecute
	Path    string    `json:"path"`
	Args    []string  `json:"args,omitempty"`
	State   string    `json:"state"` // running, succeeded, failed, timed out, ignored, interrupted
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Exit    int       `json:"exit"` // exit code; -1: none
	Err     string    `json:"err,omitempty"`
	Output  string    `json:"output,omitempty"`      // what it printed, its first 64 KiB
	File    string    `json:"output_file,omitempty"` // that, on the machine
}

// ScriptRequest has the target of a connection run a script at an event of its mirrors.
type ScriptRequest struct {
	ID     int      `json:"con_id"`
	Target string   `json:"target,omitempty"` // checked, if it is given
	Event  string   `json:"event"`            // mirrorstart, mirrorstop, mirrorcomplete
	Path   string   `json:"path"`             // on the target; "": none any more
	Args   []string `json:"args,omitempty"`
	Wait   bool     `json:"wait,omitempty"` // applying waits for it
}
