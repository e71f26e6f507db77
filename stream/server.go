package stream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"understudy/internal/access"
)

// Limits of the embedded server; research/jetstream.md has the measurements.
const (
	maxPayload = 2 << 20   // twice the largest frame
	maxPending = 256 << 20 // must exceed every pull request and window
	// syncInterval is how often each queue is synced (strict: at every frame). No promise
	// hangs on it: after a power cut the source begins a new epoch, and what the target's
	// queue lost is sent again. Once a second, the queues of 32 connections on one disk
	// waited for each other's commits: 30 of 67 MB/s of one connection, against 50 of 59.
	syncInterval = 10 * time.Second
	startTimeout = 20 * time.Second // a large store is scanned at start

	// minFreeMax and minFreePart bound the free space under which queues stop growing:
	// a stream that met a full disk answers nothing until the server restarts.
	minFreeMax  = 1 << 30
	minFreePart = 20 // a twentieth of the file system
	// minFreeLeast stays free in any case, so that queues can always be trimmed (trimRoom).
	minFreeLeast = 2 * trimRoom
)

// ServerConfig says how the embedded node runs.
type ServerConfig struct {
	Name     string          // of this machine
	StoreDir string          // made if missing; one daemon at a time
	Listen   string          // host:port for peers; port 0 takes a free one; "" accepts none
	Keys     *access.Keyring // who this machine is, and whom it knows; required with Listen
	Admit    Admit           // who may come in; nil: paired machines
	MaxStore int64           // bytes all queues together may take; 0: only the disk limits them
	MinFree  int64           // free bytes of disk below which queues count as full, at least 8 MiB; 0: 1 GiB, or 5 % of a small disk
	Strict   bool            // sync every frame before it counts as stored
	Cluster  ClusterConfig   // keeps the queues; the zero value: this machine does
}

// Server is the embedded messaging node. Its methods may be called by several
// goroutines at once.
type Server struct {
	cfg  ServerConfig
	log  *slog.Logger
	ns   atomic.Pointer[server.Server] // replaced by restart
	lock *os.File
	pass string     // of connections inside the process
	door *door      // nil without a listener
	ctl  *nats.Conn // for Publish, Subscribe and Handle
	far  *nats.Conn // to the cluster that keeps the queues; nil: there is none

	ctx    context.Context // of running handlers
	cancel context.CancelFunc
	work   sync.WaitGroup // running handlers

	trouble chan error // a store that failed; see Run

	mu     sync.Mutex // guards what follows
	conns  map[*nats.Conn]bool
	stores map[*store]bool // open
	closed bool
}

// Start runs the node. ErrInUse and ErrPort name the remedy.
func Start(cfg ServerConfig, log *slog.Logger) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, conns: map[*nats.Conn]bool{}, stores: map[*store]bool{}, trouble: make(chan error, 1)}
	if err := os.MkdirAll(cfg.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("make store directory: %w", err)
	}
	if s.cfg.MinFree == 0 {
		total, _, err := diskSpace(cfg.StoreDir)
		if err != nil {
			return nil, err
		}
		s.cfg.MinFree = min(minFreeMax, total/minFreePart)
	}
	s.cfg.MinFree = max(s.cfg.MinFree, minFreeLeast)
	if s.lock, err = lockDir(cfg.StoreDir); err != nil {
		return nil, err
	}
	s.pass = base64.RawURLEncoding.EncodeToString(randomBytes(24))
	if err = s.listen(); err == nil {
		err = s.bringUp()
	}
	if err == nil {
		s.ctl, err = s.connect("ctl")
	}
	if err == nil && s.clustered() {
		s.far, err = s.clusterConnect("ctl", true)
	}
	if err != nil {
		s.door.close()
		for nc := range s.conns {
			nc.Close()
		}
		s.stopServer()
		s.lock.Close()
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.door.open()
	return s, nil
}

