package control

import "time"

// TransmissionRequest steers the sending of a connection: Action is start, stop, pause or
// resume; without one, Pause says which of the last two.
type TransmissionRequest struct {
	ID     int    `json:"con_id"`
	Action string `json:"action,omitempty"`
	Pause  bool   `json:"pause,omitempty"`
}

// ReplicationRequest starts or stops the queueing of changes of a connection.
type ReplicationRequest struct {
	ID   int  `json:"con_id"`
	Stop bool `json:"stop,omitempty"`
}

// TargetRequest names a target machine.
type TargetRequest struct {
	Target string `json:"target"`
}

// ScheduleRequest changes parts of the schedule of a target; nil leaves a part as it is.
type ScheduleRequest struct {
	Target string          `json:"target"`
	Start  *ScheduleStart  `json:"start,omitempty"`
	Stop   *ScheduleStop   `json:"stop,omitempty"`
	Window *ScheduleWindow `json:"window,omitempty"`
	Enable *bool           `json:"enable,omitempty"`
	Clear  []string        `json:"clear,omitempty"` // start, end, window, bandwidth
}

// ScheduleStart are the criteria that begin a session of sending; zero: none.
type ScheduleStart struct {
	At           time.Time `json:"at,omitzero"`
	EveryDays    int       `json:"every_days,omitempty"`
	EverySeconds int64     `json:"every_seconds,omitempty"`
	QueuePercent int       `json:"queue_percent,omitempty"`
	QueueBytes   int64     `json:"queue_bytes,omitempty"`
}

// ScheduleStop are those that end one; zero: none.
type ScheduleStop struct {
	AfterSeconds int64     `json:"after_seconds,omitempty"`
	Bytes        int64     `json:"bytes,omitempty"`
	At           time.Time `json:"at,omitzero"`
}

// ScheduleWindow is the time of day in which anything is sent, in minutes after midnight.
type ScheduleWindow struct {
	Open  int `json:"open"`
	Close int `json:"close"`
}

// LimitRequest limits what is sent to a target to Bytes in each period; 0: no limit.
type LimitRequest struct {
	Target   string `json:"target"`
	Bytes    int64  `json:"bytes"`
	PeriodMS int64  `json:"period_ms"`
}

// Schedule is what limits the sending to one target.
type Schedule struct {
	Target     string          `json:"target"`
	Enabled    bool            `json:"enabled"`
	Open       bool            `json:"open"` // something may be sent now
	Reason     string          `json:"reason"`
	Start      *ScheduleStart  `json:"start,omitempty"`
	Stop       *ScheduleStop   `json:"stop,omitempty"`
	Window     *ScheduleWindow `json:"window,omitempty"`
	LimitBytes int64           `json:"limit_bytes,omitempty"` // in each period; 0: no limit
	PeriodMS   int64           `json:"period_ms,omitempty"`
	SentBytes  uint64          `json:"sent_bytes"` // since the daemon's start
	Warning    string          `json:"warning,omitempty"`
}
