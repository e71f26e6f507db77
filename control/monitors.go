package control

import "time"

// Monitors: the target's watch over a source, and what it does when the source is dead.
// The settings are those of package failover; times are milliseconds.

// MonitorConfig says which source is watched, how, and what is taken over.
type MonitorConfig struct {
	Source        string                   `json:"source"` // machine watched; the monitor's name
	Generation    uint64                   `json:"generation"`
	Addresses     []MonitorAddress         `json:"addresses,omitempty"`
	Trigger       string                   `json:"trigger"` // all, any
	Automatic     bool                     `json:"automatic"`
	KeepAddresses bool                     `json:"keep_addresses"`
	MoveName      bool                     `json:"move_name"`
	SkipQueue     bool                     `json:"skip_queue"`
	NoLease       bool                     `json:"no_lease"`
	Witnesses     []string                 `json:"witnesses,omitempty"`
	Scripts       map[string]MonitorScript `json:"scripts,omitempty"` // by prefailover, postfailover, prefailback, postfailback, fence
}

// MonitorAddress is one address of the source.
type MonitorAddress struct {
	Address    string `json:"address"` // IP or IP/bits
	Watch      bool   `json:"watch"`
	Take       bool   `json:"take"`
	NIC        string `json:"nic,omitempty"`
	IntervalMS int64  `json:"interval_ms"`
	Missed     int    `json:"missed"`
	Probe      string `json:"probe"` // ping, service, both
	Port       int    `json:"port,omitempty"`
}

// MonitorScript is a program that runs on the target at a step.
type MonitorScript struct {
	Path    string   `json:"path"`
	Args    []string `json:"args,omitempty"`
	Wait    bool     `json:"wait"`
	LimitMS int64    `json:"limit_ms,omitempty"`
}

// MonitorStatus is a monitor with what it sees and does.
type MonitorStatus struct {
	MonitorConfig
	Started   bool                   `json:"started"`
	State     string                 `json:"state"` // stopped, online, caution, failed, failing over, failed over, failing back
	LeftMS    int64                  `json:"time_to_fail_ms"`
	TimeoutMS int64                  `json:"timeout_ms"`
	Line      string                 `json:"line"`
	Lease     string                 `json:"lease,omitempty"`   // what the source does when it is cut off
	Pending   string                 `json:"pending,omitempty"` // why a person has to decide
	Step      string                 `json:"step,omitempty"`
	Errors    []string               `json:"errors,omitempty"`
	Restore   bool                   `json:"restore_required,omitempty"`
	Since     time.Time              `json:"since,omitzero"`
	Taken     []TakenAddress         `json:"taken,omitempty"`
	Watched   []WatchedAddressStatus `json:"watched,omitempty"`
}

// TakenAddress is one this machine answers for; Ours: failback removes it.
type TakenAddress struct {
	Address string `json:"address"`
	NIC     string `json:"nic"`
	Ours    bool   `json:"ours"`
}

// WatchedAddressStatus is a watched address.
type WatchedAddressStatus struct {
	Address   string `json:"address"`
	State     string `json:"state"` // online, caution, failed
	Heard     bool   `json:"heard"` // it answered since the watch began
	LeftMS    int64  `json:"time_to_fail_ms"`
	TimeoutMS int64  `json:"timeout_ms"`
	Err       string `json:"err,omitempty"` // why nothing is asked
}

// MonitorList answers "monitor.list", by name.
type MonitorList struct {
	Monitors []MonitorStatus `json:"monitors"`
}

// MonitorRequest names a monitor: start, stop, delete, get, restored.
type MonitorRequest struct {
	Source string `json:"source"`
}

// FailoverRequest starts a takeover, declines the one that is waiting for a decision,
// tells what it would do, or makes this machine the source of the one it stands in for:
// Action is start, decline, plan or reverse.
type FailoverRequest struct {
	Source  string `json:"source"`
	Action  string `json:"action"`
	Switch  bool   `json:"switch,omitempty"`  // the source lives and was brought to rest; it gives its addresses up when it is told
	Address string `json:"address,omitempty"` // of reverse: where the repaired machine is, if not where it is known
	Confirm bool   `json:"confirm,omitempty"` // also if the source still answers
	Force   bool   `json:"force,omitempty"`   // also with unusable data, and addresses others answer for
}

// FailoverReply tells the steps of a plan, and what went wrong in a takeover.
type FailoverReply struct {
	Steps  []string `json:"steps,omitempty"`
	Errors []string `json:"errors,omitempty"`
}

// SwitchoverRequest brings this machine to rest for a planned switchover to a target: the
// script stops what writes, then everything is shipped and applied there.
type SwitchoverRequest struct {
	Target string   `json:"target"`
	Script string   `json:"script,omitempty"` // absolute path; "": nothing writes any more
	Args   []string `json:"args,omitempty"`
}

// SwitchoverReply tells the last operation of each set that the target has applied.
type SwitchoverReply struct {
	Applied map[string]uint64 `json:"applied"`
	Output  string            `json:"output,omitempty"` // of the script
}

// LeaseRequest looks at the addresses that this machine holds on lease from its targets, or
// has those back that it gave up: Action is list or release.
type LeaseRequest struct {
	Action string `json:"action"`
}

// LeaseReply lists the addresses that were given up, each with why.
type LeaseReply struct {
	GivenUp []string `json:"given_up"`
}

// FailbackRequest gives a source its identity back. Stop: do not watch it afterwards.
type FailbackRequest struct {
	Source string `json:"source"`
	Stop   bool   `json:"stop,omitempty"`
}

// NIC is a network card.
type NIC struct {
	Number    int      `json:"number"`
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses"`
}

// NICList answers "nic.list".
type NICList struct {
	NICs []NIC `json:"nics"`
}
