package stacked

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"understudy/internal/mounts"
)

// watch closes taken when the mount is no longer anywhere: somebody unmounted it
// lazily, and applications change the native directory past it while files that were open
// keep the connection alive. The kernel tells of every change of the mount table. stop
// ends the watching and waits for that. Where it cannot watch, the end of the connection
// shows what happened, later.
func (c *Capture) watch() (taken <-chan struct{}, stop func()) {
	gone := make(chan struct{})
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	wake := -1
	if err == nil {
		wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err != nil {
		c.log.Warn("mount is not watched", "err", err)
		if table >= 0 {
			unix.Close(table)
		}
		return gone, func() {}
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		if c.lostMount(table, wake) {
			close(gone)
		}
	})
	return gone, func() {
		unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		ended.Wait()
		unix.Close(wake)
		unix.Close(table)
	}
}

// lostMount waits until the mount is gone, or for a wake-up, and reports the former.
func (c *Capture) lostMount(table, wake int) bool {
	for {
		if t, err := mounts.Read(); err == nil && !t.HasFUSE(c.dev) {
			return true
		}
		p := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}, {Fd: int32(wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err != nil && !errors.Is(err, unix.EINTR) || p[1].Revents != 0 {
			return false
		}
	}
}
