// Package control is how a node is steered: one table of verbs, served by every
// daemon as request and reply on ctl.<node>.<verb>. The shell, the console, the
// programs and the metrics page are clients of the same verbs and use nothing else.
package control

import (
	"fmt"

	"understudy/internal/access"
)

// Level is what a user must be allowed to call a verb.
type Level = access.Level

// The levels: anybody who may connect, those who may look, those who may change.
const (
	None    = access.None
	Monitor = access.Monitor
	Admin   = access.Admin
)

// Verb is one row of the table.
type Verb struct {
	Name  string
	Level Level
	Help  string
}

// Verbs is the table. Help, documentation and the permission test are made from it.
var Verbs = []Verb{
	{"version", None, "what runs here"},
	{"status", Monitor, "connections, replicas and captured directories of this machine"},
	{"events", Monitor, "what happened on this machine, or wait for what happens next"},
	{"mount", Admin, "capture a directory in write order, by a stacked mount over it"},
	{"umount", Admin, "end the stacked capture of a directory"},
	{"connect", Admin, "protect a replication set on a target"},
	{"disconnect", Admin, "end a connection and drop its queue"},
	{"mirror", Admin, "start, stop, pause or resume the mirror of a connection"},
	{"task", Admin, "put a task command into the queue of a connection"},
	{"tasks", Monitor, "the task commands this machine knows, and what became of them"},
	{"stats", Monitor, "the figures of this machine at this moment"},
	{"statslog", Admin, "start or stop the statistics file"},
	{"statslog.status", Monitor, "whether the statistics file is written"},
	{"restore", Admin, "send the data of a replica held here back to its source, or to another machine"},
	{"verify", Admin, "compare source and target of a connection, at the same operation; stop it, or ask how it is"},
	{"orphans", Admin, "remove or set aside what only the target has; stop it, or ask how it is"},
	{"mark", Admin, "put a label behind everything captured so far"},
	{"history", Monitor, "what this machine keeps of its replicas' past"},
	{"history.clear", Admin, "delete what is kept of a replica's past"},
	{"replay", Admin, "rebuild a past moment of a replica in another directory; stop it, or ask how it is"},
	{"transmission", Admin, "start, stop, pause or resume sending of a connection"},
	{"replication", Admin, "start or stop the queueing of changes of a connection"},
	{"schedule", Monitor, "when this machine sends to a target, and how much"},
	{"schedule.set", Admin, "say when this machine sends to a target"},
	{"limit", Admin, "limit the bandwidth to a target"},
	{"settle", Monitor, "wait until everything captured before the call is applied on the target"},
	{"calculate", Monitor, "measure the size of a replication set"},
	{"target", Admin, "pause or resume applying of what a source sends here"},
	{"paths", Admin, "paths of this machine that begin so, for completion at a prompt"},
	{"repset.list", Monitor, "the stored replication sets of this machine"},
	{"repset.get", Monitor, "one stored replication set"},
	{"repset.save", Admin, "store a replication set, if nobody changed it meanwhile"},
	{"repset.delete", Admin, "delete a replication set that is not connected"},
	{"repset.backups", Monitor, "the copies of its sources' replication sets that this machine keeps as a target"},
	{"script", Admin, "have the target run a script when a mirror of a connection starts, stops or is complete"},
	{"module", Admin, "make this machine a source or a target, or end that"},
	{"shutdown", Admin, "stop the daemon"},
	{"upgrade", Admin, "replace the running daemon by a program, without interrupting applications"},
	{"machine.list", Monitor, "the machines this one knows by name"},
	{"machine.add", Admin, "tell this machine the address of another"},
	{"machine.remove", Admin, "forget the address of a machine"},
	{"setting.list", Monitor, "the settings of this machine"},
	{"setting.get", Monitor, "one setting of this machine"},
	{"setting.set", Admin, "change a setting of this machine"},
	{"session", None, "who the caller is, and its level"},
	{"pair.list", Monitor, "the machines this one is paired with"},
	{"pair.invite", Admin, "make a one-time code by which another machine can pair with this one"},
	{"pair.join", Admin, "pair with the machine that made a code"},
	{"pair.remove", Admin, "end the pairing with a machine; its sessions end at once"},
	{"pair.rotate", Admin, "change the key of this machine; paired machines are told first"},
	{"monitor.list", Monitor, "the monitors of this machine as target"},
	{"monitor.get", Monitor, "one monitor, with what it sees"},
	{"monitor.save", Admin, "store a monitor, if nobody changed it meanwhile"},
	{"monitor.delete", Admin, "delete a monitor that does not stand in for its source"},
	{"monitor.start", Admin, "begin to watch a source"},
	{"monitor.stop", Admin, "stop watching a source"},
	{"failover", Admin, "take over for a source, decline to, or tell what would be done"},
	{"failback", Admin, "give a source its identity back"},
	{"failover.restored", Admin, "let a source that was replaced replicate again; its data overwrites what changed meanwhile"},
	{"switchover", Admin, "bring this machine to rest: stop what writes by a script, then wait until the target has everything"},
	{"lease", Admin, "look at the addresses this machine gave up to its targets, or have them back"},
	{"nic.list", Monitor, "the network cards of this machine"},
	{"key.list", Monitor, "the keys by which scripts log in"},
	{"key.add", Admin, "make a key by which scripts log in"},
	{"key.remove", Admin, "remove a key; its sessions end at once"},
}

// Code tells programs what went wrong; people read Msg and Hint.
type Code string

// The codes. docs/shell.md promises them.
const (
	BadRequest  Code = "bad-request"
	NotFound    Code = "not-found"
	Exists      Code = "exists"
	Refused     Code = "refused"
	Unreachable Code = "unreachable"
	NotReady    Code = "not-ready"
	Internal    Code = "internal"
	Denied      Code = "denied"
	// RestoreRequired: the machine was replaced by its target, whose data is newer.
	RestoreRequired Code = "restore-required"
	// NoSource and NoTarget: the machine is none now.
	NoSource Code = "no-source"
	NoTarget Code = "no-target"
)

// Error is how an error leaves the machine.
type Error struct {
	Code Code   `json:"code"`
	Msg  string `json:"msg"`
	Hint string `json:"hint,omitempty"`
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Msg
	}
	return e.Msg + " (" + e.Hint + ")"
}

// Errorf makes an Error.
func Errorf(code Code, hint, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// anyNode stands for the name of a node in requests of callers who do not know it yet;
// no node can be called so. Only "version" is served there.
const anyNode = "$any"

func subject(node, verb string) string { return "ctl." + node + "." + verb }

// Subjects are where a caller of this level may send requests to the node.
func Subjects(node string, level Level) []string {
	out := []string{subject(anyNode, "version")}
	for _, v := range Verbs {
		if v.Level <= level {
			out = append(out, subject(node, v.Name))
		}
	}
	return out
}
