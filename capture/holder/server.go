package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// server is the holder's side.
type server struct {
	cfg Config
	log *slog.Logger
	end chan struct{} // closed when there is nothing more to do

	mu        sync.Mutex // guards the rest
	items     map[string]*item
	owner     *owner // nil: no daemon
	since     time.Time
	note      string // for the next daemon
	over      bool
	answering sync.WaitGroup // answers being made
	free      *sync.Cond     // owner became nil, or over
}

type item struct {
	meta []byte
	fds  []int
	seen watched // of a mount
}

// owner is the daemon connected.
type owner struct {
	conn   *net.UnixConn
	pid    int32
	pidfd  int
	sign   time.Time // last sign of life; guarded by server.mu
	killed bool      // guarded by server.mu
}

// Serve is the holder: it serves the data directory cfg.Dir until a daemon says it is
// over, or none came for cfg.Grace, or ctx ends (which is like a kill). If another
// holder serves the directory it returns nil at once.
func Serve(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // another one serves
	}
	l, err := listen(cfg.Dir)
	if err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	s := &server{cfg: cfg, log: cfg.Log, end: make(chan struct{}), items: map[string]*item{}, since: time.Now()}
	s.free = sync.NewCond(&s.mu)
	s.log.Info("holder runs", "pid", os.Getpid(), "data", cfg.Dir)
	go s.accept(l)
	s.watch(ctx)
	l.Close()
	s.answering.Wait() // the answer to end
	return nil
}

// listen makes the socket, which nobody but the owner of the directory may connect to.
func listen(dir string) (l *net.UnixListener, err error) {
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	err = at(dir, socketFile, func(path string) error {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		l, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
		return err
	})
	if err == nil {
		l.SetUnlinkOnClose(false) // by a path that means nothing any more
	}
	return l, err
}

func (s *server) accept(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go s.serve(conn)
	}
}

// serve answers one daemon until its connection ends, which it does when the last of
// its threads has ended.
func (s *server) serve(conn *net.UnixConn) {
	defer conn.Close()
	o, err := identify(conn)
	if err != nil {
		s.log.Warn("connection refused", "err", err)
		return
	}
	defer unix.Close(o.pidfd)
	buf := make([]byte, maxWire)
	for {
		m, fds, err := receive(conn, buf)
		if err != nil {
			break
		}
		if !s.answer(o, m, fds) {
			break
		}
	}
	s.release(o)
}

// answer reports whether the daemon can be heard further.
func (s *server) answer(o *owner, m message, fds []int) bool {
	if m.Verb == verbHello { // which may wait for long
		closeAll(fds)
		return send(o.conn, *s.hello(o), nil) == nil
	}
	s.answering.Add(1)
	defer s.answering.Done()
	reply, out := s.handle(o, m, fds)
	return reply == nil || send(o.conn, *reply, out) == nil
}

// identify refuses programs of other users.
func identify(conn *net.UnixConn) (*owner, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, fmt.Errorf("who connects: %w", err)
	}
	if int(cred.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("process %d of user %d may not use this holder", cred.Pid, cred.Uid)
	}
	pidfd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", cred.Pid, err)
	}
	return &owner{conn: conn, pid: cred.Pid, pidfd: pidfd}, nil
}

// handle does what a message asks for; no answer for some. What follows hello comes
// from the owner.
func (s *server) handle(o *owner, m message, fds []int) (*message, []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != o {
		closeAll(fds)
		r := refusal(ErrBusy)
		return &r, nil
	}
	o.sign = time.Now()
	switch m.Verb {
	case verbPing:
		return nil, nil
	case verbKeep:
		return result(s.keep(m, fds)), nil
	case verbHand:
		if err := s.keep(m, fds); err != nil {
			s.log.Error("descriptor not kept", "name", m.Name, "err", err)
		}
		return nil, nil
	case verbTake:
		it := s.items[m.Name]
		if it == nil {
			return result(ErrNotHeld), nil
		}
		return &message{Meta: it.meta}, it.fds
	case verbNames:
		return s.names(m.Name), nil
	case verbDrop:
		s.drop(m.Name)
		return &message{}, nil
	case verbDiscard:
		s.drop(m.Name)
		return nil, nil
	case verbEnd:
		s.finish()
		return &message{}, nil
	}
	closeAll(fds)
	return result(fmt.Errorf("unknown verb %q", m.Verb)), nil
}

func result(err error) *message {
	if err == nil {
		return &message{}
	}
	m := refusal(err)
	return &m
}

// hello makes o the owner once there is no other.
func (s *server) hello(o *owner) *message {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.owner != nil && s.owner != o && !s.over {
		s.free.Wait()
	}
	if s.over {
		return result(errors.New("the holder has ended"))
	}
	s.owner, o.sign = o, time.Now()
	for _, it := range s.items {
		it.seen = watched{}
	}
	s.log.Info("daemon connected", "pid", o.pid, "items", len(s.items))
	note := s.note
	s.note = ""
	return &message{Note: note}
}

// release notices that a daemon is gone.
func (s *server) release(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != o {
		return
	}
	s.owner, s.since = nil, time.Now()
	s.free.Signal()
	if s.over {
		return
	}
	s.log.Warn("daemon is gone, waiting for another", "pid", o.pid, "items", len(s.items))
	if len(s.items) == 0 {
		s.finish()
	}
}

// keep, names, drop and finish are called under mu.

func (s *server) keep(m message, fds []int) error {
	_, known := s.items[m.Name]
	if m.Name == "" || len(m.Name) > maxName || len(m.Meta) > MaxMeta || !known && len(s.items) >= maxItems {
		closeAll(fds)
		return ErrTooMuch
	}
	s.drop(m.Name)
	s.items[m.Name] = &item{meta: m.Meta, fds: fds}
	return nil
}

func (s *server) names(after string) *message {
	m := &message{}
	all := slices.Sorted(maps.Keys(s.items))
	i, found := slices.BinarySearch(all, after)
	if found {
		i++
	}
	m.Names = all[i:]
	bytes := 0
	for n, name := range m.Names {
		if bytes += len(name) + 8; bytes > maxWire/8 { // escaped in JSON a byte takes six at most
			m.Names, m.More = m.Names[:n], true
			break
		}
	}
	return m
}

func (s *server) drop(name string) {
	if it := s.items[name]; it != nil {
		closeAll(it.fds)
		delete(s.items, name)
	}
}

func (s *server) finish() {
	if !s.over {
		s.over = true
		s.free.Broadcast()
		close(s.end)
	}
}
