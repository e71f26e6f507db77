package node

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// restEvery is how long a node has nothing to do until it gives memory back. A collector
// for which nothing is allocated does not run: after a burst its garbage, up to some
// hundred MiB, stayed resident for minutes. Tests do not wait that long.
var restEvery = 5 * time.Second

const (
	restRate  = 2 << 20  // bytes a second allocated by a node with nothing to do that is asked for its status
	restAgain = 6        // looks after the first at which it tries again: the store lets go of its caches after 10 s
	restWorth = 16 << 20 // bytes more than what was kept the last time that are worth a collection
)

// resting decides when memory goes back to the system. The zero value is ready.
type resting struct {
	allocs uint64 // bytes ever allocated, at the last look
	quiet  int    // looks since there was anything to do
	kept   uint64 // bytes the heap held after memory went back
}

// look reports whether memory is to go back now: in the first quiet interval after work,
// if there is something to give, and once more when caches have expired.
func (r *resting) look(allocs, held uint64) bool {
	busy := allocs-r.allocs > uint64(restRate*restEvery.Seconds())
	r.allocs = allocs
	if busy {
		r.quiet = 0
		return false
	}
	r.quiet++
	return (r.quiet == 1 || r.quiet == restAgain) && held > r.kept+restWorth
}

// softMemory is what the collector keeps the process below where it can: the target of 32
// connections took 1.1 GiB at the most, two thirds of it garbage.
const softMemory = 512 << 20

// limitMemory has the collector run more often near softMemory, and leaves it at least half as
// much as there is live: else it would do little else. An operator's GOMEMLIMIT counts instead.
func limitMemory(ctx context.Context) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	defer debug.SetMemoryLimit(math.MaxInt64)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	atEach(ctx, time.Second, func() {
		metrics.Read(live)
		debug.SetMemoryLimit(max(softMemory, int64(live[0].Value.Uint64()/2*3)))
	})
}

// restMemory gives memory back to the system when the node has nothing to do. The
// collection it takes costs some milliseconds, once after each time of work.
func (n *Node) restMemory(ctx context.Context) {
	var r resting
	r.allocs, _ = heapFigures()
	atEach(ctx, restEvery, func() {
		if r.look(heapFigures()) {
			debug.FreeOSMemory()
			r.allocs, r.kept = heapFigures()
		}
	})
}

// heapFigures are the bytes ever allocated, and those of the heap that are not the
// system's. Asking stops nothing.
func heapFigures() (allocs, held uint64) {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), s[1].Value.Uint64() + s[2].Value.Uint64() + s[3].Value.Uint64()
}
