package inotify

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// syncTimeout is how long Sync waits: while events come faster than they are read,
// everything before a moment is no short list.
const syncTimeout = 5 * time.Second

// errBusy ends a Sync: too much changes, or nobody watches.
var errBusy = errors.New("events are not read up to now")

// barrier finds the end of what happened before a moment. The kernel keeps the events of
// one inotify instance in order, so a change made to a watched file of our own is read
// after whatever came before it. One change is under way at a time; who comes meanwhile
// waits for the next.
type barrier struct {
	f           *os.File // in memory, watched beside the directories
	name        string   // in events
	fired, next []chan struct{}
	passed      bool // the event was read; what it led to may not be listed yet
	deaf        bool // not watched: who waits waits in vain
}

func newBarrier() (*barrier, error) {
	fd, err := unix.MemfdCreate("understudy-barrier", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a barrier of events: %w", err)
	}
	return &barrier{f: os.NewFile(uintptr(fd), "barrier"), name: fmt.Sprintf("/proc/self/fd/%d", fd)}, nil
}

// watch has w tell of the barrier. Where events were read by another watcher before,
// those who wait go through again.
func (b *barrier) watch(w *fsnotify.Watcher) error {
	err := w.Add(b.name)
	if b.deaf = err != nil; b.deaf {
		return fmt.Errorf("watch the barrier of events: %w", err)
	}
	b.next, b.fired, b.passed = append(b.fired, b.next...), nil, false
	b.fire()
	return nil
}

// await has done closed when what happened until now is told.
func (b *barrier) await(done chan struct{}) {
	if b.deaf {
		return
	}
	b.next = append(b.next, done)
	b.fire()
}

func (b *barrier) fire() {
	if len(b.fired) > 0 || len(b.next) == 0 {
		return
	}
	b.fired, b.next, b.passed = b.next, nil, false
	_ = b.f.Chmod(0o600) // fails with the file alone; then Sync times out
}

// over answers those whose events were read, if nothing found by them is left to list.
func (b *barrier) over(flush func()) {
	if !b.passed {
		return
	}
	flush()
	for _, done := range b.fired {
		close(done)
	}
	b.fired, b.passed = nil, false
	b.fire()
}

// Sync returns when the sink was told of everything that happened before the call. An
// error means that it cannot tell, because too much happens or nobody runs Run; hints come
// nevertheless. Anybody may call it.
func (b *Backend) Sync() error {
	done, timer := make(chan struct{}), time.NewTimer(syncTimeout)
	defer timer.Stop()
	select {
	case b.syncs <- done:
	case <-timer.C:
		return fmt.Errorf("watch %s: %w", b.root, errBusy)
	}
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("watch %s: %w", b.root, errBusy)
	}
}