// listen takes the address peers connect to; nobody is let in before all is ready.
func (s *Server) listen() (err error) {
	if s.cfg.Listen == "" {
		return nil
	}
	if s.cfg.Keys == nil {
		return fmt.Errorf("listen on %s: no machine keys; peers could not be told from strangers", s.cfg.Listen)
	}
	if s.cfg.Admit == nil {
		s.cfg.Admit = s.admitPeers
	}
	s.door, err = newDoor(s.cfg.Listen, s.cfg.Keys.ServerTLS(), s.cfg.Admit, inProcess{s}.InProcessConn, s.log)
	return err
}

// options of a messaging server that only this process reaches.
func (s *Server) options() *server.Options {
	o := &server.Options{
		ServerName: Token(s.cfg.Name), DontListen: true,
		JetStream: true, StoreDir: filepath.Join(s.cfg.StoreDir, "nats"),
		JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: s.cfg.MaxStore,
		MaxPayload: maxPayload, MaxPending: maxPending,
		SyncInterval: syncInterval, SyncAlways: s.cfg.Strict,
		NoSigs: true, NoLog: true, DisableJetStreamBanner: true,
		PingInterval: 10 * time.Second, MaxPingsOut: 3,
		CustomClientAuthentication: s,
	}
	if o.JetStreamMaxStore <= 0 {
		// Each stream has its own limit from the disk; their sum is not to be refused.
		o.JetStreamMaxStore = 1 << 60
	}
	return o
}

func (s *Server) startServer() error {
	ns, err := server.NewServer(s.options())
	if err != nil {
		return fmt.Errorf("make messaging server: %w", err)
	}
	s.ns.Store(ns)
	l := newServerLog(s.log)
	ns.SetLoggerV2(l, false, false, false)
	ns.Start()
	for end := time.Now().Add(startTimeout); ; {
		if ns.ReadyForConnections(20 * time.Millisecond) {
			return s.started(ns)
		}
		select {
		case text := <-l.fatal:
			return fmt.Errorf("start messaging server: %s", text)
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("start messaging server: not ready after %v", startTimeout)
		}
	}
}

func (s *Server) stopServer() {
	if ns := s.ns.Load(); ns != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
	}
}

// Addr is the address peers connect to, nil without a listener.
func (s *Server) Addr() net.Addr {
	if s.door == nil {
		return nil
	}
	return s.door.ln.Addr()
}

// Close stops handlers, connections and the node, and syncs the store. Journals and
// receivers are closed before. ctx bounds the waiting for handlers.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()

	s.door.close() // nobody asks any more
	s.cancel()
	for nc := range conns {
		nc.Close()
	}
	err := waitGroup(ctx, &s.work)
	s.stopServer()
	return errors.Join(err, syncStore(s.cfg.StoreDir), s.lock.Close())
}

func waitGroup(ctx context.Context, wg *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for request handlers: %w", context.Cause(ctx))
	}
}

// connect opens a connection inside the process.
func (s *Server) connect(name string) (*nats.Conn, error) {
	nc, err := nats.Connect("", nats.InProcessServer(inProcess{s}), nats.Name(name), nats.UserInfo(innerUser, s.pass),
		nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(logConnError(s.log)))
	if err != nil {
		return nil, fmt.Errorf("connect to own messaging server: %w", err)
	}
	return s.keep(nc, "connect to own messaging server")
}

// keep has a connection closed with the server.
func (s *Server) keep(nc *nats.Conn, doing string) (*nats.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close()
		return nil, fmt.Errorf("%s: %w", doing, ErrClosed)
	}
	s.conns[nc] = true
	return nc, nil
}

func (s *Server) disconnect(nc *nats.Conn) {
	nc.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, nc)
}

func logConnError(log *slog.Logger) nats.ErrHandler {
	return func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if sub != nil {
			log.Warn("messaging trouble", "subject", sub.Subject, "err", err)
			return
		}
		log.Warn("messaging trouble", "err", err)
	}
}
