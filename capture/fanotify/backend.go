package fanotify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
)

const (
	// rescanDelay is the quiet time after lost events before everything is looked at, so
	// that one burst causes one look.
	rescanDelay = 2 * time.Second
	// rescanLatest ends the waiting for quiet while loss follows loss.
	rescanLatest = 30 * time.Second
	// rootCheck is how often the root is looked at: its unmounting is not reported.
	rootCheck = time.Second
	// maxObjects bounds the files without a usable name that are gathered; beyond,
	// everything is looked at.
	maxObjects = 4096
)

// Why events are missing.
var (
	errOverflow    = errors.New("event queue overflowed")
	errManyObjects = errors.New("too many files changed under names outside of the directory")
)

// Backend captures one directory. Run may be called once; the other methods by anybody.
type Backend struct {
	root   string
	rootFD int
	dev    uint64
	ino    uint64
	cfg    Config
	sink   capture.HintSink
	log    *slog.Logger

	hub   *Hub
	key   fsKey
	group *group

	hints   capture.Pending // guarded by group.mu
	objects map[string]bool // guarded by group.mu; true: content, too
	owed    bool            // guarded by group.mu: events were lost and all is to be looked at
	bypass  bypass          // guarded by group.mu

	lost   chan error // why events are missing
	failed chan error
	close  sync.Once

	told      atomic.Uint64 // hints handed to the sink
	overflows atomic.Uint64
	foreign   atomic.Uint64
}

var _ capture.Backend = (*Backend)(nil)

func newBackend(root string, rootFD int, cfg Config, sink capture.HintSink, log *slog.Logger) (*Backend, error) {
	var st unix.Stat_t
	if err := unix.Fstat(rootFD, &st); err != nil {
		return nil, fmt.Errorf("look at directory: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	cfg.RescanEvery = cmp.Or(cfg.RescanEvery, DefaultRescan)
	cfg.Quiet = cmp.Or(cfg.Quiet, rescanDelay)
	return &Backend{root: root, rootFD: rootFD, dev: st.Dev, ino: st.Ino, cfg: cfg, sink: sink, log: log,
		lost: make(chan error, 1), failed: make(chan error, 1)}, nil
}

// Root is the captured directory's absolute path.
func (b *Backend) Root() string { return b.root }

// Fidelity is DirtyObjects.
func (b *Backend) Fidelity() capture.Fidelity { return capture.DirtyObjects }

// Stats counts hints as Ops.
func (b *Backend) Stats() capture.Stats {
	return capture.Stats{Ops: b.told.Load(), Overflows: b.overflows.Load(), Foreign: b.foreign.Load()}
}

// Close ends the capture. Run calls it.
func (b *Backend) Close() {
	b.close.Do(func() {
		b.hub.leave(b)
		unix.Close(b.rootFD)
	})
}

// Sync hands on what happened before the call; after lost events that is everything.
// What happens meanwhile may or may not be handed on.
func (b *Backend) Sync() error {
	if err := b.group.sync(); err != nil {
		return fmt.Errorf("capture %s: %w", b.root, err)
	}
	b.rescan(true)
	return nil
}

// Behind reports that events were lost and not everything was called dirty since.
func (b *Backend) Behind() bool {
	b.group.mu.Lock()
	defer b.group.mu.Unlock()
	return b.owed
}

// Run captures until ctx ends and then returns nil, or returns what stopped it:
// ErrRootGone, or that events cannot be read. What was noticed before ctx ended is handed
// to the sink.
func (b *Backend) Run(ctx context.Context) error {
	defer b.Close()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	check, rescan := time.NewTicker(rootCheck), time.NewTicker(max(b.cfg.RescanEvery, time.Millisecond))
	defer check.Stop()
	defer rescan.Stop()
	if b.cfg.RescanEvery < 0 {
		rescan.Stop()
	}
	var first time.Time // loss since the last look at everything
	for {
		select {
		case <-ctx.Done():
			_ = b.Sync() // nobody listens if it fails
			return nil
		case err := <-b.failed:
			return err
		case why := <-b.lost:
			if first.IsZero() {
				first = time.Now()
				b.log.Warn("events lost, rescanning", "path", b.root, "err", why)
				if f := b.cfg.Overflow; f != nil {
					f(b.overflows.Load())
				}
			}
			quiet.Reset(max(min(b.cfg.Quiet, time.Until(first.Add(rescanLatest))), 0))
		case <-quiet.C:
			first = time.Time{}
			b.rescan(true)
		case <-rescan.C:
			b.rescan(false)
		case <-check.C:
			if err := b.checkRoot(); err != nil {
				return err
			}
		}
	}
}

// rescan says that everything may have changed; ifOwed: only if events were lost.
func (b *Backend) rescan(ifOwed bool) {
	b.group.mu.Lock()
	defer b.group.mu.Unlock()
	if ifOwed && !b.owed {
		return
	}
	b.owed = false
	b.hints.Add(capture.Hint{Deep: true})
	b.flush()
}

// lose notes that events are missing. group.mu is held.
func (b *Backend) lose(why error) {
	b.overflows.Add(1)
	b.owed = true
	select {
	case b.lost <- why:
	default:
	}
}

func (b *Backend) fail(err error) {
	select {
	case b.failed <- fmt.Errorf("capture %s: %w", b.root, err):
	default:
	}
}

// dirty keeps a hint for the next flush. group.mu is held.
func (b *Backend) dirty(ev *event, h capture.Hint) {
	if b.sees(ev) {
		b.noteForeign(ev, h.Path)
		b.hints.Add(h)
	}
}

// object keeps a file without a usable name for the next flush. group.mu is held.
func (b *Backend) object(ev *event) {
	if !b.sees(ev) {
		return
	}
	if _, ok := b.sink.(capture.ObjectSink); !ok || len(b.objects) >= maxObjects {
		b.lose(errManyObjects)
		return
	}
	if b.objects == nil {
		b.objects = map[string]bool{}
	}
	content := ev.mask&(unix.FAN_MODIFY|unix.FAN_CLOSE_WRITE) != 0
	b.objects[string(ev.obj)] = b.objects[string(ev.obj)] || content
}

// flush tells the sink what was gathered. group.mu is held.
func (b *Backend) flush() {
	moved, knowsMoves := b.sink.(capture.MoveSink)
	hints := b.hints.Take()
	for _, h := range hints { // what came first, so that nothing is taken for removed between
		if h.Moved && knowsMoves {
			moved.Moved(h.Path, h.Deep)
		}
	}
	for _, h := range hints {
		if !h.Moved || !knowsMoves {
			b.sink.Dirty(h.Path, h.Deep)
		}
	}
	b.told.Add(uint64(len(hints)))
	for h, content := range b.objects {
		b.sink.(capture.ObjectSink).Object([]byte(h), content)
		b.told.Add(1)
	}
	clear(b.objects)
}

// checkRoot reports whether the root is still the directory it was. What lies beneath a
// mount of ours cannot be looked at by path.
func (b *Backend) checkRoot() error {
	if b.cfg.Bypass {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(b.root, &st); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRootGone, b.root, err)
	}
	if st.Dev != b.dev || st.Ino != b.ino {
		return fmt.Errorf("%w: %s is another one now", ErrRootGone, b.root)
	}
	return nil
}
