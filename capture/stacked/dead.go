package stacked

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"understudy/internal/mounts"
)

// maxDead bounds the mounts taken away from over one path.
const maxDead = 64

// ClearDead takes away, lazily, what mounts of this package are left at dir or above it
// whose daemon is gone. A daemon that was killed leaves one: whoever enters the
// directory gets ENOTCONN until it is unmounted. Mounts that answer stay, and so does
// everything that is not ours. It reports whether it took one away.
func ClearDead(dir string, log *slog.Logger) (cleared bool, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false, fmt.Errorf("look for a dead mount: %w", err)
	}
	for range maxDead {
		point, err := deadMount(abs)
		if err != nil || point == "" {
			return cleared, err
		}
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return cleared, fmt.Errorf("unmount %s, which a daemon that is gone left: %w", point, err)
		}
		log.Warn("dead mount taken away", "path", point)
		cleared = true
	}
	return cleared, fmt.Errorf("unmount %s: more than %d dead mounts there", dir, maxDead)
}

// deadMount finds the mount of ours that path leads to, if it is dead. Links on the way
// are followed as far as a dead mount allows.
func deadMount(path string) (point string, err error) {
	table, err := mounts.Read()
	if err != nil {
		return "", err
	}
	if on := table.Containing(path); on.FSType == fsType {
		if mounts.Dead(on.Point) {
			return on.Point, nil
		}
		return "", nil // ours and alive, or stuck: Mount refuses it
	}
	real, err := filepath.EvalSymlinks(path)
	var at *fs.PathError
	if errors.As(err, &at) && errors.Is(err, unix.ENOTCONN) {
		real, err = at.Path, nil
	}
	if err != nil || real == path {
		return "", nil // not there: whoever needs it says so
	}
	if on := table.Containing(real); on.FSType == fsType && mounts.Dead(on.Point) {
		return on.Point, nil
	}
	return "", nil
}
