package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// probeEvery spaces the questions whether the store works. What a journal finds out
// by itself is acted on at once.
var probeEvery = 5 * time.Second

const (
	// restartFirst and restartMax space restarts of a store that does not come to work,
	// because its disk is full or gone.
	restartFirst = time.Second
	restartMax   = time.Minute
	// maxStarts is how many starts may end before the server was ready, until its store
	// is taken for damaged.
	maxStarts = 2
)

// inProcess connects to the messaging server that runs now.
type inProcess struct{ s *Server }

func (p inProcess) InProcessConn() (net.Conn, error) {
	ns := p.s.ns.Load()
	if ns == nil || !ns.Running() {
		return nil, fmt.Errorf("messaging server: %w", ErrClosed)
	}
	return ns.InProcessConn()
}

// Run looks after the store until ctx ends, then returns nil. It keeps queues from
// filling the disk, and restarts the messaging server when its store does not work any
// more: a stream that met a full disk, for one, answers nothing until then. Journals
// and receivers that are open at that moment fail with ErrStore; connections of the
// process and of peers come back by themselves.
func (s *Server) Run(ctx context.Context) error {
	look := time.NewTimer(0)
	defer look.Stop()
	var guarded, probed, restarted time.Time
	for {
		var why error
		select {
		case <-ctx.Done():
			return nil
		case why = <-s.trouble:
		case <-look.C:
			look.Reset(s.guardDisk(ctx, &guarded))
			if time.Since(probed) >= probeEvery {
				probed, why = time.Now(), s.probe()
			}
		}
		if why == nil || time.Since(restarted) < restartFirst { // the next probe will tell
			continue
		}
		if err := s.restart(ctx, why); err != nil {
			return nil // ctx ended
		}
		probed, restarted = time.Now(), time.Now()
	}
}

// suspect asks Run for a restart, because a store failed.
func (s *Server) suspect(why error) {
	if !errors.Is(why, ErrStore) {
		return
	}
	select {
	case s.trouble <- why:
	default:
	}
}

// probe asks the messaging server whether every open store can be written.
func (s *Server) probe() error {
	ns := s.ns.Load()
	if ns == nil || !ns.Running() || !ns.JetStreamEnabled() {
		return fmt.Errorf("%w: queues are switched off", ErrStore)
	}
	open := map[string]bool{}
	for _, st := range s.openStores() {
		open[st.name] = true
	}
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if e.Type == server.HealthzErrorConn { // it looks for 1 ms, which a busy machine exceeds
			continue
		}
		if open[e.Stream] || e.Stream == "" {
			return fmt.Errorf("%w: %s", ErrStore, e.Error)
		}
	}
	return nil
}

// restart ends the messaging server and starts it until it works, or ctx ends.
func (s *Server) restart(ctx context.Context, why error) error {
	s.log.Error("queue store does not work, restarting it", "err", why)
	lost := fmt.Errorf("%w: restarted: %w", ErrStore, why)
	for _, st := range s.openStores() {
		st.lose(lost)
	}
	for wait := restartFirst; ; wait = min(2*wait, restartMax) {
		s.stopServer()
		err := s.bringUp()
		if err == nil && s.ns.Load().JetStreamEnabled() {
			break
		}
		s.log.Error("queue store does not start, trying again", "in", wait, "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	select {
	case <-s.trouble: // of the store that was
	default:
	}
	s.log.Warn("queue store restarted")
	return nil
}

// bringUp starts the messaging server. A store it cannot start on is moved aside: its
// queues are lost, which every connection notices and heals. So is one on which
// starts ended before they succeeded, as by a panic.
func (s *Server) bringUp() error {
	tries := s.countStart()
	if tries > maxStarts {
		s.log.Error("starts on the queue store did not end well, moving it aside", "starts", tries-1)
		if err := s.setAside(); err != nil {
			return err
		}
	}
	err := s.startServer()
	if err != nil && !errors.Is(err, ErrPort) && s.writable() {
		s.log.Error("queue store cannot be opened, moving it aside", "err", err)
		s.stopServer()
		if err = s.setAside(); err == nil {
			err = s.startServer()
		}
	}
	if err == nil || errors.Is(err, ErrPort) {
		s.forgetStarts()
	}
	return err
}

func (s *Server) natsDir() string { return filepath.Join(s.cfg.StoreDir, "nats") }
func (s *Server) streamsDir() string {
	return filepath.Join(s.natsDir(), "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams")
}
func (s *Server) startsFile() string { return filepath.Join(s.cfg.StoreDir, "starts") }

// countStart notes that a start begins and returns how many did since the last one that
// succeeded. It counts in a file, which is no more than a hint.
func (s *Server) countStart() int {
	raw, _ := os.ReadFile(s.startsFile())
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || n < 0 || n > maxStarts {
		n = min(max(n, 0), maxStarts)
	}
	n++
	_ = os.WriteFile(s.startsFile(), []byte(strconv.Itoa(n)+"\n"), 0o600)
	return n
}

func (s *Server) forgetStarts() { _ = os.Remove(s.startsFile()) }

// writable reports whether the store's directory takes a file: where it does not, the
// store is not what is wrong.
func (s *Server) writable() bool {
	name := filepath.Join(s.cfg.StoreDir, "probe")
	err := os.WriteFile(name, make([]byte, 4096), 0o600)
	_ = os.Remove(name)
	return err == nil
}

// setAside renames the store, for whoever wants to look; the one before goes. Where it
// would hold space that is short, it is deleted.
func (s *Server) setAside() error {
	aside := s.natsDir() + ".damaged"
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("move damaged queue store aside: %w", err)
	}
	if err := os.Rename(s.natsDir(), aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("move damaged queue store aside: %w", err)
	}
	if _, free, err := diskSpace(s.cfg.StoreDir); err == nil && free < 2*s.cfg.MinFree {
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("delete damaged queue store: %w", err)
		}
	}
	return nil
}

// started clears away what the messaging server could not load: it skips a stream whose
// description is damaged, and would keep its files for ever.
func (s *Server) started(ns *server.Server) error {
	if !ns.JetStreamEnabled() {
		return fmt.Errorf("start messaging server: %w: queues are switched off", ErrStore)
	}
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if e.Type != server.HealthzErrorStream || e.Stream == "" {
			continue
		}
		s.log.Warn("queue could not be loaded, deleting it", "queue", e.Stream, "err", e.Error)
		if err := os.RemoveAll(filepath.Join(s.streamsDir(), filepath.Base(e.Stream))); err != nil {
			return fmt.Errorf("delete damaged queue: %w", err)
		}
	}
	return nil
}
