package node

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/event"
	"understudy/internal/exercise"
	"understudy/internal/testfuse"
)

// TestMountTakenAwayIsMadeAgain (G35): somebody unmounts the captured directory lazily,
// or ends its connection, under load and with a file open. The daemon tells, mounts again,
// and a new epoch in write order brings what was changed natively meanwhile.
func TestMountTakenAwayIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := protectedRig(t)
	r.settled("before")
	for i, take := range []func(){
		func() { must(t, unix.Unmount(r.dir, unix.MNT_DETACH)) },
		func() { must(t, testfuse.Abort(r.dir)) },
		func() { must(t, unix.Unmount(r.dir, unix.MNT_DETACH)) },
	} {
		before, since := r.connection(), r.source.lastEvent()
		stop := r.load(mixedLoad(i), true)
		hold, err := os.Create(filepath.Join(r.dir, "held"))
		must(t, err)
		take()
		stop()
		if i != 1 { // else the path gives errors until the mount is made again
			do(exercise.Job{Kind: "stress", Dir: r.dir, Seed: int64(i), Workers: 2, Ops: 200}, t, true) // natively, or captured again
		}
		hold.Close()
		waitFor(t, "another epoch", func() bool {
			list := r.source.status().Connections
			return len(list) == 1 && list[0].Epoch != before.Epoch && list[0].Epoch != ""
		})
		r.settled("after its mount was taken away")
		now := r.connection()
		told := i > 0 || r.source.seen(event.CaptureFailed, since) && r.source.seen(event.CaptureRestored, since) // the same again soon is counted
		if !now.OrderKept || !told {
			t.Fatalf("time %d: %+v\n%s", i, now, r.source.d.Log())
		}
		if len(r.source.status().Alerts) > 0 {
			t.Errorf("time %d: alerts %+v stay", i, r.source.status().Alerts)
		}
	}
	r.usable()
}
