package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Defaults of Config.
const (
	// DefaultGrace is how long applications wait for a daemon to come back.
	DefaultGrace = 30 * time.Second
	// DefaultWatchdog is after how long without a sign of life a daemon is killed.
	DefaultWatchdog = 20 * time.Second
)

const (
	pingEvery  = time.Second
	startWait  = 10 * time.Second // for a holder just started to listen
	answerWait = 10 * time.Second // for any answer but hello's
)

// Config of a client, and of the holder it starts. The zero value of all but Dir has
// the defaults.
type Config struct {
	Dir      string        // data directory: the socket and the records are in it
	Grace    time.Duration // 0: 30 s
	Watchdog time.Duration // 0: 20 s
	Command  []string      // program and arguments that call Serve; nil: this program's "holder"
	Env      []string      // added to the environment of Command
	Log      *slog.Logger
	// Alive is asked before every sign of life; it returns only if the daemon does its
	// work. Nil: the process runs, no more.
	Alive func()
	// Gone is told when the holder has ended and when another has taken its place, by
	// one goroutine. It must not call the client. Nil: nobody is.
	Gone func(gone bool)
}

func (c Config) withDefaults() Config {
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.Watchdog == 0 {
		c.Watchdog = DefaultWatchdog
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Gone == nil {
		c.Gone = func(bool) {}
	}
	return c
}

// Client is the daemon's side. Its methods may be called by several goroutines.
type Client struct {
	cfg  Config
	note string
	stop chan struct{} // closed by Close
	wait sync.WaitGroup

	mu     sync.Mutex // one call at a time; guards the rest
	conn   *net.UnixConn
	in     chan answer    // what the reader of conn got; closed when the holder is gone
	kept   map[string]own // to be given to the next holder, should this one die
	closed bool
	ending bool // the holder was told to end: there is no other after it
}

// own is a duplicate of what was kept.
type own struct {
	meta []byte
	fds  []int
}

type answer struct {
	m   message
	fds []int
}

// Connect finds the holder of a data directory or starts one. While the daemon before
// has not ended, it waits until ctx ends; then the error is ErrBusy.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	c := &Client{cfg: cfg.withDefaults(), stop: make(chan struct{}), kept: map[string]own{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connect(ctx); err != nil {
		c.closed = true
		close(c.stop)
		return nil, fmt.Errorf("connect to the holder in %s: %w", cfg.Dir, err)
	}
	c.wait.Go(c.ping)
	return c, nil
}

// Note says what the holder did to the daemon before this one, "" if nothing.
func (c *Client) Note() string { return c.note }

// connect says hello to a holder, starting one if need be. Under mu.
func (c *Client) connect(ctx context.Context) error {
	conn, err := dialOrStart(ctx, c.cfg)
	if err != nil {
		return err
	}
	in := make(chan answer)
	c.conn, c.in = conn, in
	c.wait.Go(func() { c.read(conn, in) })
	a, err := c.answered(ctx, message{Verb: verbHello}, nil)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", ErrBusy, err) // it answers when the daemon before has ended
	}
	if err != nil {
		conn.Close()
		return err
	}
	c.note = a.m.Note
	return nil
}

// read delivers answers until the holder is gone, then sees to another one.
func (c *Client) read(conn *net.UnixConn, in chan<- answer) {
	buf := make([]byte, maxWire)
	for {
		m, fds, err := receive(conn, buf)
		if err != nil {
			break
		}
		select {
		case in <- answer{m, fds}:
		case <-c.stop:
			closeAll(fds)
		case <-time.After(answerWait): // nobody waits for it any more
			closeAll(fds)
			conn.Close()
		}
	}
	close(in)
	conn.Close()
	select {
	case <-c.stop:
	default:
		c.wait.Go(func() { c.revive(conn) })
	}
}

// revive starts another holder instead of the one behind lost and gives it everything.
func (c *Client) revive(lost *net.UnixConn) {
	if !c.misses(lost) {
		return
	}
	c.cfg.Gone(true)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		done, err := c.again(lost)
		if done && err == nil {
			c.cfg.Gone(false)
		}
		if done {
			return
		}
		c.cfg.Log.Error("holder is gone and there is no other", "err", err)
		select {
		case <-c.stop:
			return
		case <-time.After(wait):
		}
	}
}

// misses reports whether the holder behind lost is to be replaced.
func (c *Client) misses(lost *net.UnixConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && !c.ending && c.conn == lost
}

func (c *Client) again(lost *net.UnixConn) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.ending || c.conn != lost {
		return true, nil
	}
	c.cfg.Log.Warn("holder is gone, starting another")
	if err := c.connect(ctx); err != nil {
		c.conn = lost // closed: calls fail until the next attempt
		return false, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.kept)) {
		o := c.kept[name]
		if _, err := c.answered(ctx, message{Verb: verbKeep, Name: name, Meta: o.meta}, o.fds); err != nil {
			return true, err // its connection broke too: its reader comes here again
		}
	}
	c.cfg.Log.Info("handed over to a new holder", "items", len(c.kept))
	return true, nil
}

// answered sends one message and waits for the answer. Under mu.
func (c *Client) answered(ctx context.Context, m message, fds []int) (answer, error) {
	if err := send(c.conn, m, fds); err != nil {
		return answer{}, fmt.Errorf("ask the holder: %w", err)
	}
	select {
	case a, ok := <-c.in:
		if !ok {
			return a, errors.New("the holder is gone")
		}
		if err := a.m.err(); err != nil {
			closeAll(a.fds)
			return answer{}, err
		}
		return a, nil
	case <-ctx.Done():
		c.conn.Close() // answers would no longer fit their questions
		return answer{}, context.Cause(ctx)
	}
}

func (c *Client) call(m message, fds []int) (answer, error) {
	if c.closed {
		return answer{}, net.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWait)
	defer cancel()
	return c.answered(ctx, m, fds)
}

// ping sends signs of life until Close.
func (c *Client) ping() {
	tick := time.NewTicker(min(pingEvery, c.cfg.Watchdog/4))
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		if c.cfg.Alive != nil {
			c.cfg.Alive()
		}
		c.mu.Lock()
		if !c.closed {
			_ = send(c.conn, message{Verb: verbPing}, nil) // the reader notices a broken connection
		}
		c.mu.Unlock()
	}
}

// Close ends the connection and leaves everything with the holder, which waits for the
// next daemon as if this one had died.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.stop)
	err := c.conn.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // by its reader: the holder ended first
	}
	for _, o := range c.kept {
		closeAll(o.fds)
	}
	clear(c.kept)
	c.mu.Unlock()
	c.wait.Wait()
	return err
}

// End makes the holder drop everything and end, waits until it has, and closes the
// client.
func (c *Client) End() error {
	c.mu.Lock()
	_, err := c.call(message{Verb: verbEnd}, nil)
	ended := c.in
	c.ending = true
	c.mu.Unlock()
	if err == nil {
		select {
		case <-ended:
		case <-time.After(answerWait):
			err = errors.New("the holder does not end")
		}
	}
	return errors.Join(err, c.Close())
}

// forget closes our duplicates of an item. Under mu.
func (c *Client) forget(name string) {
	closeAll(c.kept[name].fds)
	delete(c.kept, name)
}

// duplicate makes files of descriptors of ours.
func duplicate(fds []int, name string) ([]*os.File, error) {
	var files []*os.File
	for _, fd := range fds {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("duplicate descriptor: %w", err)
		}
		files = append(files, os.NewFile(uintptr(d), name))
	}
	return files, nil
}
