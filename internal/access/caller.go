package access

import (
	"context"
	"net"
)

// Level is what somebody may do.
type Level uint8

const (
	// None: see that the machine is there.
	None Level = iota
	// Monitor may look.
	Monitor
	// Admin may change.
	Admin
)

func (l Level) String() string {
	if l > Admin {
		return "unknown"
	}
	return [...]string{"none", "monitor", "admin"}[l]
}

// ParseLevel reads monitor or admin.
func ParseLevel(text string) (Level, bool) {
	for _, l := range []Level{Monitor, Admin} {
		if text == l.String() {
			return l, true
		}
	}
	return None, false
}

// Kind says as what somebody came in.
type Kind string

// The kinds of callers.
const (
	Guest   Kind = "guest"   // proved nothing
	Machine Kind = "machine" // a paired machine
	Invited Kind = "invited" // a machine that said the secret of an invitation
	Local   Kind = "local"   // read the token of this machine
	User    Kind = "user"    // gave user name and password
	Script  Kind = "key"     // signed with a key made by "understudy key add"
)

// Caller is who asks. It is comparable.
type Caller struct {
	Kind  Kind
	Name  string      // of the machine, user or key
	Level Level       // of people and scripts; machines have none
	Key   Fingerprint // of machines, paired or invited
}

func (c Caller) String() string {
	if c.Name == "" {
		return string(c.Kind)
	}
	return string(c.Kind) + " " + c.Name
}

// Attempt is what somebody at the door presented. Key and NKey are proven: the handshake
// and a signature did that.
type Attempt struct {
	From     net.Addr
	Key      Fingerprint // of the client certificate; zero: none
	NKey     string      // public key of a script
	User     string
	Password string // also the secret of an invitation
	Token    string // of local.json
}

type callerKey struct{}

// WithCaller returns a context that knows who asks.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who asks; a guest, if that is not known.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Kind: Guest}
}
