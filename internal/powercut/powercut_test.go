package powercut

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCutLosesWhatWasNotSynced is the rig's own: a snapshot holds what was synced, and
// of what was not, neither a name nor content, though a reader of the disk saw both.
func TestCutLosesWhatWasNotSynced(t *testing.T) {
	s := NewStore(t, 2*time.Minute)
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			d := s.Disk(fs, fs, 512<<20)
			old, fresh := bytes.Repeat([]byte("old "), 64<<10), bytes.Repeat([]byte("new "), 64<<10)
			kept, made := filepath.Join(d.At(), "kept"), filepath.Join(d.At(), "made")
			write(t, kept, old, true)
			syncDisk(t, d)
			write(t, kept, fresh, false)
			write(t, made, fresh, false)
			lost, err := d.Snapshot()
			must(t, err)
			same(t, kept, fresh)
			syncDisk(t, d)
			all, err := d.Snapshot()
			must(t, err)

			d.Cut(lost)
			same(t, kept, old)
			if _, err := os.Stat(made); !os.IsNotExist(err) {
				t.Errorf("a file that was never synced survived: %v", err)
			}
			d.Cut(all)
			same(t, kept, fresh)
			same(t, made, fresh)
		})
	}
}

func write(t *testing.T, path string, b []byte, fsync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	must(t, err)
	_, err = f.WriteAt(b, 0)
	must(t, err)
	if fsync {
		must(t, f.Sync())
	}
	must(t, f.Close())
}

func syncDisk(t *testing.T, d *Disk) {
	t.Helper()
	f, err := os.Open(d.At())
	must(t, err)
	defer f.Close()
	must(t, unix.Syncfs(int(f.Fd())))
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s holds %d bytes beginning with %q, want %q", path, len(got), got[:min(8, len(got))], want[:8])
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
