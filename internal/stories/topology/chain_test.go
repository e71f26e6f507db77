package topology

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
)

// TestChainStory (B2.21): alpha replicates to beta, and beta sends its replica on to
// gamma. What beta's applier writes reaches gamma (B2.23); beta is restarted and killed
// under load, and all three converge. Beta's replica cannot be mounted over, and nothing
// is received beneath a mount: a daemon would wait for itself.
func TestChainStory(t *testing.T) {
	s := newSegment(t, "alpha", "beta", "gamma")
	s.start()
	alpha, beta, gamma := s.hosts[0], s.hosts[1], s.hosts[2]
	dir := alpha.tree("data")
	alpha.mount(dir)
	ab := alpha.connect("data", dir, beta, beta.path("replica"))
	notMounted(t, beta, beta.path("replica"), "writes the replica of alpha")
	bc := beta.connect("onward", beta.path("replica"), gamma, gamma.path("replica"))
	notMounted(t, beta, beta.dir, "lies inside") // its data directory is there, too
	refused(t, "a circle", beta, beta.request("back", beta.path("replica"), alpha, filepath.Join(dir, "sub")), control.Refused, "circles")
	refused(t, "a replica beneath a mount", gamma, gamma.request("x", gamma.tree("y"), alpha, filepath.Join(dir, "sub")), control.Refused, "captured in write order")
	if c := bc.view(); c.OrderKept || c.Capture != "fanotify" {
		t.Errorf("the second leg is captured by %s, order kept: %v", c.Capture, c.OrderKept)
	}
	stop := load(t, dir, 21, 200)
	beta.usable(1)
	gamma.usable(1)
	beta.restart()
	bc.view()
	beta.kill()
	beta.start()
	bc.view()
	waitFor(t, "changes to arrive at beta again", func() bool { return ab.view().TargetState == "OK" })
	stop()
	ab.settled("first leg")
	bc.settled("second leg")
	must(t, os.WriteFile(filepath.Join(dir, "last"), []byte("all the way"), 0o644))
	ab.settled("first leg, at the end")
	bc.settled("second leg, at the end")
	equal(t, "from end to end", dir, gamma.path("replica"))
}

// notMounted expects a mount to be refused, with words that say why.
func notMounted(t *testing.T, h *host, dir, why string) {
	t.Helper()
	var ce *control.Error
	err := h.ask("mount", control.DirRequest{Dir: dir}, nil)
	if !errors.As(err, &ce) || ce.Code != control.Refused || !contains(ce.Msg+ce.Hint, why) {
		t.Errorf("mount %s: %v; want it refused, with %q", dir, err, why)
	}
}
