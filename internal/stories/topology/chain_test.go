package topology

import (
	"os"
	"path/filepath"
	"testing"
)

// TestChainStory (B2.21): alpha replicates to beta, and beta sends its replica on to
// gamma. What beta's applier writes reaches gamma (B2.23); beta is restarted and killed
// under load, and all three converge.
func TestChainStory(t *testing.T) {
	s := newSegment(t, "alpha", "beta", "gamma")
	s.start()
	alpha, beta, gamma := s.hosts[0], s.hosts[1], s.hosts[2]
	dir := alpha.tree("data")
	alpha.mount(dir)
	ab := alpha.connect("data", dir, beta, beta.path("replica"))
	bc := beta.connect("onward", beta.path("replica"), gamma, gamma.path("replica"))
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
