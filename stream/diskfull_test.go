package stream

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own, of size bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a file system of its own needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("understudy-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fill writes a file until leave bytes are free, as somebody else on the disk would.
func fill(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "of somebody else")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		_, left, err := diskSpace(dir)
		must(t, err)
		if left <= leave {
			break
		}
		if _, err := f.Write(block[:min(int64(len(block)), left-leave)]); err != nil {
			break // full
		}
	}
	return func() { must(t, os.Remove(name)) }
}

// runServer has the server look after its store until the test ends.
func runServer(t *testing.T, s *Server) {
	t.Helper()
	goRun(t, s.Run)
}

// lowered waits until the guard has seen that the disk is short.
func lowered(t *testing.T, st *store, below int64) {
	t.Helper()
	eventually(t, "a lower limit of the queue", func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.limited < below
	})
}

// TestQueueIsFullBeforeTheDisk: somebody else fills the disk while a journal writes. It
// ends as full, with room left on the disk, and the store goes on working.
func TestQueueIsFullBeforeTheDisk(t *testing.T) {
	dir := smallDisk(t, "128m")
	s := startServer(t, ServerConfig{StoreDir: dir, MinFree: 16 << 20})
	runServer(t, s)
	j := openJournal(t, s, JournalConfig{MaxBytes: 1 << 30})
	goRun(t, j.Run)
	put(t, j, 1, 100, 10_000)
	must(t, j.Sync(testCtx(t)))
	free := fill(t, dir, 24<<20)
	lowered(t, j.st, 32<<20)
	var err error
	for n := 101; err == nil && n < 1<<20; n++ {
		_, err = j.Put(write(n, 10_000))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("the journal ended with: %v", err)
	}
	if _, left, err := diskSpace(dir); err != nil || left < 4<<20 {
		t.Errorf("%d bytes are left on the disk, %v", left, err)
	}
	must(t, j.Delete(testCtx(t)))
	free()
	must(t, s.CheckSpace())
	again := openJournal(t, s, JournalConfig{Epoch: testEpoch + 1, MaxBytes: 1 << 30})
	goRun(t, again.Run)
	put(t, again, 1, 100, 10_000)
	must(t, again.Sync(testCtx(t)))
}

// TestTargetQueueStopsBeforeTheDisk: the disk of the target's queue runs low. The
// transmitter waits, nothing is lost, and it goes on by itself when there is room.
func TestTargetQueueStopsBeforeTheDisk(t *testing.T) {
	dir := smallDisk(t, "128m")
	p := newPairAt(t, ServerConfig{StoreDir: dir, MinFree: 32 << 20}, ReceiverConfig{MaxBytes: 1 << 30})
	put(t, p.j, 1, 10, 10_000)
	free := fill(t, dir, 36<<20)
	lowered(t, p.r.st, 32<<20)
	for n := 11; n <= 3000; n += 100 {
		put(t, p.j, n, n+99, 10_000)
		must(t, p.j.Sync(testCtx(t)))
	}
	eventually(t, "the transmitter to wait", func() bool { return p.tx.Stats().TargetFull })
	if _, left, err := diskSpace(dir); err != nil || left < 16<<20 {
		t.Errorf("%d bytes are left on the disk, %v", left, err)
	}
	free()
	expect(t, p.r, 1, 3010)
	eventually(t, "the transmitter to be at work", func() bool { return !p.tx.Stats().TargetFull })
}

// TestTrimOnAFullDisk: others filled the disk to its last byte. A queue is not trimmed then,
// which would end in a server that answers nobody any more; with room again it is.
func TestTrimOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "96m")
	s := startServer(t, ServerConfig{StoreDir: dir})
	j := openJournal(t, s, JournalConfig{MaxBytes: 1 << 30})
	goRun(t, j.Run)
	for n := 1; n <= 1000; n++ { // a frame each, over several blocks
		put(t, j, n, n, 20_000)
		must(t, j.Sync(testCtx(t)))
	}
	free := fill(t, dir, 0)
	for _, keep := range []uint64{150, 300, 450} {
		if err := j.st.purge(testCtx(t), keep); !errors.Is(err, ErrFull) {
			t.Fatalf("trimmed to frame %d without room: %v", keep, err)
		}
	}
	if _, _, err := j.st.readLast(testCtx(t)); err != nil {
		t.Fatalf("the store does not answer: %v", err)
	}
	free()
	must(t, j.st.purge(testCtx(t), 600))
	put(t, j, 1001, 1010, 20_000)
	must(t, j.Sync(testCtx(t)))
}

