package fanotify

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// foreignEvery is the time between two lines of log about changes past the capture.
	foreignEvery = time.Minute
	// foreignMemory is how long after a foreign change this process's own renames are
	// told, too: they may have moved what was changed before it was looked at.
	foreignMemory = 10 * time.Second
)

// bypass is what a watch beneath a stacked mount remembers of changes that went past it.
type bypass struct {
	last   time.Time // change
	logged time.Time
	since  uint64 // changes since then
}

// sees reports whether the capture listens to an event. Beneath a stacked mount what this
// process did is what the mount captured. group.mu is held.
func (b *Backend) sees(ev *event) bool {
	if !b.cfg.Bypass || ev.pid != b.group.self {
		return true
	}
	return ev.mask&unix.FAN_RENAME != 0 && !b.bypass.last.IsZero() && time.Since(b.bypass.last) < foreignMemory
}

// noteForeign counts a change that went past the mount and logs it now and then.
// group.mu is held.
func (b *Backend) noteForeign(ev *event, path string) {
	if !b.cfg.Bypass || ev.pid == b.group.self {
		return
	}
	b.foreign.Add(1)
	w := &b.bypass
	w.last = time.Now()
	if w.since++; time.Since(w.logged) < foreignEvery {
		return
	}
	b.log.Warn("changed past the capture", "path", join(b.root, path), "process", ev.pid, "changes", w.since)
	w.logged, w.since = w.last, 0
	if f := b.cfg.Foreign; f != nil {
		f(path, int(ev.pid))
	}
}
