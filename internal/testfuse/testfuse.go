// Package testfuse keeps tests with FUSE mounts from hanging the machine. A process
// that touches a mount whose server is stuck waits in the kernel and cannot be killed;
// only ending the connection frees it.
package testfuse

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const fusectl = "/sys/fs/fuse/connections"

// Need skips the test unless it runs as root with /dev/fuse.
func Need(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
}

// Watchdog ends every FUSE connection at mountpoint and unmounts it lazily: when the
// test ends, when it takes longer than d (0: a minute), and when this process dies of
// a panic or a signal. Call it before anything is mounted there, or after; it looks
// when it acts. After d the test is failed too, if it is still able to.
//
// The last two are the work of a child process: a Go program that waits for its own
// mount in the wrong place (starting a program with its directory or its file there is
// one) stops as a whole. The child knows the mount by its path, so mountpoint should
// be a directory of the test's own.
func Watchdog(t testing.TB, mountpoint string, d time.Duration) {
	t.Helper()
	if d == 0 {
		d = time.Minute
	}
	if err := ensureFusectl(); err != nil {
		t.Fatalf("watchdog of %s: %v", mountpoint, err)
	}
	if real, err := filepath.EvalSymlinks(mountpoint); err == nil {
		mountpoint = real
	}
	stop := guard(t, mountpoint, d)
	timer := time.AfterFunc(d, func() {
		t.Errorf("watchdog: mount %s cut off after %v", mountpoint, d)
		End(mountpoint)
	})
	t.Cleanup(func() {
		timer.Stop()
		End(mountpoint)
		stop()
	})
}

// End aborts the FUSE connections mounted at path and unmounts them lazily. It never
// touches path itself.
func End(path string) {
	for range 16 { // several may be stacked
		dev, ok := fuseAt(path)
		if !ok {
			return
		}
		os.WriteFile(filepath.Join(fusectl, dev, "abort"), []byte("1"), 0)
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return
		}
	}
}

// Abort ends the connection of the mount at path and leaves the mount, as a server
// that died does.
func Abort(path string) error {
	dev, ok := fuseAt(path)
	if !ok {
		return fmt.Errorf("no FUSE mount at %s", path)
	}
	return os.WriteFile(filepath.Join(fusectl, dev, "abort"), []byte("1"), 0)
}

// fuseAt is the device minor of the topmost mount at path if that is a FUSE one.
func fuseAt(path string) (minor string, ok bool) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		left, right, _ := strings.Cut(line, " - ")
		f := strings.Fields(left)
		if len(f) > 4 && f[4] == path {
			_, minor, _ = strings.Cut(f[2], ":")
			ok = strings.HasPrefix(right, "fuse")
		}
	}
	return minor, ok
}

func ensureFusectl() error {
	err := unix.Mount("fusectl", fusectl, "fusectl", 0, "")
	if err != nil && !errors.Is(err, unix.EBUSY) { // busy: it is mounted already
		return fmt.Errorf("mount fusectl: %w", err)
	}
	return nil
}

// guardScript waits until its standard input ends, which it does when the writer dies,
// or the time is over. "done" on it means the test ended well.
const guardScript = `end() {
	while read -r _ _ dev _ at _; do
		[ "$at" = "$1" ] && echo 1 >"$2/${dev#*:}/abort" 2>/dev/null
	done </proc/self/mountinfo
	umount -l "$1" 2>/dev/null; umount -l "$1" 2>/dev/null
}
(sleep "$3"; end "$1" "$2") </dev/null &
read word
kill $! 2>/dev/null
[ "$word" = done ] || end "$1" "$2"
exit 0`

// guard starts the child that outlives a panic. Without a shell there is none.
func guard(t testing.TB, mountpoint string, d time.Duration) (stop func()) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("watchdog of %s: %v", mountpoint, err)
	}
	seconds := strconv.Itoa(int(d/time.Second) + 1)
	cmd := exec.Command("/bin/sh", "-c", guardScript, "watchdog", mountpoint, fusectl, seconds)
	cmd.Stdin = r
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not killed with our process group
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		t.Logf("watchdog of %s does not survive a panic: %v", mountpoint, err)
		return func() {}
	}
	return func() {
		w.WriteString("done\n")
		w.Close()
		cmd.Wait()
	}
}

// Descriptors counts the open descriptors of this process.
func Descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range names {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			n++
		}
	}
	return n
}
