package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"understudy/internal/access"
)

// The door is the one port of a node. Whoever comes is greeted in the messaging
// protocol, over TLS, and looked at before the messaging server hears of it: strangers
// never reach the server. Who may come in gets a connection inside the process, under a
// name made for it, with the subjects it may use; what it says passes through a screen.

const (
	greetTimeout = 5 * time.Second  // from the connection to a complete introduction
	admitTimeout = 40 * time.Second // a login may be delayed, and a password check takes its time
	writeTimeout = 30 * time.Second // of a visitor that does not read

	maxGreeting  = 4 << 10 // bytes of an introduction
	maxStrangers = 256     // not yet admitted, from everywhere
	maxPerHost   = 24      // of them from one address
	maxVisitors  = 4096    // admitted: a thousand machines with their connections, and people
)

// Grant is what the door gives to somebody admitted.
type Grant struct {
	Caller             access.Caller
	Publish, Subscribe []string // subjects beside the answers to its own requests
}

// Admit decides who comes in. It may take its time, up to admitTimeout. The text of its
// error is told to whoever knocked.
type Admit func(ctx context.Context, a access.Attempt) (Grant, error)

// door serves one listener.
type door struct {
	ln    net.Listener
	tls   *tls.Config
	admit Admit
	log   *slog.Logger
	inner func() (net.Conn, error) // a connection to the messaging server
	ctx   context.Context
	stop  context.CancelFunc
	wait  sync.WaitGroup

	mu        sync.Mutex // guards what follows
	strangers map[net.Conn]netip.Addr
	visitors  map[string]*visitor // by session
	drops     int                 // how often sessions were ended; see come
}

// visitor is somebody admitted.
type visitor struct {
	grant    Grant
	session  string // names its inbox; chosen by the client, at random
	password string // its login inside the process
	conn     net.Conn
	raw      net.Conn // below conn: closing it never waits for the other side
}

// introduction is what a client says first, as far as it matters here.
type introduction struct {
	NKey     string `json:"nkey"`
	Sig      string `json:"sig"`
	User     string `json:"user"`
	Password string `json:"pass"`
	Token    string `json:"auth_token"`
	Name     string `json:"name"` // the session
	Echo     bool   `json:"echo"`
	Protocol int    `json:"protocol"`
}

// sessionForm is what a session is called: long enough that nobody guesses another's.
var sessionForm = regexp.MustCompile(`^[A-Za-z0-9]{22,64}$`)

// newDoor takes the address; open lets in.
func newDoor(listen string, cfg *tls.Config, admit Admit, inner func() (net.Conn, error), log *slog.Logger) (*door, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	ln, err := lc.Listen(context.Background(), "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %w; stop the program that uses it or choose another port", ErrPort, listen, err)
	}
	d := &door{ln: ln, tls: cfg, admit: admit, inner: inner, log: log,
		strangers: map[net.Conn]netip.Addr{}, visitors: map[string]*visitor{}}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d, nil
}

// open begins to let in.
func (d *door) open() {
	if d != nil {
		d.wait.Go(d.accept)
	}
}

// close ends all visits and waits for them.
func (d *door) close() {
	if d == nil {
		return
	}
	d.stop()
	_ = d.ln.Close() // nothing to do about it
	d.mu.Lock()
	for c := range d.strangers {
		c.Close()
	}
	for _, v := range d.visitors {
		v.raw.Close()
	}
	d.mu.Unlock()
	d.wait.Wait()
}

func (d *door) accept() {
	for {
		conn, err := d.ln.Accept()
		switch {
		case d.ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return
		case err != nil: // out of descriptors: others will give some back
			d.log.Warn("connection not accepted", "err", err)
			select {
			case <-d.ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		case !d.enter(conn):
			conn.Close()
		default:
			d.wait.Go(func() { d.serve(conn) })
		}
	}
}

// enter counts a stranger, if there is room for one.
func (d *door) enter(conn net.Conn) bool {
	ap, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	from := ap.Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	same := 0
	for _, a := range d.strangers {
		if a == from {
			same++
		}
	}
	if d.ctx.Err() != nil || len(d.strangers) >= maxStrangers || same >= maxPerHost {
		return false
	}
	d.strangers[conn] = from
	return true
}

func (d *door) serve(raw net.Conn) {
	defer raw.Close()
	defer d.forget(raw)
	v, in, err := d.greet(raw)
	if err != nil {
		d.log.Debug("not admitted", "from", raw.RemoteAddr().String(), "err", err)
		return
	}
	defer d.leave(v)
	inner, down, err := d.connect(v)
	if err != nil {
		d.log.Warn("visitor not connected", "caller", v.grant.Caller.String(), "err", err)
		return
	}
	d.visit(v, in, inner, down)
}

func (d *door) forget(raw net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.strangers, raw)
}

