package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"understudy/applier"
	"understudy/capture"
	"understudy/capture/fanotify"
	"understudy/capture/holder"
	"understudy/control"
	"understudy/event"
	"understudy/failover"
	"understudy/internal/access"
	"understudy/stream"
)

// Version of this program, as `understudy version` prints it.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "0.1.0-dev"
}

// ConfigKeys lists the keys of the settings file.
func ConfigKeys() []string {
	var keys []string
	for f := range reflect.TypeFor[Config]().Fields() {
		if key := f.Tag.Get("mapstructure"); key != "-" {
			keys = append(keys, key)
		}
	}
	return keys
}

// Node is one running machine.
type Node struct {
	cfg   Config // of the start; what settings change meanwhile is in conf
	log   *slog.Logger
	state *state
	srv   *stream.Server
	keys  *access.Keyring // who this machine is, and whom it knows
	gate  *gate

	shutDown chan struct{} // closed when an operator ends the daemon
	shutOnce sync.Once
	presence *presence
	settings *settingsFile          // what operators set
	base     Config                 // of the start, without what is set
	current  atomic.Pointer[Config] // n.cfg with what was set since

	rotating sync.Mutex // one change of the key at a time

	// flight is the list of files changed in place since the clean marks (clean.go).
	flight *flight

	limits    limitTable     // what holds back the sending to each target
	holder    *holder.Client // keeps what outlives this process; nil: nothing does
	leaving   atomic.Bool    // another program takes over: what is held stays held
	started   time.Time
	replaced  chan struct{} // closed when successor is set
	successor string        // program that goes on

	statsLog  *statsLogger
	counts    nodeCounts
	trials    []*trial // guarded by mu
	modules   modules
	tasks     *taskLog
	aside     chan struct{} // a place for each program of a task that nobody waits for
	failover  *failover.Manager
	tenant    *failover.Tenant // this machine as a source that may be stood in for
	events    *event.Log
	followers chan struct{} // who wait for events

	ready  chan struct{}   // closed when Run has brought everything up
	ctx    context.Context // of everything that runs here; ends when the node stops
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup

	joining  sync.Mutex // one join or leave at a time
	mu       sync.Mutex // guards the maps and nextID
	captures map[string]*captured
	hub      *fanotify.Hub          // made at its first use
	setFan   func(*fanotify.Config) // lets tests make queues short; set before captures start
	conns    map[int]*Connection
	replicas map[string]*replica
	pasts    map[string]*past // histories, by the keys of the replicas
	replays  replays
	// wrapFeed lets tests watch what is applied; set before replicas open.
	wrapFeed func(*joinInfo, applier.Feed) applier.Feed
	restores restores
	// lastRestore is the number of the last restoration.
	lastRestore int
	nextID      int // connection numbers, from 1 at every start (B6.3)
}

// errStopped is the cause of everything that ends because the node stops.
var errStopped = errors.New("node stops")

// errReplaced is that cause if another daemon goes on.
var errReplaced = fmt.Errorf("%w: %w", errStopped, capture.ErrLeave)

