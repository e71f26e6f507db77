package interp

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
	"understudy/repset"
)

// Client calls verbs of one node; *control.Client is one.
type Client interface {
	Call(ctx context.Context, verb string, req, reply any) error
	Node() string
	Close()
}

// Config of an interpreter. Dial, Out and Err must be set.
type Config struct {
	// Dial connects to a machine at host:port, or for "" to the node the shell was
	// started for.
	Dial func(ctx context.Context, address string) (Client, error)
	// Login connects to a machine at host:port as a user of it, or for "" to the home
	// node; without a password it asks for one. Nil: there are no logins.
	Login func(ctx context.Context, address, user, password string, given bool) (Client, error)
	// Forget ends what Login began: the machine is dialled as a stranger again.
	Forget func(address string)
	Out    io.Writer // answers
	Err    io.Writer // errors and warnings; with JSON warnings alone

	JSON        bool // every answer one JSON object or array
	StopOnError bool // a failing statement ends the script
	Strict      bool // unknown options of a command are errors, not warnings
	Interactive bool // acknowledge what has no answer of its own
	Color       bool
	Getenv      func(string) string
	// Progress shows how far a wait is; "" wipes it. Nil: nobody looks.
	Progress func(string)
}

// Interp runs statements one after another; it is for one goroutine.
type Interp struct {
	cfg      Config
	vars     map[string]Value // by lower-case name
	local    map[string]Value // settings of the shell, by lower-case name
	clients  map[string]Client
	source   string             // address of the current source; "" is the home node
	chosen   bool               // SOURCE was given
	name     string             // of the current source, "" before it was asked
	target   string             // current target
	monitor  string             // current monitor
	set      string             // current replication set
	restores map[int]string     // numbers of restorations begun here, and where they run
	exit     *int64             // status given to EXIT
	edits    map[string]*edited // sets changed or looked at here, by key
	last     Value
	failed   int // statements that failed
}

// edited is a replication set as the session has it.
type edited struct {
	set     repset.Set
	changed bool // since it was loaded or saved
}

// Causes that end a script early.
var (
	// ErrExit: EXIT or QUIT.
	ErrExit = errors.New("exit")
	// ErrStopped: a statement failed and StopOnError is set.
	ErrStopped = errors.New("stopped at an error")
)

// New makes an interpreter with nothing chosen.
func New(cfg Config) *Interp {
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	return &Interp{cfg: cfg, vars: map[string]Value{}, clients: map[string]Client{}, edits: map[string]*edited{},
		local: map[string]Value{"waitunit": number(1), "clientlog": number(0)}}
}

// Close ends the sessions with the nodes.
func (in *Interp) Close() {
	for _, c := range in.clients {
		c.Close()
	}
	in.clients = map[string]Client{}
}

// Last is the value of the last statement.
func (in *Interp) Last() Value { return in.last }

// Unsaved lists replication sets with changes that are not saved.
func (in *Interp) Unsaved() []string {
	var out []string
	for _, e := range in.edits {
		if e.changed {
			out = append(out, e.set.Name)
		}
	}
	return out
}

// SourceName is the current source for the prompt, "" before the first command.
func (in *Interp) SourceName() string { return in.name }

// Source is the address of the current source, "" for the home node, and its name, which
// is asked for if it is not known yet; "" if it cannot be.
func (in *Interp) Source(ctx context.Context) (address, name string) {
	if in.name == "" {
		_, _ = in.current(ctx) // who cannot be reached has no name yet
	}
	return in.source, in.name
}

// ClientLog reports whether what is typed shall be kept.
func (in *Interp) ClientLog() bool { return in.local["clientlog"].truth() }

// ExitStatus is what EXIT was given, if it was.
func (in *Interp) ExitStatus() (status int64, ok bool) {
	if in.exit == nil {
		return 0, false
	}
	return *in.exit, true
}

// Run runs a script. It returns nil at its end, ErrExit, ErrStopped, or the cause of
// ctx; failing statements have been reported by then.
func (in *Interp) Run(ctx context.Context, s syntax.Script) error {
	for _, st := range s {
		if err := in.stmt(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// stmt runs one statement.
func (in *Interp) stmt(ctx context.Context, st syntax.Stmt) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch st := st.(type) {
	case *syntax.Assign:
		return in.assign(ctx, st)
	case *syntax.Call:
		v, err := in.call(ctx, st, false)
		if errors.Is(err, ErrExit) {
			return err
		}
		in.last = v
		return in.report(ctx, st.Cmd, st.Pos, err)
	case *syntax.If:
		ok, err := in.cond(st.Cond)
		if err != nil {
			return in.report(ctx, nil, st.Pos, err)
		}
		if ok {
			return in.Run(ctx, st.Then)
		}
		return in.Run(ctx, st.Else)
	case *syntax.While:
		return in.loop(ctx, st.Pos, st.Cond, st.Body, nil)
	case *syntax.For:
		if err := in.assign(ctx, st.Start); err != nil || in.last.Failed() && in.errored(st.Start) {
			return err
		}
		return in.loop(ctx, st.Pos, st.Cond, st.Body, st.Step)
	case *syntax.Count:
		return in.count(ctx, st)
	}
	return nil
}

// errored reports whether an assignment came to nothing: its variable is not set.
func (in *Interp) errored(a *syntax.Assign) bool {
	_, ok := in.vars[strings.ToLower(a.Name)]
	return !ok
}

func (in *Interp) cond(x syntax.Expr) (bool, error) {
	v, err := in.eval(x)
	return v.truth(), err
}

// loop runs body and step as long as cond is true.
func (in *Interp) loop(ctx context.Context, pos syntax.Pos, cond syntax.Expr, body syntax.Script, step *syntax.Assign) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ok, err := in.cond(cond)
		if err != nil || !ok {
			return in.report(ctx, nil, pos, err)
		}
		if err := in.Run(ctx, body); err != nil {
			return err
		}
		if step == nil {
			continue
		}
		v, err := in.eval(step.Expr)
		if err != nil { // counting on would never end
			return in.report(ctx, nil, step.Pos, err)
		}
		in.vars[strings.ToLower(step.Name)] = v
	}
}

