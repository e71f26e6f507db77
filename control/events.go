package control

import "time"

// EventsRequest asks for the rows after Since, at most Limit (0: 500, which is the most):
// the newest if Since is 0, else the first. With WaitMS it is answered when there is
// something, at the latest after so long (30 s at most).
type EventsRequest struct {
	Since  uint64 `json:"since,omitempty"`
	Limit  int    `json:"limit,omitempty"`
	WaitMS int64  `json:"wait_ms,omitempty"`
}

// Events answers "events", oldest first. Last is the newest row's number: with fewer
// rows than asked for, ask again with the last one got.
type Events struct {
	Events  []Event `json:"events"`
	Last    uint64  `json:"last"`
	Damaged int     `json:"damaged,omitempty"` // rows that could not be read
}

// Event is something that happened. Ids and texts: docs/operate/events.md.
type Event struct {
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	ID         int       `json:"id"`
	Category   string    `json:"category"`
	Severity   string    `json:"severity"` // Info, Success, Warning, Error
	Text       string    `json:"text"`
	Set        string    `json:"set,omitempty"`
	Source     string    `json:"source,omitempty"`
	Target     string    `json:"target,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Repeated   int       `json:"repeated,omitempty"` // times left out before this row
}

// Alert is a condition that holds now.
type Alert struct {
	ID       int       `json:"id"`
	Severity string    `json:"severity"`
	Text     string    `json:"text"`
	Action   string    `json:"action,omitempty"`
	Since    time.Time `json:"since"`
	Times    int       `json:"times"` // how often it was reported since
}