// TestStoreThatMetAFullDiskIsRestarted: the guard is off and the disk really full. The
// stream is dead then; the server restarts its store in the process, everything that was
// open on it fails, and after there is room again new epochs work, of this connection
// and of another.
func TestStoreThatMetAFullDiskIsRestarted(t *testing.T) {
	usual := probeEvery
	t.Cleanup(func() { probeEvery = usual }) // after the server's own end
	probeEvery = 200 * time.Millisecond
	dir := smallDisk(t, "64m")
	s := startServer(t, ServerConfig{StoreDir: dir})
	s.cfg.MinFree = -1 << 40 // the guard is off
	before := s.ns.Load()
	runServer(t, s)
	j := openJournal(t, s, JournalConfig{MaxBytes: 1 << 30})
	other := openJournal(t, s, JournalConfig{Connection: "letters", MaxBytes: 1 << 30})
	r := openReceiver(t, s, ReceiverConfig{MaxBytes: 1 << 30})
	goRun(t, j.Run)
	goRun(t, other.Run)
	put(t, other, 1, 10, 1000)
	must(t, other.Sync(testCtx(t)))
	free := fill(t, dir, 0)
	for n := 1; j.Err() == nil && n < 2000; n++ {
		_, _ = j.Put(write(n, 100_000))
	}
	<-j.Failed()
	t.Logf("the journal ended with: %v", j.Err())
	eventually(t, "another server", func() bool { return s.ns.Load() != before })
	eventually(t, "the other journal to fail", func() bool { return other.Err() != nil })
	if _, _, err := r.Next(testCtx(t)); !errors.Is(err, ErrStore) {
		t.Errorf("the receiver ended with: %v", err)
	}
	free()
	for i, name := range []string{"accounts", "letters"} {
		var again *Journal
		eventually(t, "a new epoch of "+name, func() (ok bool) {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			var err error
			again, err = s.OpenJournal(ctx, JournalConfig{Connection: name, Epoch: testEpoch + 7, MaxBytes: 1 << 30})
			return err == nil
		})
		t.Cleanup(func() { again.Close(canceled()) })
		goRun(t, again.Run)
		put(t, again, 1, 50*(i+1), 1000)
		must(t, again.Sync(testCtx(t)))
	}
}

// TestPlantedNoGuardIsSeen: without the guard a journal meets the full disk itself.
func TestPlantedNoGuardIsSeen(t *testing.T) {
	dir := smallDisk(t, "64m")
	s := startServer(t, ServerConfig{StoreDir: dir})
	s.cfg.MinFree = -1 << 40
	j := openJournal(t, s, JournalConfig{MaxBytes: 1 << 30})
	goRun(t, j.Run)
	fill(t, dir, 4<<20)
	for n := 1; j.Err() == nil && n < 2000; n++ {
		_, _ = j.Put(write(n, 100_000))
	}
	<-j.Failed()
	if _, left, err := diskSpace(dir); err != nil || left > 1<<20 {
		t.Fatalf("%d bytes are left on the disk, %v: the other tests prove nothing", left, err)
	}
}

// TestGuardLooksOftenNearTheEnd: far from the end of the disk the guard looks once a
// second, which an idle daemon does not feel; where a fast disk could fill what is left
// meanwhile, ten times.
func TestGuardLooksOftenNearTheEnd(t *testing.T) {
	const fastest = 14 << 30 // bytes a second: PCIe 5, four lanes
	for _, room := range []int64{0, guardClose, guardNear, guardFarRoom, guardFarRoom + 1, 1 << 40} {
		next := nextGuard(room)
		if takes := int64(float64(fastest) * next.Seconds()); next > guardEvery && takes > room {
			t.Errorf("with room for %d bytes the guard looks again after %v", room, next)
		}
		if room > guardFarRoom && next != guardFar {
			t.Errorf("with room for %d bytes the guard looks again after %v already", room, next)
		}
	}
}
