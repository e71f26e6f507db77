package topology

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
)

// TestOneToManyStory (B2.15, B2.19): one source, four targets. One is behind a slow line
// and one is paused; more is written than either's queues hold. The other two follow all
// the while, the application waits for nobody, the queues stay within their limits; and
// what was held up converges once it can.
func TestOneToManyStory(t *testing.T) {
	const limit = 32 << 20 // bytes of each queue, the least there is
	s := newSegment(t, "source", "near", "far", "paused", "other")
	for _, h := range s.hosts {
		h.Cfg.QueueLimit, h.Cfg.MemoryLimit = limit, limit
	}
	s.start()
	source, paused := s.hosts[0], s.hosts[3]
	dir := source.tree("data")
	source.mount(dir)
	to := map[string]*joined{}
	for _, h := range s.hosts[1:] {
		j := source.connect("data", dir, h, h.path("replica"))
		to[h.name] = j
	}
	for _, h := range s.hosts[1:] {
		h.usable(1)
	}
	must(t, os.WriteFile(filepath.Join(dir, "first"), []byte("before"), 0o644))
	to["paused"].settled("before the pause")
	paused.Ask("target", control.PauseRequest{Pause: true}, nil)
	s.bridge.Slow(2, 4000)
	var slowest time.Duration
	for i := range 36 { // 72 MiB: queue of the source and of the target together hold 64
		began := time.Now()
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), bytes.Repeat([]byte{byte(i)}, 2<<20), 0o644))
		slowest = max(slowest, time.Since(began))
		for name, j := range to {
			if c := viewOf(source, j.target); c.QueuedBytes > limit+limit {
				t.Fatalf("%d bytes queued for %s, limit %d on disk and as much in memory", c.QueuedBytes, name, limit)
			}
		}
	}
	t.Logf("slowest write of 2 MiB: %v", slowest)
	began := time.Now()
	to["near"].settled("beside a slow and a paused target")
	to["other"].settled("beside a slow and a paused target")
	if names, err := os.ReadDir(to["paused"].place); err != nil || len(names) != 1 {
		t.Errorf("the paused replica changed: %d names, %v", len(names), err)
	}
	s.bridge.Slow(2, 0)
	paused.Ask("target", control.PauseRequest{Pause: false}, nil)
	t.Logf("two targets followed after %v", time.Since(began))
	for name, j := range to {
		j.settled(name + ", at the end")
		t.Logf("%s converged after %v", name, time.Since(began))
	}
}

// viewOf is the source's view of what it sends to a target; zero between sessions.
func viewOf(source, target *host) (c control.Connection) {
	for _, c := range source.Status().Connections {
		if c.Target == target.name {
			return c
		}
	}
	return c
}
