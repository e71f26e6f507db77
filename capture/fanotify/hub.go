package fanotify

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
)

// ErrUnsupported: this user, kernel or file system cannot be captured this way; the text
// says which. Another backend may do.
var ErrUnsupported = errors.New("fanotify capture is not possible here")

// ErrRootGone: the root was removed, moved, unmounted or mounted over.
var ErrRootGone = errors.New("captured directory is gone")

// DefaultRescan is the time between looks at everything, for what no event tells: stores
// through mappings that stay.
const DefaultRescan = 10 * time.Minute

// Config of one capture; zero values are the defaults.
type Config struct {
	RescanEvery time.Duration // look at everything; below 0: never
	// QueueLimit bounds the events that may wait, 0: unlimited. What is beyond is lost,
	// and all is looked at. The kernel's own bound (fs.fanotify.max_queued_events, 16384)
	// holds then, too. It counts for the first capture of a file system.
	QueueLimit int
	// Bypass: the directory lies beneath a stacked mount of this process. Only what
	// others change is told, and the root is reached by descriptor only.
	Bypass bool
	// Foreign is told of changes past a stacked mount, at most once a minute: the path
	// relative to the root and the process, 0 if it is in another pid namespace. It must
	// not block.
	Foreign func(path string, pid int)
	// Overflow is told when events were lost, and how many times so far; a burst of
	// losses is one call. nil: nobody is. It must not block.
	Overflow func(times uint64)
	// Quiet is the time without lost events after which everything is looked at; 0:
	// rescanDelay.
	Quiet time.Duration
}

// Hub shares one mark of each mounted file system among the captures on it. Its methods
// may be called by several goroutines at once.
type Hub struct {
	log *slog.Logger

	mu     sync.Mutex
	groups map[fsKey]*group // guarded by mu
}

// fsKey is a file system as one mount shows it: handles and paths belong to both.
type fsKey struct {
	dev   uint64
	mount uint64
}

// NewHub makes a hub without captures.
func NewHub(log *slog.Logger) *Hub {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Hub{log: log, groups: map[fsKey]*group{}}
}

// Open captures the directory behind rootFD, of the absolute path root without links in
// it. rootFD must be open for reading, not O_PATH; it belongs to the backend from now on,
// also if an error is returned. From the return on nothing is missed, as long as Run is
// called soon; whoever does not call Run calls Close. The error is ErrUnsupported where
// the directory cannot be captured so.
func (h *Hub) Open(root string, rootFD int, cfg Config, sink capture.HintSink, log *slog.Logger) (*Backend, error) {
	b, err := newBackend(root, rootFD, cfg, sink, log)
	if err == nil {
		err = h.join(b)
	}
	if err != nil {
		unix.Close(rootFD)
		return nil, fmt.Errorf("capture %s: %w", root, err)
	}
	return b, nil
}

// join adds b to the group of its file system, which its first member starts.
func (h *Hub) join(b *Backend) error {
	key, err := keyOf(b.rootFD)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.groups[key]
	if g == nil {
		if g, err = newGroup(b.rootFD, b.cfg.QueueLimit, h.log); err != nil {
			return err
		}
		h.groups[key] = g
		g.start()
	}
	b.hub, b.key = h, key
	g.add(b)
	return nil
}

// leave takes b out of its group, which ends with its last member.
func (h *Hub) leave(b *Backend) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.group.remove(b) == 0 && h.groups[b.key] == b.group {
		delete(h.groups, b.key)
		b.group.stop()
	}
}

func keyOf(fd int) (fsKey, error) {
	var sx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &sx); err != nil {
		return fsKey{}, fmt.Errorf("look at directory: %w", err)
	}
	if sx.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fsKey{}, unix.ENOTDIR
	}
	return fsKey{unix.Mkdev(sx.Dev_major, sx.Dev_minor), sx.Mnt_id}, nil
}
