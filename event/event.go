package event

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// ID is the number of a kind of event.
type ID int

// Severity says how much an event wants to be looked at.
type Severity string

// The severities.
const (
	Info    Severity = "Info"
	Success Severity = "Success" // something that went wrong is well again
	Warning Severity = "Warning" // it heals itself, but look
	Error   Severity = "Error"   // someone must act
)

// Level for the log: Info and Success are information.
func (s Severity) Level() slog.Level {
	switch s {
	case Warning:
		return slog.LevelWarn
	case Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// Kind is a row of the table.
type Kind struct {
	ID       ID
	Category string // component: Service, Capture, Target
	Severity Severity
	Phrase   string   // lower case, for the log
	Text     string   // %1, %2 ... stand for the arguments
	Args     []string // names of the arguments
	Action   string   // what a person should do; "": nothing
	Cure     ID       // raised when an alert of this kind ends; 0: none
}

// Lookup finds the row of an event.
func Lookup(id ID) (Kind, bool) {
	k, ok := byID[id]
	return k, ok
}

// Kinds returns the table.
func Kinds() []Kind { return slices.Concat(kinds, failoverKinds, verifyKinds) }

var byID = func() map[ID]Kind {
	m := make(map[ID]Kind, len(kinds))
	for _, k := range Kinds() {
		m[k.ID] = k
	}
	return m
}()

// fill puts the arguments into the text.
func (k Kind) fill(args []string) string {
	text := k.Text
	for i := len(args); i > 0; i-- { // %10 before %1
		text = strings.ReplaceAll(text, fmt.Sprintf("%%%d", i), args[i-1])
	}
	return text
}

// About says what an event is about. The zero value is the machine itself.
type About struct {
	Connection string `json:"connection,omitempty"` // key of a connection of this machine as source
	Source     string `json:"source,omitempty"`     // for the target's half of a connection: where it comes from
	Set        string `json:"set,omitempty"`
	Target     string `json:"target,omitempty"`
	Dir        string `json:"dir,omitempty"` // captured directory
}

// Event is something that happened.
type Event struct {
	Seq      uint64    `json:"seq"` // counts up over restarts; a hole is a row that got lost
	Time     time.Time `json:"time"`
	ID       ID        `json:"id"`
	Category string    `json:"category"`
	Severity Severity  `json:"severity"`
	Text     string    `json:"text"`
	Args     []string  `json:"args,omitempty"`
	About    About     `json:"about"`
	// Repeated is how often the same was left out before this row; the row itself is the
	// last of them.
	Repeated int `json:"repeated,omitempty"`
}

// Alert is a condition that holds.
type Alert struct {
	ID       ID        `json:"id"`
	Severity Severity  `json:"severity"`
	Text     string    `json:"text"`
	Action   string    `json:"action,omitempty"`
	Since    time.Time `json:"since"`
	Times    int       `json:"times"` // how often it was reported since
	About    About     `json:"about"`

	args []string
}