// greet secures the connection and finds out who it is.
func (d *door) greet(raw net.Conn) (*visitor, *bufio.Reader, error) {
	if err := socketOptionsOf(raw); err != nil {
		return nil, nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(greetTimeout)); err != nil {
		return nil, nil, err
	}
	conn := tls.Server(raw, d.tls)
	if err := conn.HandshakeContext(d.ctx); err != nil {
		return nil, nil, err
	}
	key, err := access.Presented(conn.ConnectionState())
	if err != nil {
		return nil, nil, err
	}
	nonce := base64.RawURLEncoding.EncodeToString(randomBytes(24))
	if err := hello(conn, nonce); err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(conn, screenBuffer)
	intro, err := readIntroduction(in)
	if err != nil {
		return nil, nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(admitTimeout + greetTimeout)); err != nil {
		return nil, nil, err
	}
	v := &visitor{session: intro.Name, password: base64.RawURLEncoding.EncodeToString(randomBytes(24)), conn: conn, raw: raw}
	ctx, cancel := context.WithTimeout(d.ctx, admitTimeout)
	defer cancel()
	drops := d.dropped()
	attempt, err := intro.attempt(raw.RemoteAddr(), key, nonce)
	if err == nil {
		v.grant, err = d.admit(ctx, attempt)
	}
	if err == nil {
		err = d.come(v, raw, drops)
	}
	if err != nil {
		_, _ = fmt.Fprintf(conn, "-ERR '%s: %s'\r\n", refusal, oneLine(err.Error())) // it is turned away either way
		return nil, nil, err
	}
	return v, in, raw.SetDeadline(time.Time{})
}

// refusal begins the error a client gets that is not admitted.
const refusal = "Authorization Violation"

// oneLine fits a text into a protocol line.
func oneLine(text string) string {
	b := []byte(text[:min(len(text), 500)])
	for i, c := range b {
		if c < ' ' || c == '\'' {
			b[i] = ' '
		}
	}
	return string(b)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// hello is the server's first line: what a client needs to introduce itself.
func hello(conn net.Conn, nonce string) error {
	info, err := json.Marshal(server.Info{ID: "understudy", Name: "understudy", Version: server.VERSION, Proto: 1,
		Headers: true, MaxPayload: maxPayload, AuthRequired: true, Nonce: nonce})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "INFO %s\r\n", info)
	return err
}

// ErrGreeting: what came was no introduction of the messaging protocol.
var errGreeting = errors.New("introduction not understood")

func readIntroduction(in *bufio.Reader) (introduction, error) {
	var intro introduction
	line, err := readLine(in, maxGreeting)
	if err != nil {
		return intro, err
	}
	verb, rest, _ := bytes.Cut(line, []byte(" "))
	if !bytes.EqualFold(verb, []byte("CONNECT")) {
		return intro, errGreeting
	}
	if err := json.Unmarshal(rest, &intro); err != nil {
		return intro, errGreeting // the error's own text may quote a password
	}
	if !sessionForm.MatchString(intro.Name) {
		return intro, fmt.Errorf("%w: no session", errGreeting)
	}
	return intro, nil
}

// attempt proves what can be proven here.
func (i *introduction) attempt(from net.Addr, key access.Fingerprint, nonce string) (access.Attempt, error) {
	a := access.Attempt{From: from, Key: key, User: i.User, Password: i.Password, Token: i.Token}
	if i.NKey == "" {
		return a, nil
	}
	sig, err := base64.RawURLEncoding.DecodeString(i.Sig)
	if err != nil || !access.Signed(i.NKey, []byte(nonce), sig) {
		return a, errors.New("signature does not fit")
	}
	a.NKey = i.NKey
	return a, nil
}

