package applier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/bootid"
	"understudy/internal/fsx"
)

// Applier executes operations on the target directories of one connection. Run and
// Recover are called by one goroutine; every other method may be called at any time.
type Applier struct {
	cfg     Config
	log     *slog.Logger
	at      fsx.At
	trees   map[uint32]*tree
	cat     *catalog
	high    *highMark
	intents *intentLog
	boot    string

	retryEvery, retryMax atomic.Int64  // nanoseconds, attempts
	retrySet             chan struct{} // they changed

	// The deciding goroutine's own (Run, Recover, or Close when neither runs).
	dirs     *fdCache
	files    *fdCache
	pend     map[key]fileop.Time // modification times to be set, of anything but directories
	pendDirs map[key]fileop.Time
	marks    map[key][]mark // content read since the last durable position (exact.go)
	lists    map[key]*nameList
	pos      Position
	rebooted bool // between the last stop and Open

	ghostsUntil fileop.Seq // names made by operations a power cut took from the queue may exist
	aborted     fileop.Seq // mirror records up to here are not waited for
	credit      int        // bytes of mirror data since OnMirrorApplied
	ck          checkpoints
	touched     *touchedSet // by records since the source\'s clean mark
	unclean     bool
	otherEpoch  bool        // unclean: the catalog is of an epoch whose operations are gone
	ghosts      ghostWindow // names of ours the catalog may not know
	asideNo     int
	doubtful    bool   // catalog or high mark were damaged, lost, or are an older copy
	rebuilt     bool   // the catalog was lost and begins empty
	saidNot     bool   // EventNotPermitted was sent
	doing       string // what the record under way is about, for people
	waiting     []*query
	saves       []save
	ctx         context.Context // of the run under way

	quiet   standstill  // of those who read the replica beside Run
	listen  listeners   // who is told what was applied
	ctl     chan func() // requests to the deciding goroutine, answered between operations
	stopped chan struct{}

	mu      sync.Mutex // guards what follows
	past    *InFlight  // of the epoch before
	shown   Position
	durable Position
	stats   Stats
	hold    hold
	answers answers
	changed chan struct{} // closed and replaced when shown or hold changes
	abortTo fileop.Seq
	running bool
	closed  bool

	syncLost bool // syncfs reported an error: written data may be gone
}

// Open opens catalog and target directories, making both if needed, and changes nothing
// else on the target. It refuses a state directory in use by another process.
func Open(cfg Config, log *slog.Logger) (*Applier, error) {
	cfg.setDefaults()
	if len(cfg.Roots) == 0 {
		return nil, errors.New("open applier: no target directory given")
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("open applier: %w", err)
	}
	a := &Applier{cfg: cfg, log: log, at: fsx.At{Fault: cfg.Fault}, trees: map[uint32]*tree{},
		dirs: newFDCache(maxDirFDs), files: newFDCache(maxFileFDs),
		pend: map[key]fileop.Time{}, pendDirs: map[key]fileop.Time{}, marks: map[key][]mark{}, lists: map[key]*nameList{},
		ctl: make(chan func()), stopped: make(chan struct{}), changed: make(chan struct{}), boot: bootid.Get()}
	a.ck.done = make(chan error, 1)
	a.retrySet = make(chan struct{}, 1)
	a.retryEvery.Store(int64(cfg.RetryEvery))
	a.retryMax.Store(int64(cfg.RetryMax))
	if err := a.open(); err != nil {
		a.release()
		return nil, err
	}
	return a, nil
}

