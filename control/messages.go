package control

import (
	"time"

	"understudy/internal/access"
	"understudy/repset"
)

// Requests and replies of the verbs, as JSON. Times are milliseconds, sizes bytes.

// Version answers "version".
type Version struct {
	Name    string `json:"name"`
	Version string `json:"version"`

	Started time.Time `json:"started"` // of the daemon

	NoSource bool `json:"no_source,omitempty"` // it is no source now
	NoTarget bool `json:"no_target,omitempty"`
}

// ModuleRequest makes a machine a source or a target, or ends that.
type ModuleRequest struct {
	Module string `json:"module"` // source, target
	Load   bool   `json:"load"`
}

// DirRequest names a directory: mount, umount.
type DirRequest struct {
	Dir string `json:"dir"`
}

// MountReply tells which processes hold descriptors from before the mount: what they
// write through them is not captured.
type MountReply struct {
	Foreign []ForeignProcess `json:"foreign,omitempty"`
}

// ForeignProcess is one of them.
type ForeignProcess struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Path    string `json:"path"`
	Write   bool   `json:"write"`
}

// ConnectRequest makes a connection.
type ConnectRequest struct {
	Set     string            `json:"set"`
	Rules   []string          `json:"rules"`   // written form: "/srv/tree inc, rec"; none: those of the stored set
	Target  string            `json:"target"`  // name of the target machine, or HOST[:PORT] if there is no address
	Address string            `json:"address"` // host:port; "": the one known of the target
	Map     map[string]string `json:"map,omitempty"`
	Base    string            `json:"base,omitempty"`    // all-to-one mapping below this directory
	Capture string            `json:"capture,omitempty"` // auto, stacked, fanotify, inotify
	Adopt   bool              `json:"adopt,omitempty"`   // the target directory may hold files already
	History string            `json:"history,omitempty"` // how much of the past the target keeps: "72h", "500GB", "off"; "": its setting
	Mirror  string            `json:"mirror,omitempty"`  // full, diff, none: it waits until one is started; default full, with Adopt diff
	// Of the first mirror, with diff, until one ended well.
	Newer    bool `json:"newer,omitempty"`
	Checksum bool `json:"checksum,omitempty"`
	// NoReplication stops the queueing of changes where the mirror ends.
	NoReplication bool `json:"no_replication,omitempty"`
	// Trial: nothing is sent; what a connection would need is measured (CONNECT TDU), and
	// written to StatsFile, "" is that of STATSLOG.
	Trial     bool   `json:"trial,omitempty"`
	StatsFile string `json:"stats_file,omitempty"`
	Orphans   bool   `json:"orphans,omitempty"` // treat orphans when the mirror has ended
}

// ConnectReply names the new connection.
type ConnectReply struct {
	ID    int      `json:"con_id"`
	Notes []string `json:"notes,omitempty"` // what the operator should know
}

// IDRequest names a connection.
type IDRequest struct {
	ID int `json:"con_id"`
}

// MirrorRequest steers a mirror: Action is start, stop, pause or resume.
type MirrorRequest struct {
	ID          int    `json:"con_id"`
	Action      string `json:"action"`
	Mode        string `json:"mode,omitempty"` // of start: full, diff
	Newer       bool   `json:"newer,omitempty"`
	Checksum    bool   `json:"checksum,omitempty"`
	ChecksumAll bool   `json:"checksum_all,omitempty"`
	Attributes  bool   `json:"attributes_only,omitempty"`
	Orphans     bool   `json:"orphans,omitempty"` // treat orphans when it has ended
}

// PauseRequest pauses or resumes the target's work for a source ("" for all).
type PauseRequest struct {
	ID     int    `json:"con_id,omitempty"`
	Source string `json:"source,omitempty"`
	Pause  bool   `json:"pause"`
}

// SettleRequest waits for at most TimeoutMS.
type SettleRequest struct {
	ID        int   `json:"con_id"`
	TimeoutMS int64 `json:"timeout_ms"`
}

// Size answers "calculate".
type Size struct {
	Files int64 `json:"files"`
	Dirs  int64 `json:"dirs"`
	Bytes int64 `json:"bytes"`
}

// CalculateRequest gives rules, or a connection whose set is measured.
type CalculateRequest struct {
	ID    int      `json:"con_id,omitempty"`
	Rules []string `json:"rules,omitempty"`
}

// Status answers "status".
type Status struct {
	Name        string       `json:"name"`
	Version     string       `json:"version"`
	Connections []Connection `json:"connections"`
	Replicas    []Replica    `json:"replicas"`
	Captures    []Capture    `json:"captures"`
	Alerts      []Alert      `json:"alerts,omitempty"` // of the machine, its connections and replicas
}

// Connection is one of this machine as source.
type Connection struct {
	Set           string  `json:"set"`
	ID            int     `json:"con_id"`
	Target        string  `json:"target"`
	Transmit      string  `json:"transmit"`       // Started, Stopped, Paused, Scheduled, Error
	Mirror        string  `json:"mirror"`         // Idle, Mirroring, Paused, Stopped, Remirror required
	MirrorPercent float64 `json:"mirror_percent"` // -1: size not known
	MirrorFiles   int64   `json:"mirror_files"`
	MirrorBytes   int64   `json:"mirror_bytes"`
	Replication   string  `json:"replication"` // Replicating, Stopped
	QueuedOps     uint64  `json:"queued_ops"`
	QueuedBytes   int64   `json:"queued_bytes"`
	QueueLimit    int64   `json:"queue_limit"`   // bytes the source queue may hold in memory and on disk
	QueuePercent  int     `json:"queue_percent"` // of these in use
	SentBytes     int64   `json:"sent_bytes"`
	LagMS         float64 `json:"lag_ms"`
	TargetState   string  `json:"target_state"` // OK, Mirroring, Paused, Retrying, Broken, Unreachable
	Capture       string  `json:"capture"`
	Fidelity      string  `json:"fidelity"`
	OrderKept     bool    `json:"order_kept"`
	Epoch         string  `json:"epoch"`
	CapturedOp    uint64  `json:"captured_op"`
	AppliedOp     uint64  `json:"applied_op"`
	Mirrors       uint64  `json:"mirrors"` // begun since the daemon's start, repetitions aside
	LastError     string  `json:"last_error,omitempty"`
	Alerts        []Alert `json:"alerts,omitempty"`
}

