package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"understudy/internal/access"
	"understudy/internal/checked"
)

// maxRequest bounds a request in bytes: replication sets of thousands of rules fit.
const maxRequest = 1 << 20

// Handler carries out one verb. It gets the request as JSON and returns the reply to
// be marshalled, or an error; one that is no *Error is sent as Internal.
type Handler func(ctx context.Context, req json.RawMessage) (any, error)

// envelope is every reply on the wire.
type envelope struct {
	Error *Error          `json:"error,omitempty"`
	Reply json.RawMessage `json:"reply,omitempty"`
}

// Server is where verbs are served; stream.Server is one. What fn returns without an
// error reaches the caller behind one zero byte.
type Server interface {
	Handle(subject string, fn func(ctx context.Context, data []byte) ([]byte, error)) (stop func(), err error)
}

// Serve answers the verbs of node until stop is called. Every verb of the table needs
// a handler.
func Serve(s Server, node string, handlers map[string]Handler) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range stops {
			f()
		}
	}
	serve := func(node, verb string, level Level) error {
		h := handlers[verb]
		if h == nil {
			return fmt.Errorf("serve control requests: no handler for %q", verb)
		}
		f, err := s.Handle(subject(node, verb), func(ctx context.Context, data []byte) ([]byte, error) {
			return answer(ctx, verb, guarded(level, h), data), nil
		})
		if err != nil {
			return fmt.Errorf("serve control requests: %w", err)
		}
		stops = append(stops, f)
		return nil
	}
	err = serve(anyNode, "version", None)
	for _, v := range Verbs {
		if err == nil {
			err = serve(node, v.Name, v.Level)
		}
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// guarded refuses callers below the level. The messaging server keeps their requests
// from coming here at all; this is the second lock.
func guarded(level Level, h Handler) Handler {
	return func(ctx context.Context, req json.RawMessage) (any, error) {
		if c := access.CallerOf(ctx); c.Level < level {
			return nil, denied(c.String(), level)
		}
		return h(ctx, req)
	}
}

func denied(who string, level Level) *Error {
	return Errorf(Denied, fmt.Sprintf("log in as a user with %s access, or use a key that has it", level), "%s: %s access is needed", who, level)
}

// answer calls h and packs what it says.
func answer(ctx context.Context, verb string, h Handler, data []byte) []byte {
	var reply any
	var err error
	if len(data) > maxRequest {
		err = Errorf(BadRequest, "", "%s: request of %d bytes", verb, len(data))
	} else {
		reply, err = h(ctx, data)
	}
	var env envelope
	if err == nil {
		env.Reply, err = json.Marshal(reply)
	}
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Code: Internal, Msg: err.Error()}
		}
		env = envelope{Error: e}
	}
	out, err := json.Marshal(env)
	if err != nil { // texts and numbers only: cannot happen
		panic(err)
	}
	return out
}

// Decode reads a request, refusing fields it does not know.
func Decode(raw json.RawMessage, into any) error {
	if err := strictUnmarshal(raw, into); err != nil {
		return Errorf(BadRequest, "", "request: %v", err)
	}
	return nil
}

// Client calls verbs of one node. Several goroutines may use it.
type Client struct {
	nc   *nats.Conn
	node string

	mu      sync.Mutex // guards waiting
	waiting map[*call]bool
}

// call is one that waits for its answer.
type call struct {
	subject string
	cancel  context.CancelCauseFunc
}

// Close ends the client.
func (c *Client) Close() { c.nc.Close() }

// Alive reports whether the connection still stood when it was last heard of.
func (c *Client) Alive() bool { return !c.nc.IsClosed() }

// Node is the name of the machine the client talks to.
func (c *Client) Node() string { return c.node }

// Call sends req and decodes the answer into reply (nil: not wanted). It waits as long
// as ctx allows.
func (c *Client) Call(ctx context.Context, verb string, req, reply any) error {
	return c.callOn(ctx, subject(c.node, verb), verb, req, reply)
}

func (c *Client) callOn(ctx context.Context, subject, verb string, req, reply any) error {
	data, err := json.Marshal(req)
	if err != nil {
		return Errorf(BadRequest, "", "%s: %v", verb, err)
	}
	m, err := c.request(ctx, subject, data)
	if err != nil {
		if e := new(Error); errors.As(err, &e) {
			return e
		}
		if errors.Is(ctx.Err(), context.Canceled) { // by the caller: nothing is wrong with the daemon
			return fmt.Errorf("%s on %s: interrupted: %w", verb, c.node, ctx.Err())
		}
		return Errorf(Unreachable, "is the daemon running?", "%s on %s: %v", verb, c.node, err)
	}
	var env envelope
	answer, err := checked.Open(m.Data)
	if err != nil || len(answer) < 1 || answer[0] != 0 {
		return Errorf(Internal, "call again", "%s on %s: answer not understood: %q", verb, c.node, m.Data)
	}
	if err := json.Unmarshal(answer[1:], &env); err != nil {
		return Errorf(Internal, "", "%s on %s: answer not understood: %v", verb, c.node, err)
	}
	if env.Error != nil {
		return env.Error
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(env.Reply, reply)
}
