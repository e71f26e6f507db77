package fanotify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// batchDelay is how long events gather in the kernel, which merges them, before they
	// are read. It is latency, too.
	batchDelay = 20 * time.Millisecond
	// bypassDelay is batchDelay where all events but rare ones are this process's own: the
	// more the kernel merges, the less they cost.
	bypassDelay = 200 * time.Millisecond
	// readBuffer is what one read(2) takes: some 700 events of usual names.
	readBuffer = 64 << 10
	// maxRound bounds the bytes read before hints are handed on.
	maxRound = 4 << 20
)

// mask is what is listened for. Access is not, so that reading costs nothing. FAN_RENAME
// is one event with both names (Linux 5.17).
const mask = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_MODIFY | unix.FAN_ATTRIB |
	unix.FAN_CLOSE_WRITE | unix.FAN_ONDIR

// dataMask is what happens to an object whatever its names are.
const dataMask = unix.FAN_MODIFY | unix.FAN_ATTRIB | unix.FAN_CLOSE_WRITE

// group is one mark and the captures that share it.
type group struct {
	log   *slog.Logger
	file  *os.File // the fanotify descriptor
	mount int      // a descriptor on the mount, for handles; a duplicate of the first root's
	limit int      // of waiting events; 0: none
	self  int32    // this process as events name it

	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // held while events are read and handed on; guards the rest
	members []*Backend
	places  places
	buf     []byte
	warned  time.Time // of an event that was not understood
	failed  error     // the reading ended with it
}

// newGroup marks the file system of rootFD.
func newGroup(rootFD, limit int, log *slog.Logger) (*group, error) {
	if err := possible(rootFD); err != nil {
		return nil, err
	}
	flags := uint(unix.FAN_CLASS_NOTIF | unix.FAN_REPORT_DFID_NAME_TARGET | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK)
	if limit == 0 {
		flags |= unix.FAN_UNLIMITED_QUEUE
	}
	fd, err := unix.FanotifyInit(flags, 0)
	if err != nil {
		return nil, initError(err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, mask, rootFD, ""); err != nil {
		unix.Close(fd)
		return nil, markError(err)
	}
	mount, err := unix.FcntlInt(uintptr(rootFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("keep mount: %w", err)
	}
	return &group{log: log, file: os.NewFile(uintptr(fd), "fanotify"), mount: mount, limit: limit, self: int32(os.Getpid()),
		done: make(chan struct{}), buf: make([]byte, readBuffer)}, nil
}

// start reads until stop.
func (g *group) start() {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	go func() {
		defer close(g.done)
		err := g.run(ctx)
		if ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.failed = err
		for _, b := range g.members {
			b.fail(err)
		}
	}()
}

func (g *group) stop() {
	g.cancel()
	_ = g.file.SetReadDeadline(time.Unix(1, 0)) // wakes run
	<-g.done
	g.file.Close()
	unix.Close(g.mount)
}

func (g *group) add(b *Backend) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b.group = g
	g.members = append(g.members, b)
	g.places.forget()
	if g.failed != nil {
		b.fail(g.failed)
	}
}

// remove reports how many members are left.
func (g *group) remove(b *Backend) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, m := range g.members {
		if m == b {
			g.members = append(g.members[:i], g.members[i+1:]...)
			break
		}
	}
	g.places.forget()
	return len(g.members)
}

// run waits for events, lets them gather, and hands them on.
func (g *group) run(ctx context.Context) error {
	raw, err := g.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ctx.Err() == nil {
		var failed error
		if err := raw.Read(func(fd uintptr) bool {
			var some bool
			some, failed = g.round(int(fd))
			return some || failed != nil
		}); err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		if failed != nil {
			return failed
		}
		pause.Reset(g.delay())
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
	return nil
}

// delay is how long events are to gather.
func (g *group) delay() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.members {
		if !b.cfg.Bypass {
			return batchDelay
		}
	}
	return bypassDelay
}

// sync reads what waits and hands it on.
func (g *group) sync() error {
	raw, err := g.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for some := true; some && failed == nil; {
			some, failed = g.round(int(fd))
		}
	})
	return errors.Join(failed, err)
}

// round reads up to maxRound bytes of events, without waiting, and hands on what they
// tell. some: there were any.
func (g *group) round(fd int) (some bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.flush()
	left := g.limit
	for total := 0; total < maxRound; {
		n, err := unix.Read(fd, g.buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return some, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, syscall.EINVAL): // an event larger than the buffer: there is none
			return some, fmt.Errorf("read events: %w", err)
		case err != nil:
			return some, fmt.Errorf("read events: %w", err)
		case n == 0:
			return some, errors.New("read events: the kernel has no more")
		}
		some = true
		total += n
		left = g.take(g.buf[:n], left)
	}
	return some, nil
}

// take handles the events in b. left is how many may still have waited where there is a
// limit; what is beyond is dropped as a full queue drops it.
func (g *group) take(b []byte, left int) int {
	for len(b) > 0 {
		ev, rest, err := decode(b)
		if err != nil {
			if time.Since(g.warned) > time.Minute {
				g.warned = time.Now()
				g.log.Warn("event not understood", "err", err)
			}
			g.lose(err)
			return left
		}
		b = rest
		if g.limit > 0 {
			if left--; left < 0 {
				ev = event{mask: unix.FAN_Q_OVERFLOW}
			}
		}
		g.handle(&ev)
	}
	return left
}

// flush hands the gathered hints to the sinks.
func (g *group) flush() {
	for _, b := range g.members {
		b.flush()
	}
}

// lose notes for all members that events are missing. Names may have changed, so no
// cached path is believed.
func (g *group) lose(why error) {
	g.places.forget()
	for _, b := range g.members {
		b.lose(why)
	}
}
