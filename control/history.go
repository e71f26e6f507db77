package control

import "time"

// MarkRequest puts a label into the order of a connection's operations. It is asked of the
// source.
type MarkRequest struct {
	ID    int    `json:"con_id"`
	Label string `json:"label"`
}

// Mark is a label.
type Mark struct {
	Label string    `json:"label"`
	Epoch string    `json:"epoch"`
	Op    uint64    `json:"op"`
	Time  time.Time `json:"time"` // by the source's clock
}

// HistoryRequest asks a target for what it keeps of its sources' past. Empty names: of
// all. Clear deletes it.
type HistoryRequest struct {
	Source     string `json:"source,omitempty"`
	Set        string `json:"set,omitempty"`
	Connection string `json:"connection,omitempty"` // its key; "": any
}

// HistorySpan is a run of moments that can be rebuilt: after each of these operations. The
// times are the source's.
type HistorySpan struct {
	Epoch    string    `json:"epoch"`
	From     uint64    `json:"from"`
	To       uint64    `json:"to"`
	FromTime time.Time `json:"from_time"`
	ToTime   time.Time `json:"to_time"`
}

// History is what is kept of one replica.
type History struct {
	Source string        `json:"source"`
	Set    string        `json:"set"`
	Keep   string        `json:"keep"`   // what is asked for
	Active bool          `json:"active"` // what is applied now is kept
	Bytes  int64         `json:"bytes"`  // of the logs
	Bases  int           `json:"bases"`  // copies of the replica
	Dir    string        `json:"dir"`
	Spans  []HistorySpan `json:"spans"`
	Marks  []Mark        `json:"marks"`
	Error  string        `json:"error,omitempty"` // why nothing is kept
}

// HistoryList answers "history".
type HistoryList struct {
	Histories []History `json:"histories"`
}

// ReplayRequest steers rebuilding on a target. Action start begins one, status tells of
// number ID, or of all, and waits WaitMS for its end (30 s at most), stop ends it.
type ReplayRequest struct {
	Action     string    `json:"action"`
	ID         int       `json:"replay_id,omitempty"`
	Source     string    `json:"source,omitempty"`
	Set        string    `json:"set,omitempty"`
	Connection string    `json:"connection,omitempty"`
	To         string    `json:"to,omitempty"` // directory; of several roots each goes below it
	At         time.Time `json:"at,omitzero"`  // by the source's clock; the last moment not after it
	Op         uint64    `json:"op,omitempty"`
	Epoch      string    `json:"epoch,omitempty"` // of Op; "": the newest that has it
	Label      string    `json:"label,omitempty"`
	Overwrite  bool      `json:"overwrite,omitempty"` // delete what is in the directory
	WaitMS     int64     `json:"wait_ms,omitempty"`
}

// Replay tells how rebuilding is.
type Replay struct {
	ID      int       `json:"replay_id"`
	State   string    `json:"state"` // copying, applying, done, stopped, failed
	Source  string    `json:"source"`
	Set     string    `json:"set"`
	To      string    `json:"to"`
	Epoch   string    `json:"epoch"`
	Op      uint64    `json:"op"`   // the moment rebuilt
	Time    time.Time `json:"time"` // of it, by the source's clock; zero: not known
	Applied uint64    `json:"applied"`
	Copied  int64     `json:"copied"` // bytes of the base; 0 also where the file system shares them
	Objects uint64    `json:"objects"`
	Seconds float64   `json:"seconds"`
	Error   string    `json:"error,omitempty"`
}

// ReplayList answers a status of all.
type ReplayList struct {
	Replays []Replay `json:"replays"`
}
