package stream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// lostParts are what power cuts take of a target queue: names of its files, and what
// becomes of them. xfs keeps files that were renamed without a sync, and not their content.
var lostParts = []struct {
	what  string
	files func(path string) bool
	gone  bool // else they are empty
}{
	{"the checksum of the description is empty", func(p string) bool { return filepath.Base(p) == server.JetStreamMetaFileSum }, false},
	{"the description is empty", func(p string) bool { return filepath.Base(p) == server.JetStreamMetaFile }, false},
	{"blocks are empty", func(p string) bool { return filepath.Ext(p) == ".blk" }, false},
	{"blocks and index are empty", func(p string) bool { return filepath.Base(filepath.Dir(p)) == "msgs" }, false},
	{"everything is gone", func(string) bool { return true }, true},
}

// TestTargetQueueGoesOnBehindWhatIsApplied: the stopped target's queue loses everything,
// also what was applied. It goes on in the same epoch behind that: what the source still
// has comes again, exactly once and in order, and also after another restart.
func TestTargetQueueGoesOnBehindWhatIsApplied(t *testing.T) {
	d := startDamaged(t)
	for i, lost := range lostParts {
		for _, again := range []bool{false, true} {
			epoch := d.epoch
			d.more(40)
			d.settle()
			d.mu.Lock()
			d.hold = make(chan struct{}) // nothing is applied until the next open
			d.mu.Unlock()
			d.more(100 + i)
			must(t, d.j.Sync(testCtx(t)))
			d.closeEpoch(false)
			d.stopServers()
			loseOfTarget(t, d.dir("beta"), lost.files, lost.gone)
			d.startServers()
			must(t, d.open())
			if again { // before anything came
				d.closeEpoch(false)
				d.stopServers()
				d.startServers()
				must(t, d.open())
			}
			d.more(20)
			if d.settle() || d.epoch != epoch {
				t.Fatalf("%s, again %v: a new epoch was needed", lost.what, again)
			}
		}
	}
}

// loseOfTarget empties or deletes files of the target queues in a store.
func loseOfTarget(t *testing.T, store string, which func(path string) bool, gone bool) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(store, "nats/jetstream/$G/streams/T=*"))
	must(t, err)
	n := 0
	for _, dir := range dirs {
		must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() || !which(path) || strings.Contains(path, "/obs/") {
				return err
			}
			n++
			if gone {
				return os.Remove(path)
			}
			return os.Truncate(path, 0)
		}))
	}
	if n == 0 {
		t.Fatalf("nothing to lose in %v", dirs)
	}
}
