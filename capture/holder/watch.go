package holder

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/internal/mounts"
)

// MountPrefix begins the names of items that are FUSE connections.
const MountPrefix = "mount/"

// Mount is what the holder has to know of a FUSE connection; the meta of its item is a
// JSON object that has these fields among others.
type Mount struct {
	Root  string `json:"root"`  // absolute path of the mount point
	Minor uint32 `json:"minor"` // of the mount's device: the name of its connection in fusectl
}

// Progress stands at the beginning of a connection's shared memory. The daemon counts,
// the holder looks.
type Progress struct {
	Taken    atomic.Uint64 // requests read from the kernel
	Answered atomic.Uint64 // requests answered or needing no answer
	Full     atomic.Uint64 // not 0: as many requests are served as may be, none is read
	Serving  atomic.Uint64 // id of the process that serves, 0: none does yet
}

// watched is what the holder saw of a connection last.
type watched struct {
	at       time.Time // since when nothing has moved; zero: it moves, or nobody waits
	taken    uint64
	answered uint64
}

// watch looks after everything until there is nothing to look after.
func (s *server) watch(ctx context.Context) {
	tick := time.NewTicker(min(time.Second, s.cfg.Grace/10, s.cfg.Watchdog/10))
	defer tick.Stop()
	for {
		select {
		case <-s.end:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		switch {
		case s.owner == nil && time.Since(s.since) > s.cfg.Grace:
			s.failOpen("no daemon came back")
			s.finish()
		case s.owner != nil && !s.owner.killed:
			if why := s.hung(); why != "" {
				s.kill(why)
			}
		}
		s.mu.Unlock()
	}
}

// hung says why the daemon is believed to hang, "" if it is not. Under mu.
func (s *server) hung() string {
	if quiet := time.Since(s.owner.sign); quiet > s.cfg.Watchdog {
		return fmt.Sprintf("no sign of life for %v", quiet.Round(time.Second))
	}
	for name, it := range s.items {
		if m, ok := mountOf(name, it); ok && it.stuck(m, s.owner.pid, s.cfg.Watchdog) && mounted(m) {
			return fmt.Sprintf("requests at %s wait and none is taken for %v", m.Root, s.cfg.Watchdog)
		}
	}
	return ""
}

// mounted reports whether the connection looked at is still that of m: once the mount is
// taken away, the number of its device is the next one's.
func mounted(m Mount) bool {
	t, err := mounts.Read()
	return err == nil && slices.ContainsFunc(t, func(e mounts.Entry) bool { return e.Point == m.Root && e.Minor == m.Minor })
}

// stuck reports whether requests wait in the kernel, and none has been taken for the
// given time. A slow disk is no reason: requests being served are not waiting. Where as
// many are served as may be, none of them ending counts.
func (it *item) stuck(m Mount, pid int32, limit time.Duration) bool {
	p, done := it.progress()
	if p == nil {
		return false
	}
	defer done()
	now := watched{taken: p.Taken.Load(), answered: p.Answered.Load()}
	waiting, err := mounts.Waiting(m.Minor)
	unread := err == nil && waiting > now.taken-now.answered && p.Serving.Load() == uint64(pid)
	moved := now.taken != it.seen.taken || p.Full.Load() != 0 && now.answered != it.seen.answered
	if !unread || moved || it.seen.at.IsZero() {
		now.at = time.Now()
		it.seen = now
		return false
	}
	return time.Since(it.seen.at) > limit
}

// progress maps the shared memory of a connection, nil if it has none.
func (it *item) progress() (p *Progress, done func()) {
	if len(it.fds) == 0 {
		return nil, nil
	}
	fd := it.fds[len(it.fds)-1]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size < int64(unsafe.Sizeof(Progress{})) {
		return nil, nil
	}
	mem, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(Progress{})), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil
	}
	return (*Progress)(unsafe.Pointer(&mem[0])), func() { unix.Munmap(mem) }
}

// kill ends a daemon that hangs. Its connection ends when all its threads have. Under mu.
func (s *server) kill(why string) {
	s.log.Error("daemon hangs, killing it", "pid", s.owner.pid, "err", why)
	s.note = "the daemon before this one was killed: " + why
	s.owner.killed = true
	if err := unix.PidfdSendSignal(s.owner.pidfd, unix.SIGKILL, nil, 0); err != nil {
		s.log.Error("daemon not killed", "pid", s.owner.pid, "err", err)
	}
}

func mountOf(name string, it *item) (m Mount, ok bool) {
	if !strings.HasPrefix(name, MountPrefix) {
		return m, false
	}
	return m, json.Unmarshal(it.meta, &m) == nil && m.Root != ""
}

// failOpen gives applications the native directories back: what changes from here on is
// not captured, which is written down first. Under mu.
func (s *server) failOpen(why string) {
	gap := Gap{Time: time.Now().UTC(), Reason: why}
	var all []Mount
	for name, it := range s.items {
		if m, ok := mountOf(name, it); ok {
			all = append(all, m)
			gap.Roots = append(gap.Roots, m.Root)
		}
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(gap.Roots)
	if err := writeGap(s.cfg.Dir, gap); err != nil {
		s.log.Error("gap not written down", "err", err)
	}
	for name := range s.items {
		s.drop(name) // the connections end with their last descriptors
	}
	for _, m := range all {
		s.log.Error("directory is given back, changes are missed from here on", "path", m.Root, "err", why)
		if err := mounts.Detach(m.Root, m.Minor); err != nil {
			s.log.Error("mount not taken away", "path", m.Root, "err", err)
		}
	}
}
