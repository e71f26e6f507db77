package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/internal/testpostgres"
)

// TestPauseTargetKeepsTheReplicaStill: while the target is paused its replica does not
// change, what the source writes arrives in its queue all the same, and a copy made
// meanwhile is one moment of a database at work (B2.4, B10.50).
func TestPauseTargetKeepsTheReplicaStill(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	p.mount()
	pg := testpostgres.New(t, filepath.Join(p.dir, "pg"), filepath.Join(p.base, "sock"))
	pg.Init()
	defer pg.Start()()
	defer pg.Load()()
	p.connect()
	counter := 0
	for range scaled(2, 20) {
		waitFor(t, "the mirror's end", func() bool { return p.applier().Position().Usable() })
		must(t, p.target.pauseTarget(t.Context(), "", true))
		r := p.target.Status().Replicas[0]
		if r.State != "Paused" {
			t.Fatalf("paused, and says %s", r.State)
		}
		copied, again := filepath.Join(p.base, "copy"), filepath.Join(p.base, "again")
		copyTree(t, p.replica, copied)
		received := func() uint64 { return uint64(p.con().CapturedOp) - r.AppliedOp }
		waitFor(t, "changes during the pause", func() bool { return received() > 100 })
		waitFor(t, "the target queue to grow", func() bool {
			p.target.examineAll(t.Context())
			return p.target.Status().Replicas[0].QueuedBytes > 100_000
		})
		copyTree(t, p.replica, again)
		same(t, copied, again)
		must(t, p.target.pauseTarget(t.Context(), "", false))
		n := testpostgres.New(t, filepath.Join(copied, "pg"), filepath.Join(p.base, "sock-copy")).Check()
		if n < counter {
			t.Errorf("the counter went back from %d to %d", counter, n)
		}
		counter = n
		must(t, os.RemoveAll(copied))
		must(t, os.RemoveAll(again))
	}
}

// TestPauseTargetOutlivesRestarts: a pause holds until it is resumed: over a restart of
// the target and over a new session of the source. One source can be resumed alone.
func TestPauseTargetOutlivesRestarts(t *testing.T) {
	p := linkedPair(t)
	pause := func(source string, pause bool) error { return p.target.pauseTarget(t.Context(), source, pause) }
	must(t, pause("INDY", true))
	state := func() string {
		if list := p.target.Status().Replicas; len(list) == 1 {
			return list[0].State
		}
		return ""
	}
	arrived := func(name string) bool { _, err := os.Stat(filepath.Join(p.replica, name)); return err == nil }
	p.put("a", "1")
	p.restartTarget()
	waitFor(t, "the pause after the restart", func() bool { return state() == "Paused" })
	p.restartSource(func() { p.put("b", "2") })
	waitFor(t, "the new session", func() bool { return p.con().Epoch != "" && p.con().TargetState == "Paused" })
	if arrived("a") || arrived("b") || state() != "Paused" {
		t.Fatalf("applied while paused; state %s", state())
	}
	if ce := new(control.Error); !errors.As(pause("oslo", true), &ce) || ce.Code != control.NotFound {
		t.Error("a source that is none could be paused")
	}
	must(t, pause("indy", false))
	p.settle()
	p.same()
	must(t, pause("", true))
	must(t, pause("indy", false))
	p.put("c", "3")
	p.settle()
	p.same()
}

// TestPausedTargetsChange: pausing all and resuming one leaves the others paused.
func TestPausedTargetsChange(t *testing.T) {
	present := []string{"a", "b", "c"}
	steps := []struct {
		source string
		pause  bool
		want   string
	}{{"a", true, "[true false false]"}, {"A", true, "[true false false]"}, {"", true, "[true true true]"}, {"b", false, "[true false true]"},
		{"c", false, "[true false false]"}, {"b", true, "[true true false]"}, {"", false, "[false false false]"}}
	var p pausedTargets
	for _, s := range steps {
		p = p.change(s.source, s.pause, present)
		if got := fmt.Sprint([]bool{p.holds("a"), p.holds("b"), p.holds("c")}); got != s.want {
			t.Fatalf("after %+v: %s", s, got)
		}
	}
}
