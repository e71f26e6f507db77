package failover

import (
	"context"
	"encoding/json"
)

// Kind is something a monitor tells its operator. The node gives it a number and a text;
// the arguments are listed here.
type Kind int

// The kinds, with their arguments.
const (
	SourceSilent     Kind = iota // source; an alert: a quarter of the time to fail passed
	SourceFailed                 // source
	DecisionAwaited              // source, why; an alert
	TargetIsolated               // source, why; an alert
	Unasked                      // source, which addresses and why; an alert: this machine cannot ask them
	TakeoverBegins               // source
	TakeoverDone                 // source
	TakeoverComplete             // source; the original's second word for it
	TakeoverErrors               // source, how many
	StepBegins                   // source, step, text
	StepFailed                   // source, step, error
	ScriptStarts                 // step, path
	ScriptEnded                  // step, output
	ScriptFailed                 // step, error, output
	Conflict                     // address, MAC of who answers
	Contested                    // address, MAC; an alert: after the takeover
	AddressAdded                 // address, bits, network card
	AddressFailed                // address, error
	Announced                    // MAC, address
	AddressRemoved               // address, network card
	RemoveFailed                 // address, error
	FailbackDone                 // source
	Watched                      // address: put on the watch list
	Unwatched                    // address: taken off it
	RecordBad                    // error: a stored monitor cannot be read; source is empty
)

// Host is the node, as far as a takeover needs it. Its methods may be called by several
// goroutines at once.
type Host interface {
	// Name of this machine.
	Name() string
	// Usable says why the data received from source cannot be used; nil if it can, or if
	// nothing is received from it.
	Usable(source string) error
	// Seal waits until everything received from source is applied (skip: does not), and
	// ends receiving from it. What it returns describes the replicas; empty: there are
	// none. It may be called again.
	Seal(ctx context.Context, source string, skip bool) (json.RawMessage, error)
	// Unseal lets the source go on.
	Unseal(source string)
	// Tell is an event about source, Alert one that holds until it is Cured.
	Tell(k Kind, source string, args ...any)
	Alert(k Kind, source string, args ...any)
	Cured(source string, kinds ...Kind)
	Keys
}
