package testnode

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// memoryName begins the names of the file systems of Memory in the table of mounts; the
// process that made one follows.
const memoryName = "understudy-test-"

// memoryBytes is how much one may hold. Only what is used takes memory.
const memoryBytes = 4 << 30

// Memory is a directory on a file system of its own, in memory, for the daemons of one
// test: whoever flushes or watches a whole file system meets nothing of the tests beside
// it, and setting up costs no disk. It needs root. The end of the test takes it away.
func Memory(t testing.TB) string {
	t.Helper()
	sweepMemory()
	dir, err := os.MkdirTemp("", memoryName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := unix.Mount(memoryName+strconv.Itoa(os.Getpid()), dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", memoryBytes)); err != nil {
		t.Fatalf("mount memory at %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// sweepMemory takes away what test programs left that ended without their cleanup.
func sweepMemory() {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		left, right, _ := strings.Cut(line, " - ")
		at, what := strings.Fields(left), strings.Fields(right)
		if len(at) < 5 || len(what) < 2 {
			continue
		}
		pid, ours := strings.CutPrefix(what[1], memoryName)
		if _, err := os.Stat("/proc/" + pid); ours && os.IsNotExist(err) && unix.Unmount(at[4], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
			_ = os.Remove(at[4])
		}
	}
}
