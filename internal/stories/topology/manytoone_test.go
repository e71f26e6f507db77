package topology

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/testnode"
)

// manySources are as many machines as the original's manual draws, the hostile one
// included.
const manySources = 8

// maxTargetMemory bounds what the target may have resident with eight sources, one of
// which floods it: many times what it was seen to need.
const maxTargetMemory = 1 << 30

// TestManyToOneStory (B2.10): eight sources replicate into one target, and one of them is
// hostile: it is paired, and sends garbage frames, floods its queue, publishes to others'
// subjects and claims others' places. The others' changes arrive whole, the target's
// memory and the hostile queue stay bounded, and nothing is written outside of its place
// (B2.13).
func TestManyToOneStory(t *testing.T) {
	names := []string{"target", "evil"}
	for i := 1; i < manySources; i++ {
		names = append(names, string(rune('a'+i-1))+"-source")
	}
	s := newSegment(t, names...)
	target, evil, honest := s.hosts[0], s.hosts[1], s.hosts[2:]
	target.Cfg.QueueLimit = 64 << 20
	s.start(target)
	s.start(honest...)
	var all []*joined
	for i, h := range honest {
		dir := h.tree("data")
		if i%2 == 0 { // the others are captured without a mount
			h.mount(dir)
		}
		all = append(all, h.connect("data", dir, target, target.path("replicas", h.name)))
	}
	must(t, os.WriteFile(target.path("keep"), []byte("of the target"), 0o644))
	h := hostile{Home: evil.Cfg.Data, Name: evil.name, Target: target.name, Addr: target.addr, Place: target.path("replicas", "evil"),
		Others: []string{honest[0].name, honest[1].name}, Taken: target.path("replicas", honest[0].name), Data: target.Cfg.Data}
	evil.D = testnode.StartIn(t, evil.NS, evil.name, settings{Hostile: &h})
	began := time.Now()
	var stops []func() int
	for i, j := range all {
		stops = append(stops, load(t, j.dir, int64(10+i), 60))
	}
	waitFor(t, "every kind of harm, twice", func() bool {
		return evilClaims(target) > 4 && strings.Count(target.D.Log(), "visitor broke the rules") > 1
	})
	t.Logf("harm done after %v", time.Since(began))
	waitFor(t, "the hostile queue to be given up", func() bool { return strings.Contains(target.D.Log(), "damaged frame") })
	t.Logf("its queue given up after %v", time.Since(began))
	for _, stop := range stops {
		stop()
	}
	for _, j := range all {
		j.settled("beside a hostile source")
	}
	t.Logf("all settled after %v; the target has %d MiB resident and took %v of processor time", time.Since(began), target.D.Memory()>>20, target.D.CPU())
	if m := target.D.Memory(); m > maxTargetMemory {
		t.Errorf("the target has %d MiB resident", m>>20)
	}
	unharmed(t, target, &h)
}

// evilClaims counts the requests of the hostile source that the target refused and told of.
func evilClaims(target *host) (n int) {
	var page control.Events
	target.Ask("events", control.EventsRequest{}, &page)
	for _, e := range page.Events {
		if e.Source == "evil" {
			n += 1 + e.Repeated
		}
	}
	return n
}

// unharmed looks for what only the hostile source can have written.
func unharmed(t *testing.T, target *host, h *hostile) {
	t.Helper()
	if b, err := os.ReadFile(target.path("keep")); err != nil || string(b) != "of the target" {
		t.Errorf("a file beside the replicas: %q, %v", b, err)
	}
	for _, r := range target.Status().Replicas {
		if r.Source == h.Name && (len(r.Paths) != 1 || r.Paths[0] != h.Place) {
			t.Errorf("the hostile source has a replica at %q", r.Paths)
		}
		if r.Source == h.Name && r.QueuedBytes > target.Cfg.QueueLimit {
			t.Errorf("its queue holds %d bytes, limit %d", r.QueuedBytes, target.Cfg.QueueLimit)
		}
	}
	names, err := filepath.Glob(target.path("replicas", "*"))
	must(t, err)
	if len(names) > manySources {
		t.Errorf("replicas: %q", names)
	}
}
