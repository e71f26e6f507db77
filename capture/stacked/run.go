package stacked

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/capture/lower"
	"understudy/internal/mounts"
)

// ErrUnmounted: somebody else took the mount away or aborted its connection.
var ErrUnmounted = errors.New("mount is gone")

// Root is the absolute path of the captured directory.
func (c *Capture) Root() string { return c.root }

// Fidelity is WriteOrder.
func (c *Capture) Fidelity() capture.Fidelity { return capture.WriteOrder }

// Tree reads the directory below under the locks of captured operations. It may be
// used until Run returns.
func (c *Capture) Tree() *lower.Tree { return c.tree }

// Foreign lists the processes that held descriptors when the mount was made; what they
// write through them is not captured.
func (c *Capture) Foreign() []capture.Foreign { return c.foreign }

// Attach gives every operation from now on to s too. An operation that takes effect
// after Attach returned is given to s; one under way may be. After detach returned no
// call of s is running, and none comes; it may not be called from within one. In the
// Put of an operation on names, s may take the lock of a file (lower.File.WithLock).
func (c *Capture) Attach(s capture.Sink) (detach func()) { return c.fs.sinks.attach(s) }

// SetMirrorActive counts the mirrors reading the tree. While there is one, ranges
// copied inside the directory are logged as writes of the bytes.
func (c *Capture) SetMirrorActive(active bool) {
	if active {
		c.fs.mirrors.Add(1)
	} else {
		c.fs.mirrors.Add(-1)
	}
}

// Ready is closed once Run serves requests.
func (c *Capture) Ready() <-chan struct{} { return c.ready }

// Stats is a copy of the counters.
func (c *Capture) Stats() capture.Stats { return c.fs.stats() }

// Run serves until ctx ends, then takes the mount away and returns nil; or it returns
// ErrUnmounted. If the cause is capture.ErrLeave and a Keeper has the session, it
// answers what it serves and returns nil; the mount stays, and whoever uses it waits for
// the next process. It may be called once.
func (c *Capture) Run(ctx context.Context) error {
	if c.resumed {
		if err := c.goOn(); err != nil {
			return fmt.Errorf("resume capture of %s: %w", c.root, errors.Join(err, c.abandon()))
		}
	}
	c.device.progress.Serving.Store(uint64(os.Getpid()))
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := c.device.serve(); err != nil {
			c.log.Error("requests not read", "err", err)
		}
	}()
	go c.announce()
	var err error
	taken, unwatch := c.watch()
	defer unwatch()
	select {
	case <-taken: // changes pass by from here on; what is still open ends too
		err = fmt.Errorf("capture %s: %w", c.root, ErrUnmounted)
		if err := c.cut(served); err != nil {
			return err
		}
	case <-served:
		c.unmount()
		err = fmt.Errorf("capture %s: %w", c.root, ErrUnmounted)
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), capture.ErrLeave) && c.Pause() {
			return nil
		}
		if err := c.unmount(); err != nil {
			c.log.Warn("mount not taken away", "err", err)
		}
		if err := c.drain(served); err != nil {
			return err // requests may still come, and need the descriptors
		}
	}
	c.tree.Close()
	c.fs.close()
	c.device.file.Close()
	return errors.Join(err, c.letGo())
}

// Pause answers what is being served and serves nothing after that: whoever uses the
// directory waits for the process that comes after this one, which must end. It reports
// false, and does nothing, if nothing outlives this process.
func (c *Capture) Pause() bool {
	if c.fs.tab == nil {
		return false
	}
	c.device.pause()
	return true
}

// announce makes the kernel ask once whether files here can be polled, and learn that
// they cannot: a Go program that opens them would otherwise ask from inside its
// scheduler, which may be the one that has to answer. It is not on the serving path.
func (c *Capture) announce() {
	defer close(c.ready)
	if c.resumed {
		return // it knows
	}
	fd, err := unix.Open(filepath.Join(c.root, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // unmounted already, or a kernel that asks nothing
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

// unmount takes the mount away, lazily if it is busy. It leaves alone what is not ours.
func (c *Capture) unmount() error {
	dev, err := ownDevice(c.root)
	if err != nil || dev != c.dev {
		return nil // taken away already, or covered
	}
	for try := range 5 { // a file being closed is busy for a moment
		if err = unix.Unmount(c.root, unix.UMOUNT_NOFOLLOW); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
	if errors.Is(err, unix.EBUSY) {
		c.log.Info("directory is in use, unmounting lazily")
		err = unix.Unmount(c.root, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", c.root, err)
	}
	return nil
}

// drain waits until nobody uses the mount any more, at most Linger, then cuts it off.
func (c *Capture) drain(served <-chan struct{}) error {
	select {
	case <-served:
		return nil
	case <-time.After(c.cfg.Linger):
	}
	c.log.Warn("files still open are cut off")
	return c.cut(served)
}

// cut ends the connection of a mount that was taken away. A number that is in the mount
// table is another one's: then the connection has ended.
func (c *Capture) cut(served <-chan struct{}) error {
	t, err := mounts.Read()
	if err == nil && !t.HasFUSE(c.dev) {
		err = mounts.Abort(c.dev)
	}
	if err != nil {
		return fmt.Errorf("capture %s: %w", c.root, err)
	}
	<-served
	return nil
}

// readAheadKB is how far the kernel reads ahead of a sequential reader. Its default of
// 128 makes a request of every 128 KiB.
const readAheadKB = "1024"

// setReadAhead is for speed only: without sysfs the default stays.
func (c *Capture) setReadAhead() {
	name := fmt.Sprintf("/sys/class/bdi/0:%d/read_ahead_kb", c.dev)
	if err := os.WriteFile(name, []byte(readAheadKB), 0); err != nil {
		c.log.Debug("read-ahead not set", "err", err)
	}
}
