package settings

import (
	"fmt"
	"math"
	"strings"
)

// Kind of a setting's value.
type Kind uint8

// The kinds.
const (
	Flag   Kind = iota // 0 or 1
	Number             // Min to Max
	Text               // any printable text up to maxText bytes
	File               // name of a file, without a slash
	Path               // absolute path, or empty
	List               // words divided by commas
)

var kindNames = [...]string{"0 or 1", "number", "text", "file name", "path", "list"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Owner is the part of a machine that a setting belongs to.
type Owner string

// The owners.
const (
	General  Owner = "general"
	Source   Owner = "source"
	Target   Owner = "target"
	Network  Owner = "network"
	Queue    Owner = "queue"
	Logging  Owner = "logging"
	Failover Owner = "failover"
	Client   Owner = "client"
)

// When says from when on a new value counts.
type When uint8

// The moments. Whatever is later than AtOnce is told to who sets it.
const (
	AtOnce      When = iota
	NextMirror       // of each connection
	NextSession      // of each connection: after an interruption, or disconnect and connect
	Restart          // of the daemon
)

var whenNames = [...]string{"at once", "next mirror", "next session of a connection", "restart of the daemon"}

func (w When) String() string {
	if int(w) < len(whenNames) {
		return whenNames[w]
	}
	return "unknown"
}

// Setting is one row of the table.
type Setting struct {
	Name     string   // canonical spelling
	Aliases  []string // other names
	Owner    Owner
	Kind     Kind
	Min, Max int64    // of a Number; Min <= Max
	Unit     string   // of a Number: "s", "MB", "bytes"; "" counts things
	Choices  []string // of a Number with few values: what each means, "0 none"; for people
	Default  string
	Help     string // one sentence without a full stop
	When     When

	// Key is the daemon's configuration key that the setting is, and Scale what one of it
	// is there: bytes, or nanoseconds of a duration; 0: one.
	Key   string
	Scale int64
	// Without says why a setting has no effect. It is empty for those that have one.
	Without  string
	ReadOnly bool // told by the daemon, not to be set
	Hidden   bool // of the original's own making: not in lists for people
}

// maxText bounds a value in bytes.
const maxText = 4096

// ValueError: a value is not accepted.
type ValueError struct {
	Setting *Setting
	Value   string
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("%s: %.100q is not accepted: %s", e.Setting.Name, e.Value, e.Setting.Range())
}

// Range says in words which values are accepted.
func (s *Setting) Range() string {
	switch s.Kind {
	case Flag:
		return "0 or 1"
	case Number:
		out := fmt.Sprintf("%d to %d", s.Min, s.Max)
		if s.Max == math.MaxInt64 || s.Max == math.MaxUint32 && s.Unit == "" {
			out = fmt.Sprintf("%d or more", s.Min)
		}
		if s.Unit != "" {
			out += " " + s.Unit
		}
		if len(s.Choices) > 0 {
			out += " (" + strings.Join(s.Choices, ", ") + ")"
		}
		return out
	case File:
		return "the name of a file, without /"
	case Path:
		return "an absolute path, or nothing"
	case List:
		return "words divided by commas, or nothing"
	}
	return fmt.Sprintf("text of up to %d bytes", maxText)
}

// Find looks a setting up by its name or another name of it, regardless of case.
func Find(name string) *Setting { return byName[strings.ToLower(name)] }

var byName = indexed(Table)

func indexed(table []Setting) map[string]*Setting {
	out := map[string]*Setting{}
	for i := range table {
		s := &table[i]
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			out[strings.ToLower(name)] = s
		}
	}
	return out
}
