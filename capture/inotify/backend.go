package inotify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"understudy/capture"
)

const (
	// DefaultRescan is the time between looks at everything. Setting the watches anew
	// takes some 2 s of CPU per 100,000 directories, so this costs below 0.5 %.
	DefaultRescan = 10 * time.Minute
	// DefaultPoll is the time between looks at what cannot be watched.
	DefaultPoll = 30 * time.Second

	// rescanDelay is the quiet time after an event queue overflow before the tree is
	// walked again, so that one burst causes one walk. The kernel drops events past
	// max_queued_events, 16384 by default (inotify(7)).
	rescanDelay = 2 * time.Second
	// rescanLatest ends the waiting for quiet while overflow follows overflow.
	rescanLatest = 30 * time.Second
	// rootCheck is how often the root is looked at: its unmounting is not reported.
	rootCheck = time.Second
)

// ErrRootGone: the root was removed, moved, unmounted or mounted over.
var ErrRootGone = errors.New("captured directory is gone")

// Config of one capture; zero values are the defaults.
type Config struct {
	RescanEvery time.Duration // look at everything; below 0: never
	PollEvery   time.Duration // look at what cannot be watched
	// Overflow is told when events were lost, and how many times so far; a burst of
	// losses is one call. nil: nobody is. It must not block.
	Overflow func(times uint64)
}

// Backend watches one directory. Run may be called once at a time; the other methods
// by anybody.
type Backend struct {
	root string
	id   rootID
	cfg  Config
	sink capture.HintSink
	log  *slog.Logger

	told      atomic.Uint64 // hints handed to the sink
	overflows atomic.Uint64
	unwatched atomic.Uint64

	syncs chan chan struct{} // who waits for what happened until now to be told

	addWatch func(*fsnotify.Watcher, string) error // replaced by tests
}

var _ capture.Backend = (*Backend)(nil)

// rootID tells the root from what may later be called so.
type rootID struct{ dev, ino uint64 }

// New prepares to watch root, which must be a directory.
func New(root string, cfg Config, sink capture.HintSink, log *slog.Logger) (*Backend, error) {
	abs, err := filepath.Abs(root)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("watch %q: %w", root, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(abs, &st); err != nil {
		return nil, fmt.Errorf("watch %q: %w", root, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("watch %q: %w", root, unix.ENOTDIR)
	}
	cfg.RescanEvery = cmp.Or(cfg.RescanEvery, DefaultRescan)
	cfg.PollEvery = cmp.Or(cfg.PollEvery, DefaultPoll)
	return &Backend{root: abs, id: rootID{st.Dev, st.Ino}, cfg: cfg, sink: sink, log: log,
		syncs: make(chan chan struct{}), addWatch: (*fsnotify.Watcher).Add}, nil
}

// Root is the watched directory's absolute path, links resolved.
func (b *Backend) Root() string { return b.root }

// Fidelity is Hints.
func (b *Backend) Fidelity() capture.Fidelity { return capture.Hints }

// Stats counts hints as Ops. Unwatched is the present number of directories that are
// polled, each standing for all below it.
func (b *Backend) Stats() capture.Stats {
	return capture.Stats{Ops: b.told.Load(), Overflows: b.overflows.Load(), Unwatched: b.unwatched.Load()}
}

// Run watches until ctx ends and then returns nil, or returns what stopped it:
// ErrRootGone, or that the kernel gave no inotify instance. What was noticed before
// ctx ended is handed to the sink.
func (b *Backend) Run(ctx context.Context) error {
	l, err := newLoop(b)
	if err != nil {
		return err
	}
	defer l.stop()
	for {
		if err := l.step(ctx); err != nil {
			l.flush()
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// checkRoot reports whether the root is still the directory it was.
func (b *Backend) checkRoot() error {
	var st unix.Stat_t
	if err := unix.Lstat(b.root, &st); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRootGone, b.root, err)
	}
	if (rootID{st.Dev, st.Ino}) != b.id {
		return fmt.Errorf("%w: %s is another one now", ErrRootGone, b.root)
	}
	return nil
}
