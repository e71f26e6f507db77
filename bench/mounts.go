package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const fusectl = "/sys/fs/fuse/connections"

func ensureFusectl() error {
	err := unix.Mount("fusectl", fusectl, "fusectl", 0, "")
	if err != nil && !errors.Is(err, unix.EBUSY) { // busy: it is mounted already
		return fmt.Errorf("mount fusectl: %w", err)
	}
	return nil
}

// endMountsBelow cuts off every FUSE mount below dir and unmounts it lazily, the latest
// first. It never touches the mounts themselves, so it works when their servers hang.
func endMountsBelow(dir string) {
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(list)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		left, right, _ := strings.Cut(lines[i], " - ")
		f := strings.Fields(left)
		if len(f) < 5 || !strings.HasPrefix(f[4], dir+"/") || !strings.HasPrefix(right, "fuse") {
			continue
		}
		_, minor, _ := strings.Cut(f[2], ":")
		_ = os.WriteFile(filepath.Join(fusectl, minor, "abort"), []byte("1"), 0) // gone already: fine
		_ = unix.Unmount(f[4], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}
