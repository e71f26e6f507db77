package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"understudy/internal/access"
)

// Times of a link; link_alive.go says what they add up to. The control connection
// carries little, so silence there means trouble soon; on the bulk connection a ping may
// wait behind a frame on a slow line, and TCP itself reports data that nobody
// acknowledges.
const (
	dialTimeout   = 4 * time.Second
	reconnectWait = 100 * time.Millisecond
	controlPing   = time.Second
	bulkPing      = 10 * time.Second
	userTimeout   = 5 * time.Second // TCP_USER_TIMEOUT: data unacknowledged so long ends the connection
	unsentMax     = 256 << 10       // TCP_NOTSENT_LOWAT: bytes waiting in the kernel ahead of a live change
)

// LinkConfig says where a peer is.
type LinkConfig struct {
	Addr  string // host:port
	Peer  string // name of the machine there; it must be paired
	Keys  *access.Keyring
	Later bool // connect in the background: the link is down at first
	// ControlOnly: there is no bulk connection, since nothing but small messages is to be
	// said. A peer that is away is dialled once a second.
	ControlOnly bool
	Log         *slog.Logger
}

// Link is the way to a peer's server: one connection for control and heartbeats, one
// for bulk, so that the first never waits behind the second. Both come back by
// themselves. Its methods may be called by several goroutines at once.
type Link struct {
	control, bulk *nats.Conn

	mu      sync.Mutex // guards what follows
	addr    string
	heard   [2]*heardConn // of control and bulk, as dialled last
	up      [2]bool       // of control and bulk, as their callbacks said
	gen     uint64
	cuts    uint64 // of the control connection so far
	closed  bool
	held    bool          // kept closed until Release
	changed chan struct{} // closed and replaced at each change of state
}

const (
	controlConn = iota
	bulkConn
)

// Dial connects to a paired machine. Later interruptions heal by themselves, a first
// connection that fails is an error, unless it comes later: *access.NotPairedError,
// *access.WrongKeyError, *RefusedError, ErrNoAnswer.
func Dial(ctx context.Context, cfg LinkConfig) (*Link, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	l := &Link{addr: cfg.Addr, gen: 1, up: [2]bool{true, true}, changed: make(chan struct{})}
	if cfg.Later {
		l.gen, l.up = 0, [2]bool{bulkConn: cfg.ControlOnly}
	}
	wait := reconnectWait
	if cfg.ControlOnly {
		wait = time.Second
	}
	open := func(conn int, kind string, ping time.Duration) (*nats.Conn, error) {
		d := &linkDialer{first: ctx, cfg: &cfg, at: l.address, held: l.Held, opened: func(c net.Conn) net.Conn { return l.opened(conn, c) }}
		later := func(*nats.Options) error { return nil }
		if cfg.Later {
			later = l.later(d, conn)
		}
		session := rand.Text()
		nc, err := nats.Connect("nats://"+cfg.Addr, later, nats.Name(session), nats.CustomInboxPrefix(inboxOf(session)),
			nats.SetCustomDialer(d), nats.Timeout(dialTimeout), nats.MaxReconnects(-1), nats.ReconnectWait(wait),
			nats.ReconnectJitter(reconnectWait, reconnectWait), nats.PingInterval(ping), nats.MaxPingsOutstanding(2),
			nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(logConnError(cfg.Log)),
			nats.DisconnectErrHandler(func(*nats.Conn, error) { l.note(conn, false) }),
			nats.ReconnectHandler(func(*nats.Conn) { l.reconnected(conn) }))
		if err != nil {
			return nil, fmt.Errorf("connect to %s at %s (%s): %w", cfg.Peer, cfg.Addr, kind, connError(err))
		}
		d.connected()
		return nc, nil
	}
	var err error
	if l.control, err = open(controlConn, "control", controlPing); err != nil {
		return nil, err
	}
	if cfg.ControlOnly {
		return l, nil
	}
	bulk, err := open(bulkConn, "bulk", bulkPing)
	if err != nil {
		l.control.Close()
		return nil, err
	}
	l.mu.Lock() // the control connection may be dialled anew already
	l.bulk = bulk
	l.mu.Unlock()
	return l, nil
}

