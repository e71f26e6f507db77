package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// lockDir takes the exclusive lock of a store directory. Closing the file gives it back.
func lockDir(dir string) (*os.File, error) {
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another daemon runs on %s; stop it or choose another data directory", ErrInUse, dir)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

// syncStore makes everything written to the store's file system durable. JetStream
// syncs neither a new stream's metadata nor, on shutdown, its blocks.
func syncStore(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync store: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync file system of %s: %w", dir, err)
	}
	return nil
}

// syncDescription makes the description of a stream durable. JetStream replaces its files
// by renaming new ones over them that were not synced; xfs may keep the rename and lose
// the content.
func (s *Server) syncDescription(name string) error {
	dir := filepath.Join(s.streamsDir(), name)
	for _, name := range []string{server.JetStreamMetaFile, server.JetStreamMetaFileSum, "."} {
		f, err := os.Open(filepath.Join(dir, name))
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return fmt.Errorf("sync description of a queue: %w", err)
		}
	}
	return nil
}

// diskSpace returns the bytes of the store's file system: all, and those still free
// for this process.
func diskSpace(dir string) (total, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("ask free space of %s: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}
