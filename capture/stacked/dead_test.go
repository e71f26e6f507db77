package stacked

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/internal/testfuse"
)

// kill leaves dir as a daemon that was killed does: mounted, and nobody there.
func kill(t *testing.T, dir string) {
	t.Helper()
	fd, err := mountOver(dir)
	must(t, err)
	must(t, unix.Close(fd))
	if _, err := os.ReadDir(dir); !errors.Is(err, unix.ENOTCONN) {
		t.Fatalf("a dead mount says %v, want ENOTCONN", err)
	}
}

// TestDeadMountIsTakenAway: the native directory is back, at the path itself, through a
// link to it and from below it.
func TestDeadMountIsTakenAway(t *testing.T) {
	testfuse.Need(t)
	base := t.TempDir()
	dir, link := filepath.Join(base, "dir"), filepath.Join(base, "link")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	must(t, os.Symlink(dir, link))
	testfuse.Watchdog(t, dir, 0)
	for _, path := range []string{dir, link, filepath.Join(dir, "sub"), filepath.Join(link, "sub")} {
		kill(t, dir)
		if cleared, err := ClearDead(path, slog.Default()); err != nil || !cleared {
			t.Fatalf("%s: cleared %v, %v", path, cleared, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "sub")); err != nil {
			t.Fatalf("%s: the native directory is not back: %v", path, err)
		}
	}
	if cleared, err := ClearDead(dir, slog.Default()); err != nil || cleared {
		t.Fatalf("without a mount: cleared %v, %v", cleared, err)
	}
	if cleared, err := ClearDead(filepath.Join(base, "missing"), slog.Default()); err != nil || cleared {
		t.Fatalf("missing directory: cleared %v, %v", cleared, err)
	}
}

// TestLiveMountStays: what answers is left alone, also when asked from its own process.
func TestLiveMountStays(t *testing.T) {
	_, dir, _ := start(t, Config{})
	if cleared, err := ClearDead(dir, slog.Default()); err != nil || cleared {
		t.Fatalf("cleared %v, %v", cleared, err)
	}
	if _, err := ownDevice(dir); err != nil {
		t.Fatal(err)
	}
}

// TestHolderLeavesOtherMountsAlone: the mount of a killed daemon is taken away by hand,
// and the kernel gives its device's number to the next FUSE mount. A holder that gives
// up then does not end that one.
func TestHolderLeavesOtherMountsAlone(t *testing.T) {
	s := newSurvival(t)
	s.serve("", 0, true)
	must(t, os.WriteFile(filepath.Join(s.spec.Dir, "before"), []byte("x"), 0o600))
	minor, err := ownDevice(s.spec.Dir)
	must(t, err)
	s.kill()
	must(t, unix.Unmount(s.spec.Dir, unix.MNT_DETACH))
	var other string
	fd := -1
	for try := 0; ; try++ {
		other = t.TempDir()
		testfuse.Watchdog(t, other, 0)
		fd, err = mountOver(other)
		must(t, err)
		defer unix.Close(fd)
		if now, err := ownDevice(other); err == nil && now == minor {
			break
		}
		if try > 200 {
			t.Fatalf("no mount got the number %d again", minor)
		}
	}
	until(t, "holder has ended", func() bool { return s.holderPID() == 0 })
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(p, 0); err != nil || p[0].Revents&unix.POLLERR != 0 {
		t.Fatalf("another file system's connection was ended: %x, %v", p[0].Revents, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.spec.Dir, "before")); err != nil || string(b) != "x" {
		t.Errorf("native directory: %q, %v", b, err)
	}
}