func (a *Applier) open() (err error) {
	for _, r := range a.cfg.Roots {
		if a.trees[r.Tree] != nil {
			return fmt.Errorf("open applier: tree %d given twice", r.Tree)
		}
		t, err := openTree(r)
		if err != nil {
			return err
		}
		a.trees[r.Tree] = t
		_ = t.findStage(&a.at) // Recover, which needs it, tries again
	}
	if err = a.openState(); err != nil {
		return err
	}
	m, ok, err := a.cat.loadMeta()
	if err != nil {
		return err
	}
	a.pos, a.unclean = m.Position, ok && !m.Clean || a.doubtful // names are ahead of the catalog then
	if a.pos.Epoch != a.cfg.Epoch {
		a.pos, a.otherEpoch = Position{Epoch: a.cfg.Epoch}, a.unclean
	} else {
		a.ghostsUntil = m.Ahead
	}
	for _, t := range a.trees {
		a.bindRoot(t, t.Source)
	}
	a.rebooted = ok && m.BootID != a.boot || a.doubtful
	if a.rebuilt {
		a.pos, a.otherEpoch = Position{Epoch: a.cfg.Epoch, Remirror: true}, true
	}
	if a.touched, a.past, err = openTouched(a.cfg.StateDir, a.cfg.Epoch, a.unclean || a.rebuilt); err != nil {
		return err
	}
	a.ghosts = m.Ghosts
	if a.unclean && a.rebooted {
		a.ghosts.open(m.At)
	}
	if a.intents, err = openIntents(a.cfg.StateDir, m.Intents); err == nil {
		_, err = a.intents.begin()
	}
	if err != nil {
		return err
	}
	a.ck.gen = m.Intents
	if !a.unclean {
		a.ck.gen = a.intents.cur.gen
		a.intents.durable(a.ck.gen)
	}
	if !a.unclean {
		// From here on the names on disk may run ahead of the catalog.
		if err := a.cat.storeMeta(a.meta()); err != nil {
			return fmt.Errorf("mark catalog in use: %w", err)
		}
	}
	a.shown, a.durable = a.pos, a.pos
	return nil
}

// bindRoot makes id the identity of the tree's root.
func (a *Applier) bindRoot(t *tree, id fileop.ObjID) {
	if id.IsZero() {
		return
	}
	t.Source = id
	k := key{t.Tree, id}
	ident, _, err := a.at.Identify(t.fd, "")
	if o := a.cat.get(k); err == nil && (o == nil || o.ident != ident || len(o.names) > 0) {
		if o != nil {
			a.cat.remove(o)
		}
		a.cat.put(&object{key: k, kind: unix.S_IFDIR, ident: ident})
	}
}

// NeedsRecovery reports whether the last stop was not clean, so that Recover must come
// before Run.
func (a *Applier) NeedsRecovery() bool { return a.unclean }

// Position is how far the target is now.
func (a *Applier) Position() Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shown
}

// Durable is the position a restart, even after a power cut, goes on from.
func (a *Applier) Durable() Position {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable
}

// Stats are the counters since Open.
func (a *Applier) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

func (a *Applier) count(f func(*Stats)) {
	a.mu.Lock()
	f(&a.stats)
	a.mu.Unlock()
}

// show publishes the deciding goroutine's position and wakes who waits for it.
func (a *Applier) show() {
	a.mu.Lock()
	changed := a.shown != a.pos
	a.shown = a.pos
	a.wake()
	a.mu.Unlock()
	if changed {
		a.cfg.OnChange()
	}
}

// wake tells waiters that something changed. Called with mu held.
func (a *Applier) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// Close takes a last checkpoint, marks the stop as clean and closes everything. Run must
// have returned. An error means that the next Open asks for recovery.
func (a *Applier) Close() error {
	a.mu.Lock()
	if a.closed || a.running {
		defer a.mu.Unlock()
		if a.running {
			return errors.New("close applier: still running")
		}
		return nil
	}
	a.closed = true
	a.mu.Unlock()
	err := a.closeClean()
	a.release()
	return err
}

func (a *Applier) closeClean() error {
	if a.unclean {
		return nil
	}
	// A disk that is full or gone must not hold up a stop: one attempt.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.checkpointNow(ctx); err != nil {
		return fmt.Errorf("close applier: %w", err)
	}
	for _, t := range a.trees {
		t.dropStage(&a.at, func() error { return nil })
	}
	m := a.meta()
	m.Clean = true
	return a.cat.storeMeta(m)
}

// release closes descriptors and database without a checkpoint, as a kill would.
func (a *Applier) release() {
	if a.ck.busy {
		<-a.ck.done
	}
	a.dirs.clear()
	a.files.clear()
	for _, t := range a.trees {
		t.close()
	}
	if a.cat != nil {
		a.cat.db.Close()
	}
	if a.high != nil {
		a.high.close()
	}
	if a.touched != nil {
		a.touched.close()
	}
	if a.intents != nil {
		a.intents.close()
	}
}
