package topology

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"understudy/control"
)

// TestChainStory (B2.21): alpha replicates to beta, and beta sends its replica on to
// gamma. What beta's applier writes reaches gamma (B2.23), in the order it was written on
// alpha: gamma is stopped again and again, and is each time a moment of alpha, while beta
// is restarted and killed, and gamma is killed. In the end all three are equal. Beta's
// replica cannot be mounted over, and nothing is received beneath a mount: a daemon would
// wait for itself.
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
	if c := bc.view(); !c.OrderKept || c.Capture != "forward" {
		t.Errorf("the second leg is captured by %s, order kept: %v", c.Capture, c.OrderKept)
	}
	must(t, os.Mkdir(filepath.Join(dir, "load"), 0o755))
	stop, written := load(t, filepath.Join(dir, "load"), 21, 50), sequence(t, dir)
	beta.usable(1)
	gamma.usable(1)
	gamma.moments("at first", 8)
	beta.Restart()
	gamma.moments("after a restart of beta", 4)
	beta.Kill()
	beta.Start()
	gamma.moments("after beta was killed", 4)
	gamma.Kill()
	gamma.Start()
	gamma.moments("after gamma was killed", 4)
	bc.view()
	waitFor(t, "changes to arrive at beta again", func() bool { return ab.view().TargetState == "OK" })
	stop()
	written()
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
	err := h.Try("mount", control.DirRequest{Dir: dir}, nil)
	if !errors.As(err, &ce) || ce.Code != control.Refused || !contains(ce.Msg+ce.Hint, why) {
		t.Errorf("mount %s: %v; want it refused, with %q", dir, err, why)
	}
}

// sequenceFiles are written one after another, with the same number.
var sequenceFiles = []string{"seq-a", "seq-b", "seq-c", "seq-d"}

// sequence writes one number after another to several files, and last replaces one by a
// rename, until the returned function ends it.
func sequence(t *testing.T, dir string) (stop func()) {
	t.Helper()
	at := filepath.Join(dir, "sequence")
	must(t, os.Mkdir(at, 0o755))
	end, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 1; ; i++ {
			select {
			case <-end:
				done <- nil
				return
			case <-time.After(40 * time.Millisecond):
			}
			if err := step(at, fmt.Sprintf("%08d", i)); err != nil {
				done <- err
				return
			}
		}
	}()
	return func() {
		t.Helper()
		close(end)
		must(t, <-done)
	}
}

func step(at, number string) error {
	for _, name := range sequenceFiles {
		f, err := os.OpenFile(filepath.Join(at, name), os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte(number), 0)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	fresh := filepath.Join(at, "fresh")
	if err := os.WriteFile(fresh, []byte(number), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(at, "seq-e"))
}

// moments stops the replica of this machine so often when it says that it is usable, and
// looks whether it is a moment of the sequence.
func (h *host) moments(when string, count int) {
	h.T.Helper()
	var r control.Replica
	state := func() string {
		if all := h.Status().Replicas; len(all) == 1 {
			r = all[0]
			return r.State
		}
		return ""
	}
	for applied := uint64(0); count > 0; {
		waitFor(h.T, "a moment "+when, func() bool { return state() == "OK" && r.Usable && r.AppliedOp != applied })
		h.Ask("target", control.PauseRequest{Pause: true}, nil)
		waitFor(h.T, "the replica to pause "+when, func() bool { return state() == "Paused" })
		if r.Usable {
			applied, count = r.AppliedOp, count-1
			h.moment(when)
		}
		h.Ask("target", control.PauseRequest{}, nil)
	}
}

// moment fails unless the numbers of the sequence are those of one moment.
func (h *host) moment(when string) {
	h.T.Helper()
	var seen []int
	for _, name := range append(append([]string(nil), sequenceFiles...), "seq-e") {
		raw, err := os.ReadFile(h.path("replica", "sequence", name))
		n, numErr := 0, error(nil)
		if err == nil && len(raw) > 0 {
			n, numErr = strconv.Atoi(string(raw))
		}
		if numErr != nil {
			h.T.Fatalf("%s: %s holds %.20q", when, name, raw)
		}
		seen = append(seen, n)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] > seen[i-1] || seen[0]-seen[i] > 1 {
			h.T.Fatalf("%s: the replica on %s is no moment of the source: the sequence is at %v", when, h.name, seen)
		}
	}
}
