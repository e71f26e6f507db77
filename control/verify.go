package control

import (
	"time"
)

// VerifyRequest starts or stops a verification of a connection, or asks how it is. With
// WaitMS it is answered when the verification has ended, at the latest after so long
// (30 s at most).
type VerifyRequest struct {
	ID       int    `json:"con_id"`
	Action   string `json:"action"` // start, stop, status, schedule
	Checksum bool   `json:"checksum,omitempty"`
	Sync     bool   `json:"sync,omitempty"`    // a difference mirror follows if something differs
	Newer    bool   `json:"newer,omitempty"`   // of that mirror: only files later on the source
	Orphans  bool   `json:"orphans,omitempty"` // orphans are removed or set aside by the target
	// MinAgeMS spares orphans that were changed more recently.
	MinAgeMS int64 `json:"min_age_ms,omitempty"`
	WaitMS   int64 `json:"wait_ms,omitempty"`
	// Schedule is when a verification with these options begins by itself, with action
	// schedule; nil: never.
	Schedule *VerifySchedule `json:"schedule,omitempty"`
}

// VerifySchedule is a moment and the time between repetitions: days of the calendar, or
// seconds. Without repetition it is that moment alone.
type VerifySchedule struct {
	At           time.Time `json:"at"`
	EveryDays    int       `json:"every_days,omitempty"`
	EverySeconds int64     `json:"every_seconds,omitempty"`
}

// OrphansRequest starts or stops a search for orphans alone; as VerifyRequest.
type OrphansRequest struct {
	ID       int    `json:"con_id"`
	Action   string `json:"action"`           // start, stop, status
	Report   bool   `json:"report,omitempty"` // nothing is removed or moved
	MinAgeMS int64  `json:"min_age_ms,omitempty"`
	WaitMS   int64  `json:"wait_ms,omitempty"`
}

// VerifyReport tells of the present or last verification of a connection.
type VerifyReport struct {
	ID          int                `json:"con_id"`
	State       string             `json:"state"` // none, running, done, stopped, failed
	Equal       bool               `json:"equal"` // done, everything was compared, nothing differs
	Checksum    bool               `json:"checksum"`
	OrphansOnly bool               `json:"orphans_only,omitempty"`
	Started     time.Time          `json:"started"`
	Ended       time.Time          `json:"ended"`
	Current     string             `json:"current,omitempty"`
	Totals      VerifyTotals       `json:"totals"`
	Differences []VerifyDifference `json:"differences"` // the first 1000
	Log         string             `json:"log,omitempty"`
	Remirror    bool               `json:"remirror,omitempty"` // a mirror was started
	Error       string             `json:"error,omitempty"`
	Schedule    *VerifySchedule    `json:"schedule,omitempty"`
	Next        time.Time          `json:"next,omitzero"` // when the schedule begins the next one
}

// VerifyTotals count names and bytes.
type VerifyTotals struct {
	Files        uint64 `json:"files"`
	Dirs         uint64 `json:"dirs"`
	Bytes        uint64 `json:"bytes"`
	Read         uint64 `json:"read"`
	Different    uint64 `json:"different"`
	Missing      uint64 `json:"missing"`
	Orphans      uint64 `json:"orphans"`
	ToSend       uint64 `json:"to_send"`
	Treated      uint64 `json:"treated"`
	Spared       uint64 `json:"spared"`
	TreatedBytes uint64 `json:"treated_bytes"`
	Excluded     uint64 `json:"excluded"`
	Unsettled    uint64 `json:"unsettled"`
	Errors       uint64 `json:"errors"`
}

// VerifyDifference is one name that differs.
type VerifyDifference struct {
	Path    string   `json:"path"`
	Kinds   []string `json:"kinds"`
	Bytes   int64    `json:"bytes"`
	Blocks  int64    `json:"blocks,omitempty"`
	Treated string   `json:"treated,omitempty"`
	Op      uint64   `json:"op"` // at which both sides were compared
}
