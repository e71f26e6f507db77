package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fusectl is where the kernel lets FUSE connections be looked at and ended.
const fusectl = "/sys/fs/fuse/connections"

// control names a file of a connection. Without fusectl it is mounted; what fails then
// shows when the file is used.
func control(minor uint32, name string) string {
	if _, err := os.Stat(fusectl); err == nil {
		if t, err := Read(); err == nil && t.Containing(fusectl).FSType != "fusectl" {
			unix.Mount("fusectl", fusectl, "fusectl", 0, "")
		}
	}
	return filepath.Join(fusectl, strconv.FormatUint(uint64(minor), 10), name)
}

// Abort ends the FUSE connection of a mount: whoever waits on it gets ENOTCONN. One
// that has ended already is no error.
func Abort(minor uint32) error {
	err := os.WriteFile(control(minor, "abort"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("abort connection %d: %w", minor, err)
	}
	return nil
}

// Waiting counts the requests of a connection that are not answered, taken by the
// server or not.
func Waiting(minor uint32) (uint64, error) {
	b, err := os.ReadFile(control(minor, "waiting"))
	if err != nil {
		return 0, fmt.Errorf("requests waiting at connection %d: %w", minor, err)
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// aliveTimeout is how long a mount may take to answer before it is left alone as one
// that is stuck, not dead.
const aliveTimeout = 3 * time.Second

// Dead asks the mount at point a question that no cache answers. It reports whether its
// connection has ended. One that does not answer in time keeps a thread waiting in the
// kernel until it does or is aborted.
func Dead(point string) bool {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		answer <- unix.Statfs(point, &st)
	}()
	select {
	case err := <-answer:
		return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
	case <-time.After(aliveTimeout):
		return false
	}
}

// Detach takes the mount at point away, lazily, if it is of this device and its
// connection has ended. The kernel gives the number of a device that is gone to the next
// mount, so the number alone may mean another one, which is alive.
func Detach(point string, minor uint32) error {
	t, err := Read()
	if err != nil {
		return err
	}
	if on := t.Containing(point); on.Point != point || on.Minor != minor {
		return nil // taken away already, or covered
	}
	if !Dead(point) {
		return nil
	}
	if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", point, err)
	}
	return nil
}