// count runs FOR ... TO. The bounds are worked out once.
func (in *Interp) count(ctx context.Context, st *syntax.Count) error {
	bounds := []int64{0, 0, 1}
	for i, x := range []syntax.Expr{st.From, st.To, st.Step} {
		if x == nil {
			continue
		}
		v, err := in.eval(x)
		n, ok := v.Int()
		if err == nil && !ok {
			err = fail(syntax.BadParameter, "", "FOR counts numbers, not %q", v.String())
		}
		if err != nil {
			return in.report(ctx, nil, st.Pos, err)
		}
		bounds[i] = n
	}
	from, to, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return in.report(ctx, nil, st.Pos, fail(syntax.BadParameter, "", "FOR with STEP 0 would never end"))
	}
	for n := from; step > 0 && n <= to || step < 0 && n >= to; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		in.vars[strings.ToLower(st.Name)] = number(n)
		if err := in.Run(ctx, st.Body); err != nil {
			return err
		}
		next := n + step
		if (next > n) != (step > 0) {
			break // past the largest number
		}
		n = next
	}
	return nil
}

func (in *Interp) assign(ctx context.Context, a *syntax.Assign) error {
	var v Value
	var err error
	var cmd *syntax.Command
	if a.Call != nil {
		cmd = a.Call.Cmd
		v, err = in.call(ctx, a.Call, true)
		if errors.Is(err, ErrExit) {
			return err
		}
		if err != nil { // the script tests the code
			v = number(int64(explain(cmd, err).Code))
		}
	} else if v, err = in.eval(a.Expr); err != nil {
		return in.report(ctx, nil, a.Pos, err)
	}
	if v.kind == syntax.Str && len(v.s) > MaxText {
		return in.report(ctx, cmd, a.Pos, fail(syntax.BadParameter, "", "string of %d bytes, at most %d", len(v.s), MaxText))
	}
	const maxVars = 10000 // bounds what a script may collect
	key := strings.ToLower(a.Name)
	if _, known := in.vars[key]; !known && len(in.vars) >= maxVars {
		return in.report(ctx, cmd, a.Pos, fail(syntax.Failed, "", "more than %d variables", maxVars))
	}
	in.vars[key] = v
	if err == nil {
		in.last = number(1)
		if a.Call != nil {
			in.last = v
		}
	}
	return in.report(ctx, cmd, a.Pos, err)
}

// report tells of a failing statement. The error it returns ends the script.
func (in *Interp) report(ctx context.Context, cmd *syntax.Command, pos syntax.Pos, err error) error {
	if err == nil {
		return nil
	}
	e := explain(cmd, err)
	in.last = number(int64(e.Code))
	in.failed++
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	in.printError(e, pos)
	if in.cfg.StopOnError {
		return ErrStopped
	}
	return nil
}

// home is the node the shell was started for.
func (in *Interp) home(ctx context.Context) (Client, error) { return in.dial(ctx, "") }

// dial returns the client for an address, connecting once.
func (in *Interp) dial(ctx context.Context, address string) (Client, error) {
	if c := in.clients[address]; c != nil {
		if l, ok := c.(interface{ Alive() bool }); !ok || l.Alive() {
			return c, nil
		}
		delete(in.clients, address) // its daemon went away since
		c.Close()
	}
	const patience = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := in.cfg.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	in.clients[address] = c
	return c, nil
}

// current is the node commands about sets and connections go to: the source, or else
// the home node.
func (in *Interp) current(ctx context.Context) (Client, error) {
	c, err := in.dial(ctx, in.source)
	if err == nil {
		in.name = c.Node()
	}
	return c, err
}

// ask calls a verb of the current source. After a broken session the next command
// dials again.
func (in *Interp) ask(ctx context.Context, verb string, req, reply any) error {
	c, err := in.current(ctx)
	if err != nil {
		return err
	}
	return in.askOn(ctx, c, verb, req, reply)
}

func (in *Interp) askOn(ctx context.Context, c Client, verb string, req, reply any) error {
	err := c.Call(ctx, verb, req, reply)
	var ce *control.Error
	if errors.As(err, &ce) && ce.Code == control.Unreachable && ctx.Err() == nil {
		for address, have := range in.clients {
			if have == c {
				delete(in.clients, address)
				c.Close()
			}
		}
	}
	return err
}

// machine finds a machine by name, or by HOST[:PORT]; address is what dial takes.
func (in *Interp) machine(ctx context.Context, name string) (c Client, address string, err error) {
	if address, err = in.address(ctx, name); err != nil {
		return nil, "", err
	}
	if c, err = in.dial(ctx, address); err != nil && address == name {
		e := explain(nil, err)
		return nil, "", &Error{Code: syntax.NoAnswer, Control: e.Control, Msg: e.Msg, Hint: "give HOST:PORT, or name it with: machine add NAME HOST:PORT"}
	}
	return c, address, err
}
