package powercut

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// storeBytes is the size of the xfs that holds the images; it is sparse.
const storeBytes = 6 << 30

// Store holds the images of one test. Its methods are called by one goroutine.
type Store struct {
	t     testing.TB
	base  string // directory of everything
	dir   string // where the xfs is mounted
	disks int
	snaps int
}

// Need skips the test unless it runs as root with loop devices and the programs.
func Need(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loop devices and mounts")
	}
	if err := unix.Access("/dev/loop-control", unix.R_OK|unix.W_OK); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	for _, name := range []string{"mkfs.xfs", "mkfs.ext4", "losetup"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s; ops/test-deps.sh installs it: %v", name, err)
		}
	}
}

// NewStore makes the place for images, in memory where there is enough, and ends
// everything on it when the test ends, when it takes longer than limit, or when this
// process dies.
func NewStore(t testing.TB, limit time.Duration) *Store {
	t.Helper()
	Need(t)
	base, err := os.MkdirTemp(place(), "understudy-powercut-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{t: t, base: base, dir: filepath.Join(base, "store")}
	stop := guard(t, base, limit)
	t.Cleanup(func() {
		end(base)
		stop()
		_ = os.RemoveAll(base)
	})
	image := filepath.Join(base, "store.img")
	s.must(os.Mkdir(s.dir, 0o755))
	s.must(sparse(image, storeBytes))
	s.run("mkfs.xfs", "-q", "-m", "reflink=1", image)
	s.attach(image, s.dir, "xfs")
	return s
}

// attach mounts the file system in an image. The loop device goes with the mount,
// whoever ends that.
func (s *Store) attach(image, at, fs string, options ...string) (dev string) {
	s.t.Helper()
	dev = strings.TrimSpace(s.run("losetup", append(options, "-f", "--show", image)...))
	data := ""
	if fs == "xfs" { // a namespace made meanwhile may still hold the same one as it was before a cut
		data = "nouuid"
	}
	err := unix.Mount(dev, at, fs, unix.MS_NOATIME, data)
	s.run("losetup", "-d", dev) // takes effect when the device is closed
	s.must(err)
	return dev
}

// place is a memory file system with enough room, else the directory for temporary files.
func place() string {
	const shm = "/dev/shm"
	var st unix.Statfs_t
	if unix.Statfs(shm, &st) == nil && st.Type == unix.TMPFS_MAGIC && int64(st.Bavail)*st.Bsize > storeBytes {
		return shm
	}
	return os.TempDir()
}

// Path is a path of the test's own beside the images, on no disk that is cut.
func (s *Store) Path(name string) string { return filepath.Join(s.base, name) }

func (s *Store) must(err error) {
	if err != nil {
		s.t.Helper()
		s.t.Fatal(err)
	}
}

func (s *Store) run(name string, args ...string) string {
	s.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func sparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return joinClose(f, f.Truncate(size))
}

func joinClose(f *os.File, err error) error {
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// clone makes to share the content of from, as it is now.
func clone(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		err = fmt.Errorf("share content of %s: %w", from, err)
	}
	return joinClose(dst, err)
}

// endScript ends everything below the directory $1: FUSE connections are aborted and
// file systems unmounted, which frees their loop devices.
const endScript = `end() {
	while read -r _ _ dev _ at _; do
		case "$dev $at" in "0:"*" $1"/*) echo 1 >"/sys/fs/fuse/connections/${dev#*:}/abort" 2>/dev/null;; esac
	done </proc/self/mountinfo
	for _ in 1 2 3; do
		while read -r _ _ _ _ at _; do
			case "$at" in "$1"/*) umount -l "$at" 2>/dev/null;; esac
		done </proc/self/mountinfo
	done
}
`

func end(base string) {
	_ = exec.Command("/bin/sh", "-c", endScript+`end "$1"`, "end", base).Run() // what is left fails the next step
}

// guardScript waits for "done" on its standard input; its end without that is the death
// of the test program.
const guardScript = endScript + `(sleep "$2"; end "$1") </dev/null &
read word
kill $! 2>/dev/null
[ "$word" = done ] || { end "$1"; rm -rf --one-file-system "$1"; }
exit 0`

// guard starts the child that outlives a panic.
func guard(t testing.TB, base string, limit time.Duration) (stop func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", guardScript, "powercut", base, fmt.Sprint(int(limit/time.Second)+1))
	cmd.Stdin, cmd.Dir = r, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // not killed with our process group
	if err := cmd.Start(); err != nil {
		t.Fatalf("watchdog of %s: %v", base, err)
	}
	return func() {
		_, _ = w.WriteString("done\n")
		w.Close()
		_ = cmd.Wait()
	}
}