// Open starts the node's server and reads its state. Run brings it to work. A data
// directory in use, a port in use and bad settings are errors that name the remedy;
// then nothing was changed.
func Open(cfg Config, log *slog.Logger) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	set, err := openSettings(cfg.Data, log)
	if err != nil {
		return nil, err
	}
	base := cfg
	if err := set.apply(&cfg); err != nil {
		return nil, err
	}
	st, err := openState(cfg.Data, log)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, base: base, settings: set, presence: newPresence(), shutDown: make(chan struct{}), log: log, state: st, gate: newGate(), ready: make(chan struct{}), replaced: make(chan struct{}), started: time.Now(),
		captures: map[string]*captured{}, conns: map[int]*Connection{}, replicas: map[string]*replica{}, pasts: map[string]*past{}}
	if n.keys, err = access.Open(cfg.Data, cfg.Name); err != nil {
		return nil, err
	}
	n.openHolder(holderBusy)
	n.srv, err = stream.Start(stream.ServerConfig{Name: cfg.Name, StoreDir: cfg.queueDir(), Listen: cfg.Listen,
		Keys: n.keys, Admit: n.admit, Strict: cfg.Strict, MinFree: cfg.QueueFree, Cluster: *cfg.NATS.cluster()}, log)
	if err != nil {
		n.leaving.Store(true) // what is held waits for a daemon that starts
		return nil, errors.Join(err, n.closeHolder())
	}
	n.openHolder(holderWait) // again, if another daemon was just ending
	// The data directory is ours from here on; read again what another may have written.
	if n.state, err = openState(cfg.Data, log); err != nil {
		return nil, errors.Join(err, n.srv.Close(context.Background()))
	}
	if n.tasks, err = openTasks(cfg.Data, log); err != nil {
		return nil, errors.Join(err, n.srv.Close(context.Background()))
	}
	n.aside = make(chan struct{}, maxAside)
	n.modules.noSource.Store(!cfg.LoadSource)
	n.modules.noTarget.Store(!cfg.LoadTarget)
	n.statsLog = &statsLogger{n: n}
	if err := n.openMarks(); err != nil {
		return nil, errors.Join(err, n.srv.Close(context.Background()))
	}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.events, n.followers = openEvents(&n.cfg, log), make(chan struct{}, maxFollowers)
	if err := n.openFailover(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close ends a node that was opened and never run.
func (n *Node) Close() error { return errors.Join(n.stop(nil), n.events.Close()) }

// Addr is where the node listens, with the port it got.
func (n *Node) Addr() string { return n.srv.Addr().String() }

// Name of this machine.
func (n *Node) Name() string { return n.cfg.Name }

// Ready is closed when Run has brought everything up. Steer the node after that.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Run works until ctx ends, then stops in the reverse order of the start. It returns
// nil when told to stop, and a Replaced when another program is to go on.
func (n *Node) Run(ctx context.Context) error {
	stops, err := n.start()
	if err == nil {
		n.began()
		close(n.ready)
		n.log.Info("node runs", "name", n.cfg.Name, "listen", n.Addr(), "data", n.cfg.Data, "version", Version())
		select {
		case <-ctx.Done():
		case <-n.replaced:
		case <-n.shutDown:
		}
	} else {
		n.leaving.Store(true) // what is held waits for a daemon that starts
	}
	defer func() { n.ceased(err) }()
	if err = errors.Join(err, n.stop(stops)); err == nil && n.successor != "" {
		return &Replaced{Program: n.successor}
	}
	return err
}

// start brings up target before source before control, so that what is asked of a
// part finds it ready.
func (n *Node) start() (stops []func(), err error) {
	add := func(stop func(), e error) {
		if stop != nil {
			stops = append(stops, stop)
		}
		err = errors.Join(err, e)
	}
	n.wait.Go(func() { _ = n.srv.Run(n.ctx) })
	n.wait.Go(func() { n.watchLimits(n.ctx) })
	n.resumeCaptures() // applications wait meanwhile
	n.tellInterrupted()
	n.resumeSessions()
	n.serveResumed()
	n.wait.Go(func() { n.failover.Run(n.ctx) })
	n.wait.Go(func() { n.tenant.Run(n.ctx) })
	n.serveBeats()
	n.wait.Go(n.watchOwnAddresses)
	n.loadPasts()
	n.resumeReplicas() // before sources can ask for the same ones
	n.dropLeftovers()
	n.wait.Go(func() { n.keepHistories(n.ctx) })
	add(n.servePeers())
	for _, dir := range n.mounts() {
		if n.capturing(dir) {
			continue
		}
		if _, e := n.startStacked(dir); e != nil {
			n.log.Error("directory is not captured", "dir", dir, "err", e)
		}
	}
	add(nil, n.resumeConnections())
	add(control.ServePairing(n.srv, n.invited))
	add(control.ServeRotation(n.srv, n.peerRotates))
	add(n.serveControl())
	n.wait.Go(func() { n.watchAccess(n.ctx) })
	n.wait.Go(func() { n.restMemory(n.ctx) })
	n.wait.Go(func() { limitMemory(n.ctx) })
	n.wait.Go(func() { n.keepPresence(n.ctx) })
	n.logStatsFromStart()
	n.resumeTrials()
	add(n.removeLocal, n.writeLocal())
	return stops, err
}

// stop ends control first (nobody steers a stopping node), then the connections and
// captures (nothing new enters), then the replicas, and the server last.
func (n *Node) stop(stops []func()) error {
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	if n.leaving.Load() {
		n.pauseCaptures() // what was answered is logged; what comes now waits for the next daemon
	}
	n.farewell()
	if n.leaving.Load() {
		n.cancel(errReplaced)
	} else {
		n.cancel(errStopped)
	}
	n.wait.Wait()
	return errors.Join(n.srv.Close(context.Background()), n.closeHolder())
}

// farewell lets every connection's target catch up, for a moment.
func (n *Node) farewell() {
	n.mu.Lock()
	var wg sync.WaitGroup
	for _, c := range n.conns {
		if s := c.current(); s != nil {
			wg.Go(s.endedWell)
		}
	}
	n.mu.Unlock()
	wg.Wait()
}

func (n *Node) mounts() []string {
	dirs := append([]string(nil), n.cfg.Mounts...)
	n.state.read(func(d *stateData) {
		for _, dir := range d.Mounts {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	})
	return dirs
}

func (n *Node) removeLocal() {
	for _, name := range []string{control.LocalFile, control.LocalMonitorFile} {
		_ = os.Remove(filepath.Join(n.cfg.Data, name)) // its token is of no use any more
	}
}