// come makes a stranger a visitor, unless sessions were ended since it was decided to
// let it in: it may be one of those that were meant.
func (d *door) come(v *visitor, raw net.Conn, drops int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return ErrClosed
	}
	if d.drops != drops {
		return errors.New("rights have just changed, come again")
	}
	if len(d.visitors) >= maxVisitors {
		return errors.New("too many sessions")
	}
	if old := d.visitors[v.session]; old != nil {
		if v.grant.Caller.Kind == access.Guest || old.grant.Caller != v.grant.Caller {
			return errors.New("session exists")
		}
		old.raw.Close() // it came back before we noticed that it was gone
	}
	d.visitors[v.session] = v
	delete(d.strangers, raw)
	return nil
}

func (d *door) leave(v *visitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.visitors[v.session] == v {
		delete(d.visitors, v.session)
	}
}

// connect opens the visitor's connection inside the process, and logs it in there.
func (d *door) connect(v *visitor) (inner net.Conn, down *bufio.Reader, err error) {
	if inner, err = d.inner(); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			inner.Close()
		}
	}()
	if err := inner.SetDeadline(time.Now().Add(greetTimeout)); err != nil {
		return nil, nil, err
	}
	down = bufio.NewReaderSize(inner, screenBuffer)
	if _, err := readLine(down, 64<<10); err != nil { // its INFO; the visitor had ours
		return nil, nil, err
	}
	connect, err := json.Marshal(map[string]any{"user": v.session, "pass": v.password, "verbose": false, "pedantic": false,
		"name": v.grant.Caller.String(), "lang": "go", "version": "1", "protocol": 1, "headers": true, "no_responders": true, "echo": true})
	if err == nil {
		_, err = fmt.Fprintf(inner, "CONNECT %s\r\n", connect)
	}
	if err == nil {
		err = inner.SetDeadline(time.Time{})
	}
	return inner, down, err
}

// visit passes on what both sides say until one of them ends.
func (d *door) visit(v *visitor, in *bufio.Reader, inner net.Conn, down *bufio.Reader) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := io.CopyBuffer(deadlineWriter{v.conn}, onlyReader{down}, make([]byte, screenBuffer))
		d.ended(v, "answers", err)
		v.conn.Close()
	}()
	s := screen{in: in, out: bufio.NewWriterSize(inner, screenBuffer), inbox: []byte(inboxOf(v.session) + "."), subs: map[string]bool{}}
	err := s.run()
	d.ended(v, "requests", err)
	if errors.As(err, new(*screenError)) {
		_ = v.conn.SetWriteDeadline(time.Now().Add(time.Second)) // tell it, if it listens
		_, _ = fmt.Fprintf(v.conn, "-ERR '%s'\r\n", oneLine(err.Error()))
	}
	inner.Close()
	v.conn.Close()
	<-ended
}

func (d *door) ended(v *visitor, what string, err error) {
	if errors.As(err, new(*screenError)) {
		d.log.Warn("visitor broke the rules", "caller", v.grant.Caller.String(), "err", err)
		return
	}
	d.log.Debug("visit ended", "caller", v.grant.Caller.String(), "side", what, "err", err)
}

// onlyReader hides WriteTo, which would write without a deadline's renewal.
type onlyReader struct{ io.Reader }

// deadlineWriter gives up on a visitor that does not read.
type deadlineWriter struct{ conn net.Conn }

func (w deadlineWriter) Write(b []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.conn.Write(b)
}

// inboxOf is below what a session's answers come in.
func inboxOf(session string) string { return "_INBOX." + session }

// visitorOf finds a visitor by its session.
func (d *door) visitorOf(session string) (*visitor, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.visitors[session]
	return v, ok
}

// drop ends the visits of callers that match.
func (d *door) drop(match func(access.Caller) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drops++
	for _, v := range d.visitors {
		if match(v.grant.Caller) {
			v.raw.Close()
		}
	}
}

func (d *door) dropped() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.drops
}

// callers lists who is in, once for each session.
func (d *door) callers() (list []access.Caller) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range d.visitors {
		list = append(list, v.grant.Caller)
	}
	return list
}
