package control

import "time"

// Stats answers "stats": the figures of a machine at one moment. Counters count since the
// start of the daemon, those of a connection or a source since then or since it was made.
type Stats struct {
	Time        time.Time         `json:"time"`
	Machine     string            `json:"machine"`
	Memory      MemoryStats       `json:"memory"`
	Security    SecurityStats     `json:"security"`
	Kernel      KernelStats       `json:"kernel"`
	Targets     []TargetStats     `json:"targets"`
	Connections []ConnectionStats `json:"connections"`
}

// MemoryStats are bytes in use.
type MemoryStats struct {
	System int64 `json:"system_bytes"` // taken from the operating system
	Queue  int64 `json:"queue_bytes"`  // captured and not yet in a queue on disk
}

// SecurityStats counts logins of people and scripts.
type SecurityStats struct {
	Logins uint64 `json:"logins"`
	Failed uint64 `json:"failed_logins"`
}

// KernelStats are those of the daemon as a whole; the name is the original's.
type KernelStats struct {
	SourceState     int       `json:"source_state"` // 0 no connection, 1 captured by hints, 2 captured in order or by dirty objects
	TargetState     int       `json:"target_state"` // 1: something is received
	Started         time.Time `json:"started"`
	RepOps          uint64    `json:"rep_ops_generated"`
	RepBytes        uint64    `json:"rep_bytes_generated"`
	MirOps          uint64    `json:"mir_ops_generated"`
	MirBytes        uint64    `json:"mir_bytes_generated"`
	FailedMirror    uint64    `json:"failed_mirror_count"` // objects that could not be read
	QueuePercent    int       `json:"queue_percent"`       // of the fullest source queue
	AutoDisconnects uint64    `json:"auto_disconnects"`
	AutoReconnects  uint64    `json:"auto_reconnects"`
	Connections     int       `json:"connection_count"`
}

// TargetStats are those of one replication set of one source.
type TargetStats struct {
	Peer           string `json:"peer"` // the source
	Set            string `json:"set"`
	OpsReceived    uint64 `json:"ops_received"`
	MirrorOps      uint64 `json:"mirror_ops_received"`
	RepOps         uint64 `json:"replication_ops_received"`
	BytesReceived  uint64 `json:"bytes_received"`
	Retries        uint64 `json:"retries"`
	OpsDropped     uint64 `json:"ops_dropped"`
	OpsRemaining   uint64 `json:"ops_remaining"`
	BytesInQueue   int64  `json:"bytes_in_queue"`
	Orphans        uint64 `json:"orphans"`
	TasksSucceeded uint64 `json:"tasks_succeeded"`
	TasksFailed    uint64 `json:"tasks_failed"`
	TasksTimedOut  uint64 `json:"tasks_timed_out"`
	TasksIgnored   uint64 `json:"tasks_ignored"`
}

// ConnectionStats are those of one connection of this machine as source.
type ConnectionStats struct {
	ID             int     `json:"con_id"`
	Peer           string  `json:"peer"` // the target
	Address        string  `json:"address"`
	Set            string  `json:"set"`
	ConnectSeconds int64   `json:"connect_seconds"` // since the present session began
	State          int     `json:"con_state"`       // 0 error, 1 active, 2 paused, 3 scheduled, 4 none
	OpsInCmdQueue  uint64  `json:"ops_in_cmd_queue"`
	OpsInAckQueue  uint64  `json:"ops_in_ack_queue"`
	OpsInRepQueue  uint64  `json:"ops_in_rep_queue"`
	OpsInMirQueue  uint64  `json:"ops_in_mir_queue"`
	BytesInRep     int64   `json:"bytes_in_rep_queue"`
	BytesInMir     int64   `json:"bytes_in_mir_queue"`
	OpsTx          uint64  `json:"ops_tx"`
	BytesTx        uint64  `json:"bytes_tx"`
	WireBytesTx    uint64  `json:"bytes_compressed_tx"` // on the wire: repeats and overhead included
	Resent         uint64  `json:"resent_count"`        // times sending went back
	BytesOnDisk    int64   `json:"bytes_in_disk_queue"`
	BandwidthLimit int64   `json:"bandwidth_limit"` // bytes a second; 0: none
	BytesSkipped   int64   `json:"bytes_skipped"`
	MirrorRemain   int64   `json:"mirror_bytes_remain"`
	MirrorPercent  float64 `json:"mirror_percent"` // -1: not known
	LagMS          float64 `json:"lag_ms"`
	TasksSubmitted uint64  `json:"task_cmds_submitted"`
	TasksQueued    uint64  `json:"task_cmds_queued"`
	// Of the programs that ran here; those on the target are counted there.
	TasksSucceeded uint64 `json:"tasks_succeeded"`
	TasksFailed    uint64 `json:"tasks_failed"`
	TasksTimedOut  uint64 `json:"tasks_timed_out"`
	TasksIgnored   uint64 `json:"tasks_ignored"`
	// Trial is the report of a trial connection (CONNECT TDU).
	Trial *TrialStats `json:"trial,omitempty"`
}

// TrialStats say what a connection would need.
type TrialStats struct {
	Since       time.Time   `json:"since"`
	MirrorOps   uint64      `json:"mirror_ops"`
	MirrorBytes uint64      `json:"mirror_bytes"` // on the wire, overhead included
	MirrorDone  bool        `json:"mirror_done"`
	RepOps      uint64      `json:"replication_ops"`
	RepBytes    uint64      `json:"replication_bytes"`
	MeanRate    float64     `json:"mean_rate"`        // of changes, bytes a second
	PeakSecond  uint64      `json:"peak_second"`      // bytes of the busiest second
	PeakMinute  float64     `json:"peak_minute_rate"` // bytes a second in the busiest minute
	Lines       []TrialLine `json:"lines"`
}

// TrialLine says how a line of some bandwidth would do.
type TrialLine struct {
	Rate          int64   `json:"rate"`           // bytes a second
	MirrorSeconds float64 `json:"mirror_seconds"` // the mirror alone
	QueueBytes    uint64  `json:"queue_bytes"`    // most that waited, of changes
	LagSeconds    float64 `json:"lag_seconds"`    // longest a change waited
	Keeps         bool    `json:"keeps"`          // the changes do not grow faster than it sends
}

// StatslogRequest is start or stop.
type StatslogRequest struct {
	Action string `json:"action"`
}

// Statslog answers "statslog" and "statslog.status".
type Statslog struct {
	Running bool   `json:"running"`
	File    string `json:"file"`
}

// StateNumber is the original's number of a state of transmission (con_state).
func StateNumber(transmit string) int {
	switch transmit {
	case "Started":
		return 1
	case "Paused", "Stopped":
		return 2
	case "Scheduled":
		return 3
	}
	return 0
}
