package node

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/internal/failpoint"
	"understudy/internal/powercut"
	"understudy/internal/testfuse"
	"understudy/stream"
)

// inPlaceTime is the date that files of these tests always have.
var inPlaceTime = time.Unix(1_000_000_000, 0)

const inPlaceSize = 4 << 10

// rewrite changes a file's content, not in place, and gives it its size and date again.
func rewrite(t testing.TB, path string, b byte) {
	t.Helper()
	must(t, os.WriteFile(path, bytes.Repeat([]byte{b}, inPlaceSize), 0o644))
	must(t, os.Chtimes(path, inPlaceTime, inPlaceTime))
}

// writeInPlace changes content as a database does: with fdatasync, or with the date put
// back and nothing synced.
func writeInPlace(t testing.TB, path string, b byte, datasync bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{b}, inPlaceSize), 0)
	must(t, err)
	if datasync {
		must(t, unix.Fdatasync(int(f.Fd())))
	} else {
		must(t, os.Chtimes(path, inPlaceTime, inPlaceTime))
	}
	must(t, f.Close())
}

func holds(path string, b byte) bool {
	got, err := os.ReadFile(path)
	return err == nil && bytes.Equal(got, bytes.Repeat([]byte{b}, inPlaceSize))
}

// inPlaceRig is a pair with one file of content a that both disks hold for sure.
func inPlaceRig(t *testing.T, plant failpoint.Plant) (c *cutRig, path, copied string) {
	t.Helper()
	c = newCutRig(t, "ext4", "indy", nil, nil, failpoint.Env+"="+string(plant))
	path, copied = filepath.Join(c.dir, "file"), filepath.Join(c.replica, "file")
	rewrite(t, path, 'a')
	c.settled("before")
	c.marked()
	time.Sleep(3 * 200 * time.Millisecond) // cleanSlack of the daemons: the file is older than what a mark doubts
	must(t, os.WriteFile(filepath.Join(c.dir, "later"), nil, 0o644))
	c.settled("before")
	c.marked()
	return c, path, copied
}

// expect wants the pair equal, or different where a planted fault makes it so.
func (c *cutRig) expect(plant failpoint.Plant) {
	c.t.Helper()
	diffs, err := c.differences()
	must(c.t, err)
	if plant == "" && (len(diffs) > 0 || !c.limited()) {
		c.t.Fatalf("limited %v, differences %v\n%s", c.limited(), diffs, c.source.d.Log())
	}
	if plant != "" && len(diffs) == 0 {
		c.t.Fatalf("the fault %s was not noticed\n%s", plant, c.source.d.Log())
	}
}

// TestPowerCutTakesBackWhatTheTargetHas: the target applied a change of content that the
// source's disk lost, most times, and which neither size nor date shows. It is taken back.
func TestPowerCutTakesBackWhatTheTargetHas(t *testing.T) {
	t.Parallel()
	c, path, copied := inPlaceRig(t, "")
	for range 5 { // a sync may come between, and then it is not lost
		rewrite(t, path, 'b')
		waitFor(t, "the change on the target", func() bool { return holds(copied, 'b') })
		left := c.snapshot()
		c.source.kill()
		c.sourceWakesUp(left)
		lost := holds(path, 'a')
		c.expect("")
		if lost {
			return
		}
		rewrite(t, path, 'a')
		c.settled("again")
		c.marked()
	}
	c.expect("")
}

// TestPowerCutShowsWhatWasWrittenInPlace: a database's kind of write, in place and made
// durable with fdatasync, is on the source's disk although the inode's times are not;
// the target never got it.
func TestPowerCutShowsWhatWasWrittenInPlace(t *testing.T) {
	t.Parallel()
	for _, plant := range []failpoint.Plant{"", failpoint.PlantNoFlight, failpoint.PlantNoMark} {
		t.Run("fault "+string(plant), func(t *testing.T) {
			t.Parallel()
			c, path, _ := inPlaceRig(t, plant)
			c.target.closeControl()
			c.target.d.Stop()
			writeInPlace(t, path, 'b', true)
			left := c.snapshot()
			c.source.kill()
			c.target.start()
			c.sourceWakesUp(left)
			if !holds(path, 'b') {
				t.Fatal("fdatasync did not make the content durable")
			}
			c.expect(plant)
		})
	}
}

// TestCleanMarkWaitsForDisks: what the clean mark says is on the source's disk.
func TestCleanMarkWaitsForDisks(t *testing.T) {
	t.Parallel()
	c, path, _ := inPlaceRig(t, "")
	writeInPlace(t, path, 'b', false)
	c.settled("before the cut")
	for range 6 {
		must(t, os.WriteFile(filepath.Join(c.dir, "later"), []byte("x"), 0o644))
		c.settled("before the cut")
		c.marked()
		time.Sleep(300 * time.Millisecond) // the mark's slack
	}
	left := c.snapshot()
	c.source.kill()
	c.sourceWakesUp(left)
	c.expect("")
}

// TestStrictModeKeepsWhatFsyncPromised: in strict mode, once an application's fsync has
// returned, a power cut of the source leaves every operation before it in the queue on
// its disk. Without strict mode, and with the waiting left out, it does not.
func TestStrictModeKeepsWhatFsyncPromised(t *testing.T) {
	t.Parallel()
	for name, strict := range map[string]bool{"strict": true, "not strict": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCutRig(t, "ext4", "indy", nil, func(cfg *Config) { cfg.Strict = strict })
			c.settled("before")
			f, err := os.OpenFile(filepath.Join(c.dir, "file"), os.O_RDWR|os.O_CREATE, 0o644)
			must(t, err)
			var left []powercut.Image
			var want []uint64
			for range 12 {
				_, err := f.Write(bytes.Repeat([]byte("x"), 8000))
				must(t, err)
				must(t, f.Sync())
				left = append(left, c.snapshot())
				want = append(want, c.connection().CapturedOp)
			}
			must(t, f.Close())
			c.source.kill()
			testfuse.End(c.dir)
			lost := 0
			for i := range left {
				c.disk.Cut(left[i])
				if queuedOnDisk(t, c.source.cfg.Data) < want[i] {
					lost++
				}
			}
			t.Logf("%d of %d cuts lost operations before an fsync", lost, len(left))
			if strict && lost > 0 || !strict && lost == 0 {
				t.Errorf("%d of %d cuts lost operations before an fsync", lost, len(left))
			}
		})
	}
}

// queuedOnDisk is the last operation in the source queue of a stopped node.
func queuedOnDisk(t *testing.T, data string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	srv, err := stream.Start(stream.ServerConfig{Name: "indy", StoreDir: filepath.Join(data, "queue")}, slog.New(slog.DiscardHandler))
	must(t, err)
	defer func() { must(t, srv.Close(ctx)) }()
	stored, err := srv.Stored(ctx)
	must(t, err)
	for _, st := range stored {
		if st.Target {
			continue
		}
		j, err := srv.OpenJournal(ctx, stream.JournalConfig{Connection: st.Connection, Epoch: st.Epoch})
		if err != nil {
			return 0
		}
		pos, err := j.Position(ctx)
		must(t, err)
		must(t, j.Close(ctx))
		return uint64(pos.Seq)
	}
	return 0
}
