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
