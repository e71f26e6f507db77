package applier

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// recoverErrnos are what system calls of a recovery are made to fail with.
var recoverErrnos = []unix.Errno{unix.EIO, unix.ENOSPC, unix.EROFS, unix.EACCES, unix.EMFILE, unix.ENOMEM, unix.EBUSY, unix.ESTALE}

// failRecovery applies ops behind a checkpoint at from, is killed, and recovers with system
// call n failing once. A recovery that ends with an error is made again, as by the next
// start. It reports the tree, and whether a call failed.
func failRecovery(t *testing.T, ops []fileop.Op, from fileop.Seq, no unix.Errno, n int64, again *int) (string, bool) {
	t.Helper()
	dir := memDir(t)
	defer os.RemoveAll(dir)
	cfg := testConfig(t, dir)
	cfg.RetryEvery, cfg.CheckpointEvery = 1, 1e15
	s := newScript(t, 1, 3)
	s.add(ops...)
	s.send()
	r := checkpointAt(t, cfg, s, from)
	r.Resume()
	r.awaitEnd(fileop.Seq(len(ops)))
	r.kill()
	f := &faulty{n: n, err: no}
	cfg.Fault = f.fault
	r, err := openRecovered(deadline(t), t, cfg, s)
	if err != nil {
		*again++
		cfg.Fault = nil
		if r, err = openRecovered(deadline(t), t, cfg, s); err != nil {
			t.Fatalf("call %d (%s) failed with %q: the next start fails too: %v", n, f.step, no, err)
		}
	}
	r.await(fileop.Seq(len(ops)), 0)
	tree := treeText(t, r.dir)
	r.kill()
	return tree, f.hit.Load()
}

// TestEverySystemCallOfARecoveryFails (G7, G11): whichever system call fails while a killed
// target recovers, and while it applies again: it is tried again at once or by the next
// start, and the tree is the same.
func TestEverySystemCallOfARecoveryFails(t *testing.T) {
	runs, again := 0, 0
	for name, ops := range relatives() {
		ops = append([]fileop.Op{{Kind: fileop.Gap}, {Kind: fileop.SetAttr, Obj: rootID, Attr: dirAttr(0o755, 0)}}, ops...)
		from := fileop.Seq(len(ops) / 2)
		want, _ := failRecovery(t, ops, from, 0, 0, &again)
		for i, no := range recoverErrnos {
			for n := int64(1 + i%3); ; n += 3 {
				got, hit := failRecovery(t, ops, from, no, n, &again)
				if !hit {
					break
				}
				runs++
				if got != want {
					t.Fatalf("%s: call %d fails with %q:\n%s\nwant\n%s", name, n, no, got, want)
				}
			}
		}
	}
	t.Logf("%d faults, %d of them left to the next start", runs, again)
}
