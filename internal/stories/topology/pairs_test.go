package topology

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
)

// TestOneToOneStory (B2.1): one machine works, the other stands by. The line is cut under
// load and mended; nothing is lost, and the session goes on.
func TestOneToOneStory(t *testing.T) {
	s := newSegment(t, "alpha", "beta")
	s.start()
	alpha, beta := s.hosts[0], s.hosts[1]
	dir := alpha.tree("data")
	alpha.mount(dir)
	j := alpha.connect("data", dir, beta, beta.path("replica"))
	stop := load(t, dir, 1, 500)
	beta.usable(1)
	before := j.view()
	s.bridge.Cut(1)
	waitFor(t, "the source to notice", func() bool { return j.view().TargetState == "Unreachable" })
	s.bridge.Mend(1)
	waitFor(t, "changes to arrive again", func() bool { c := j.view(); return c.TargetState == "OK" && c.AppliedOp > before.CapturedOp })
	stop()
	j.settled("after the cut")
	if now := j.view(); now.Epoch != before.Epoch || !now.OrderKept {
		t.Errorf("epoch %s was %s, order kept: %v: %s", now.Epoch, before.Epoch, now.OrderKept, now.LastError)
	}
}

// TestActiveActiveStory (B2.5): each machine is source and target at once. Both are under
// load; one is killed in the middle and comes back. A target path inside what the other
// direction protects is refused, with the reason (B2.6, B2.9).
func TestActiveActiveStory(t *testing.T) {
	s := newSegment(t, "alpha", "beta")
	s.start()
	alpha, beta := s.hosts[0], s.hosts[1]
	da, db := alpha.tree("own"), beta.tree("own")
	alpha.mount(da)
	beta.mount(db)
	ab := alpha.connect("a", da, beta, beta.path("of-alpha"))
	refused(t, "a replica inside what goes back", beta, beta.request("loop", beta.path("of-alpha"), alpha, filepath.Join(da, "sub")),
		control.Refused, "circles")
	ba := beta.connect("b", db, alpha, alpha.path("of-beta"))
	stopA, stopB := load(t, da, 2, 300), load(t, db, 3, 300)
	alpha.usable(1)
	beta.usable(1)
	stopB()
	ba.settled("before the kill")
	beta.Kill()
	beta.Start()
	stopB = load(t, db, 4, 300)
	waitFor(t, "beta's replica to go on", func() bool { return ab.view().TargetState == "OK" })
	stopA()
	stopB()
	ab.settled("one direction")
	ba.settled("the other direction")
}

// TestSingleMachineStory (B2.26): one machine replicates from one of its disks to another.
func TestSingleMachineStory(t *testing.T) {
	s := newSegment(t, "alpha")
	s.start()
	alpha := s.hosts[0]
	dir := alpha.tree("disk/data")
	alpha.mount(dir)
	for _, c := range []struct{ name, place, why string }{
		{"one-to-one mapping", dir, "one-to-one mapping needs a second machine"},
		{"a target path inside the set", filepath.Join(dir, "replica"), "lies inside"},
		{"a target path around the set", alpha.path("disk"), "contains"},
	} {
		refused(t, c.name, alpha, alpha.request("data", dir, alpha, c.place), control.Refused, c.why)
	}
	j := alpha.connect("data", dir, alpha, alpha.path("replica"))
	stop := load(t, dir, 5, 300)
	alpha.usable(1)
	stop()
	j.settled("on one machine")
	alpha.Restart()
	must(t, os.WriteFile(filepath.Join(dir, "later"), []byte("after a restart"), 0o644))
	j.settled("after a restart")
}

// refused expects a connect request to fail with a code, and words that say why.
func refused(t *testing.T, what string, h *host, req control.ConnectRequest, code control.Code, why string) {
	t.Helper()
	var ce *control.Error
	err := h.Try("connect", req, nil)
	switch {
	case !errors.As(err, &ce):
		t.Errorf("%s: %v", what, err)
	case ce.Code != code || !contains(ce.Msg+" "+ce.Hint, why):
		t.Errorf("%s: %s %q, hint %q; want %s and %q", what, ce.Code, ce.Msg, ce.Hint, code, why)
	}
}