// linkDialer gives connections their socket options and makes them secure. The first
// dial obeys the context of Dial.
type linkDialer struct {
	cfg   *LinkConfig
	mu    sync.Mutex
	first context.Context // nil once connected
	at    func() string   // where the peer is now
	held  func() bool     // nobody is to be dialled now; nil: never

	opened func(net.Conn) net.Conn // takes note of a new connection; nil: nobody
}

func (d *linkDialer) connected() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.first = nil
}

func (d *linkDialer) Dial(network, _ string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.first
	d.mu.Unlock()
	if d.held != nil && d.held() {
		return nil, errHeld
	}
	if ctx == nil {
		ctx = context.Background()
	}
	nd := net.Dialer{Timeout: dialTimeout, Control: socketOptions, KeepAliveConfig: keepAlive}
	conn, err := nd.DialContext(ctx, network, d.at())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err = d.cfg.Keys.Secure(ctx, conn, d.cfg.Peer)
	if err != nil || d.opened == nil {
		return conn, err
	}
	return d.opened(conn), nil
}

// keepAlive finds a peer that vanished while nothing was said.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 3}

// socketOptionsOf sets the options of a connection that was accepted.
func socketOptionsOf(conn net.Conn) error {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return socketOptions("", "", raw)
}

func socketOptions(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMax)
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// note tells waiters that the state changed; a bulk connection that came back begins
// a new generation.
func (l *Link) note(conn int, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if conn == bulkConn && up {
		l.gen++
	}
	if conn == controlConn && !up {
		l.cuts++
	}
	l.up[conn] = up
	close(l.changed)
	l.changed = make(chan struct{})
}

// Up reports whether both connections stand. It never waits: the client library's own
// question would, behind a write to a slow peer.
func (l *Link) Up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up[controlConn] && l.up[bulkConn]
}

// Closed reports whether Close was called.
func (l *Link) Closed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Generation counts the bulk connections so far, from 1. When it grows, mirror frames
// under way may be lost.
func (l *Link) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gen
}

// Changed returns a channel that is closed at the next change of Up or Generation.
// Take it before looking at them.
func (l *Link) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Request asks the peer's Handle function of subject. Without a deadline in ctx it
// waits 10 s. Errors: *RemoteError, ErrDown, ErrNoAnswer. A cut while it waits is
// ErrDown: the answer would have come on the connection that is gone.
func (l *Link) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	ctx, stop := l.untilCut(ctx)
	defer stop()
	reply, err := request(ctx, l.control, subject, data)
	if err != nil && errors.Is(context.Cause(ctx), ErrDown) {
		err = fmt.Errorf("request %s: %w", subject, context.Cause(ctx))
	}
	return reply, err
}

// untilCut ends with ctx and with the control connection of this moment.
func (l *Link) untilCut(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	cuts := l.cutsSoFar()
	go func() {
		for {
			changed := l.Changed()
			if l.cutsSoFar() != cuts {
				cancel(ErrDown)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (l *Link) cutsSoFar() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cuts
}

// Publish sends a plain message to the peer; while the link is down it is ErrDown.
func (l *Link) Publish(subject string, data []byte) error { return publish(l.control, subject, data) }

// Subscribe calls fn with each message the peer publishes on subject, in order, until
// stop. It outlives interruptions; messages sent meanwhile are lost.
func (l *Link) Subscribe(subject string, fn func(data []byte)) (stop func(), err error) {
	return subscribe(l.control, subject, fn)
}

// RTT measures one round trip on the control connection.
func (l *Link) RTT() (time.Duration, error) {
	d, err := l.control.RTT()
	if err != nil {
		return 0, fmt.Errorf("measure round trip: %w", connError(err))
	}
	return d, nil
}

// Close ends both connections.
func (l *Link) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.control.Close()
	if l.bulk != nil {
		l.bulk.Close()
	}
	l.note(controlConn, false)
}
