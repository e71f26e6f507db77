package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
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

// Serve answers the verbs of node on nc until stop is called. Each request runs in a
// goroutine of its own, maxRunning at a time; more are refused with NotReady. Verbs
// without a handler are refused.
func Serve(ctx context.Context, nc *nats.Conn, node string, handlers map[string]Handler) (stop func(), err error) {
	const maxRunning = 64
	running := make(chan struct{}, maxRunning)
	sub, err := nc.Subscribe(subject(node, "*"), func(m *nats.Msg) {
		verb := m.Subject[len(subject(node, "")):]
		select {
		case running <- struct{}{}:
		default:
			respond(m, nil, Errorf(NotReady, "try again", "%d requests are under way", maxRunning))
			return
		}
		go func() {
			defer func() { <-running }()
			reply, err := call(ctx, handlers, verb, m.Data)
			respond(m, reply, err)
		}()
	})
	if err != nil {
		return nil, fmt.Errorf("serve control requests: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

func call(ctx context.Context, handlers map[string]Handler, verb string, data []byte) (any, error) {
	h := handlers[verb]
	switch {
	case h == nil:
		return nil, Errorf(NotFound, "", "no verb %q", verb)
	case len(data) > maxRequest:
		return nil, Errorf(BadRequest, "", "%s: request of %d bytes", verb, len(data))
	}
	return h(ctx, data)
}

func respond(m *nats.Msg, reply any, err error) {
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
	data, err := json.Marshal(env)
	if err == nil {
		_ = m.Respond(data) // a client that is gone needs no answer
	}
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
}

// Dial connects to the node named node at address (host:port) with its secret.
func Dial(ctx context.Context, address, node, secret string) (*Client, error) {
	timeout := 5 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	nc, err := nats.Connect("nats://"+address, nats.Token(secret), nats.Timeout(timeout), nats.Name("control client"), nats.NoReconnect())
	if err != nil {
		return nil, Errorf(Unreachable, "is the daemon running?", "connect to %s: %v", address, err)
	}
	return &Client{nc: nc, node: node}, nil
}

// Close ends the client.
func (c *Client) Close() { c.nc.Close() }

// Node is the name of the machine the client talks to.
func (c *Client) Node() string { return c.node }

// Call sends req and decodes the answer into reply (nil: not wanted). It waits as long
// as ctx allows.
func (c *Client) Call(ctx context.Context, verb string, req, reply any) error {
	data, err := json.Marshal(req)
	if err != nil {
		return Errorf(BadRequest, "", "%s: %v", verb, err)
	}
	m, err := c.nc.RequestWithContext(ctx, subject(c.node, verb), data)
	if err != nil {
		return Errorf(Unreachable, "is the daemon running?", "%s on %s: %v", verb, c.node, err)
	}
	var env envelope
	if err := json.Unmarshal(m.Data, &env); err != nil {
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