// Replica is one of this machine as target.
type Replica struct {
	Source      string   `json:"source"`
	Set         string   `json:"set"`
	Paths       []string `json:"paths"`
	State       string   `json:"state"`
	Usable      bool     `json:"usable"` // the tree is a past moment of the source
	AppliedOp   uint64   `json:"applied_op"`
	QueuedOps   uint64   `json:"queued_ops"`
	QueuedBytes int64    `json:"queued_bytes"` // on disk, as of the last second
	QueueLimit  int64    `json:"queue_limit"`
	UnknownOps  uint64   `json:"unknown_ops"`
	LastError   string   `json:"last_error,omitempty"`
	Alerts      []Alert  `json:"alerts,omitempty"`
	Task        string   `json:"task,omitempty"` // job of the task command that applying waits for
	Unsupported uint64   `json:"unsupported"`    // owners or attributes this machine could not set
}

// Capture is a captured directory.
type Capture struct {
	Dir        string `json:"dir"`
	Backend    string `json:"backend"`
	Fidelity   string `json:"fidelity"`
	Ops        uint64 `json:"ops"`
	WriteBytes uint64 `json:"write_bytes"`
	Overflows  uint64 `json:"overflows"`
	Unwatched  uint64 `json:"unwatched"`
}

// NameRequest names a replication set or a machine.
type NameRequest struct {
	Name string `json:"name"`
}

// Repset is a stored replication set.
type Repset struct {
	repset.Set
	Connected bool `json:"connected"`
}

// SavedRepset answers "repset.save". The notes say what became of its connections.
type SavedRepset struct {
	Repset
	Notes []string `json:"notes,omitempty"`
}

// Backup is a target's copy of a replication set of one of its sources.
type Backup struct {
	Source   string     `json:"source"`
	Set      repset.Set `json:"set"`
	Received time.Time  `json:"received"`
}

// BackupList answers "repset.backups", by source and set.
type BackupList struct {
	Backups []Backup `json:"backups"`
}

// RepsetList answers "repset.list", by name.
type RepsetList struct {
	Sets []Repset `json:"sets"`
}

// Machine is another machine and where it is reached (host:port).
type Machine struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Paired  bool     `json:"paired,omitempty"`
	Keys    []string `json:"keys,omitempty"` // of a paired machine, in hex
	// By its heartbeats, of a paired machine that was heard since the start of the daemon.
	Online      bool   `json:"online,omitempty"`      // within HBTTL
	HeardMS     int64  `json:"heard_ms,omitempty"`    // since the last one
	Program     string `json:"program,omitempty"`     // its version
	Connections int    `json:"connections,omitempty"` // it has as a source
	Replicas    int    `json:"replicas,omitempty"`    // it has as a target
}

// MachineList answers "machine.list", by name.
type MachineList struct {
	Machines []Machine `json:"machines"`
}

// Session answers "session".
type Session struct {
	Caller string `json:"caller"` // "user bob", "key backup", ...
	Level  string `json:"level"`  // none, monitor, admin
}

// InviteRequest opens an invitation.
type InviteRequest struct {
	ValidMS int64 `json:"valid_ms,omitempty"` // 0: 15 minutes
}

// InviteReply is its code.
type InviteReply struct {
	Code string `json:"code"`
}

// JoinRequest uses a code.
type JoinRequest struct {
	Address string `json:"address"` // HOST[:PORT] of the machine that made the code
	Code    string `json:"code"`
	Own     string `json:"own,omitempty"` // HOST:PORT by which the other reaches this machine; "": worked out
}

// PeerInfo is a paired machine.
type PeerInfo struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Keys    []string `json:"keys"` // in hex; two while the machine changes its key
	Paired  string   `json:"paired"`
	Waiting bool     `json:"waiting,omitempty"` // it does not know the next key of this machine
}

// PeerList answers "pair.list".
type PeerList struct {
	Name     string     `json:"name"`
	Key      string     `json:"key"`
	Rotating string     `json:"rotating,omitempty"` // the next key
	Peers    []PeerInfo `json:"peers"`
}

// RotateRequest changes the key of this machine. Force does not wait for machines that
// cannot be reached; they have to be paired again.
type RotateRequest struct {
	Force bool `json:"force,omitempty"`
}

// KeyRequest makes a key for a script.
type KeyRequest struct {
	Name  string `json:"name"`
	Level string `json:"level"`
}

// KeyReply holds the whole key file.
type KeyReply struct {
	File access.KeyFile `json:"file"`
}

// KeyInfo is a key of a script.
type KeyInfo struct {
	Name  string `json:"name"`
	Level string `json:"level"`
	Made  string `json:"made"`
}

// KeyList answers "key.list".
type KeyList struct {
	Keys []KeyInfo `json:"keys"`
}
