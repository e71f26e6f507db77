package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"understudy/internal/access"
	"understudy/internal/checked"
)

// dialTimeout bounds the way to a node if the caller's context has no end, and the
// handshake in any case. A login may take longer: the node delays those that follow a
// wrong one, and the password check of the machine has a delay of its own.
const (
	dialTimeout  = 5 * time.Second
	loginTimeout = 45 * time.Second
)

// Login says who a client is, and how it knows the node. Without user, token, key and
// machine it is a guest, who may ask what runs there.
type Login struct {
	// Accept decides by the key of the node, before anything is told to it. Nil accepts
	// none.
	Accept func(access.Fingerprint) error

	User     string
	Password string
	Token    string
	Key      *access.KeyFile
	Machine  *access.Keyring // shows its certificate
}

// AcceptKeys accepts a node by one of its keys.
func AcceptKeys(keys ...access.Fingerprint) func(access.Fingerprint) error {
	return func(key access.Fingerprint) error {
		for _, k := range keys {
			if k == key {
				return nil
			}
		}
		return fmt.Errorf("the key of the machine is %s, which is not the one expected", key.Short())
	}
}

// AcceptAny accepts whoever answers: for questions whose answer is not trusted.
func AcceptAny(access.Fingerprint) error { return nil }

// door connects to a node and makes the connection secure.
type door struct {
	ctx     context.Context
	login   *Login
	refused error // by Accept
}

func (d *door) Dial(network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(d.ctx, dialTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	accept := func(key access.Fingerprint) error {
		if d.login.Accept == nil {
			d.refused = errors.New("the key of the machine is not known")
		} else {
			d.refused = d.login.Accept(key)
		}
		return d.refused
	}
	if d.login.Machine != nil {
		return d.login.Machine.Introduce(ctx, conn, accept)
	}
	return access.Anonymous(ctx, conn, accept)
}

// Dial connects to the node named node at address (host:port). A caller who does not
// know the name gives "", and the node is asked for it. Denied: the login is refused, or
// the node is not the one meant.
func Dial(ctx context.Context, address, node string, login Login) (*Client, error) {
	c := &Client{node: node, waiting: map[*call]bool{}}
	d := &door{ctx: ctx, login: &login}
	session := rand.Text()
	options := []nats.Option{nats.Name(session), nats.CustomInboxPrefix("_INBOX." + session), nats.SetCustomDialer(d),
		nats.NoReconnect(), nats.Timeout(untilEnd(ctx, loginTimeout)), nats.ErrorHandler(c.trouble)}
	switch {
	case login.Key != nil:
		public, sign, err := login.Key.Signer()
		if err != nil {
			return nil, Errorf(BadRequest, "make another with: understudy key add", "%v", err)
		}
		options = append(options, nats.Nkey(public, sign))
	case login.Token != "":
		options = append(options, nats.Token(login.Token))
	case login.User != "":
		options = append(options, nats.UserInfo(login.User, login.Password))
	}
	var err error
	if c.nc, err = nats.Connect("nats://"+address, options...); err != nil {
		return nil, dialError(address, err, d.refused)
	}
	if node != "" {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, untilEnd(ctx, dialTimeout))
	defer cancel()
	c.node = anyNode
	var v Version
	if err := c.Call(ctx, "version", struct{}{}, &v); err != nil {
		c.nc.Close()
		return nil, err
	}
	c.node = v.Name
	return c, nil
}

func untilEnd(ctx context.Context, limit time.Duration) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return max(time.Until(d), time.Millisecond)
	}
	return limit
}

// refusal begins what a node says to those it does not let in.
const refusal = "Authorization Violation"

func dialError(address string, err, refused error) error {
	if refused != nil {
		return Errorf(Denied, "if its key was changed, pair again, or correct known_machines", "%s: %v", address, refused)
	}
	if _, why, ok := strings.Cut(err.Error(), refusal); ok {
		return Errorf(Denied, "check user, password and groups; see docs/operate/access.md", "%s refuses: %s", address, strings.TrimPrefix(why, ": "))
	}
	if errors.Is(err, nats.ErrNoServers) {
		return Errorf(Unreachable, "does its daemon run, and is the address right?", "connect to %s: no answer", address)
	}
	return Errorf(Unreachable, "is the daemon running?", "connect to %s: %v", address, err)
}

// trouble gets what the node says outside of answers: a request it does not take.
func (c *Client) trouble(_ *nats.Conn, _ *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiting {
		if strings.Contains(err.Error(), `"`+w.subject+`"`) {
			w.cancel(Errorf(Denied, "do it on "+c.node+" itself, or log in there as a user with more access, or with a key that has it", "not allowed on %s: %s",
				c.node, strings.TrimPrefix(w.subject, "ctl."+c.node+".")))
		}
	}
}

// request sends data and waits for the answer.
func (c *Client) request(ctx context.Context, subject string, data []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &call{subject: subject, cancel: cancel}
	c.mu.Lock()
	c.waiting[w] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, w)
		c.mu.Unlock()
	}()
	m, err := c.nc.RequestWithContext(ctx, subject, checked.Seal(data))
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return m, err
}
