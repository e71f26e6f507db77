package node

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/applier"
	"understudy/control"
	"understudy/fileop"
	"understudy/internal/exercise"
	"understudy/internal/sametree"
)

// chain is a pair whose replica is sent on to a third node, in write order.
type chain struct {
	*pair
	last    *Node
	onward  int
	offsite string
	tap     *tap
	shift   fileop.Seq // the first source's number of an operation minus that of the second leg
	epoch   fileop.Epoch
}

func newChain(t *testing.T) *chain {
	t.Helper()
	needRoot(t)
	c := &chain{pair: newPair(t, true), tap: newTap()}
	c.offsite = filepath.Join(c.base, "offsite")
	c.last = c.start("kiwi")
	n := len(c.stops) - 1
	c.stops = append([]func(){c.stops[n]}, c.stops[:n]...) // it is stopped last
	c.mount()
	c.target.wrapFeed = c.tap.wrap
	c.connect()
	c.sendOn()
	return c
}

func (c *chain) sendOn() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	id, err := c.target.Connect(ctx, control.ConnectRequest{Set: "onward", Rules: []string{c.replica + " inc, rec"}, Target: "kiwi", Address: c.last.Addr(),
		Map: map[string]string{c.replica: c.offsite}})
	must(c.t, err)
	c.onward = id
}

func (c *chain) lastApplier() *applier.Applier {
	c.t.Helper()
	c.last.mu.Lock()
	defer c.last.mu.Unlock()
	for _, r := range c.last.replicas {
		return r.app
	}
	c.t.Fatal("no replica on the last machine")
	return nil
}

// settleBoth waits until all three are equal, and notes how their numbers belong together.
func (c *chain) settleBoth() {
	c.t.Helper()
	c.settle()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := c.target.Settle(ctx, c.onward); err != nil {
		c.t.Fatalf("settle the second leg: %v\n%s", err, c.where())
	}
	con, err := c.target.connection(c.onward)
	must(c.t, err)
	s := con.current()
	c.epoch = s.epoch
	if f := s.captures[0].forward; f != nil {
		must(c.t, f.reader.Hold(ctx, func() error {
			pos, _, _, err := f.reader.State()
			last, _ := s.journal.Last()
			c.shift = pos.Applied - last
			return err
		}))
	}
	same(c.t, c.replica, c.offsite)
}

// TestChainPrefixTruth (G82): the last machine of a chain is frozen at random operations
// while the first is written; each time its replica equals a model that executed exactly
// the first machine's operations up to there.
func TestChainPrefixTruth(t *testing.T) {
	c := newChain(t)
	c.settleBoth()
	if v := c.target.Status().Connections[0]; v.Capture != "forward" || !v.OrderKept {
		t.Fatalf("the second leg is captured by %s, order kept: %v", v.Capture, v.OrderKept)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	points := 0
	for i := range scaled(30, 1000) {
		job := exercise.Job{Kind: "stress", Dir: c.dir, Seed: int64(i), Workers: 2, Ops: 300}
		if c.frozen(rng, job) {
			points++
		} else { // the session began anew
			c.settleBoth()
		}
		if i%10 == 9 {
			c.settleBoth()
		}
	}
	c.settleBoth()
	c.same()
	if points < scaled(25, 900) {
		t.Errorf("only %d points were compared", points)
	}
	if n := c.target.Status().Connections[0].Mirrors; n > 3 {
		t.Errorf("%d mirrors on the second leg", n)
	}
}

// frozen runs a job, freezes the last machine meanwhile, and compares it with the model.
func (c *chain) frozen(rng *rand.Rand, j exercise.Job) bool {
	t := c.t
	t.Helper()
	a := c.lastApplier()
	a.StopAfter(a.Position().Applied + 1 + fileop.Seq(rng.IntN(200)))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- a.WaitStopped(ctx) }()
	do(j, t, true)
	select {
	case err := <-stopped:
		must(t, err)
	default:
		must(t, a.Pause(ctx))
	}
	defer a.Resume()
	pos := a.Position()
	if pos.Epoch != c.epoch || !pos.Usable() || c.lastApplier() != a {
		return false
	}
	at := pos.Applied + c.shift
	c.tap.runTo(t, at)
	got, err := sametree.Snapshot(c.offsite)
	must(t, err)
	if diffs := sametree.DiffTrees(c.tap.model.Snapshot(), got, sametree.Options{}); len(diffs) > 0 {
		t.Fatalf("after operation %d of the first machine the last one differs in %d places:\n%s", at, len(diffs), strings.Join(first(diffs, 20), "\n"))
	}
	return true
}

// TestForwardFollowsTheReplica: a mirror of the first leg leaves the last machine where it
// is until the replica is whole again; without its source, the replica is captured by its
// changes, like any other directory.
func TestForwardFollowsTheReplica(t *testing.T) {
	c := newChain(t)
	do(exercise.Job{Kind: "stress", Dir: c.dir, Seed: 3, Workers: 2, Ops: 500}, t, true)
	c.settleBoth()
	before := c.epoch
	must(t, c.source.Mirror(context.Background(), control.MirrorRequest{ID: c.id, Action: "start", Mode: "diff"}))
	do(exercise.Job{Kind: "stress", Dir: c.dir, Seed: 4, Workers: 2, Ops: 500}, t, true)
	c.settleBoth()
	if before != c.epoch {
		t.Errorf("a difference mirror of the first leg ended the session of the second")
	}
	must(t, c.source.Disconnect(context.Background(), c.id))
	waitFor(t, "another capture", func() bool {
		v := c.target.Status().Connections
		return len(v) == 1 && v[0].Capture == "fanotify"
	})
	must(t, os.WriteFile(filepath.Join(c.replica, "by hand"), []byte("on the middle machine"), 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	must(t, c.target.Settle(ctx, c.onward))
	same(t, c.replica, c.offsite)
	must(t, os.Remove(filepath.Join(c.replica, "by hand")))
	c.id, _ = c.source.Connect(ctx, control.ConnectRequest{Set: "tree", Rules: []string{c.dir + " inc, rec"}, Target: "jersey", Address: c.target.Addr(),
		Map: map[string]string{c.dir: c.replica}, Capture: "stacked", Adopt: true})
	waitFor(t, "forwarding again", func() bool {
		v := c.target.Status().Connections
		return len(v) == 1 && v[0].Capture == "forward" && v[0].Mirror == "Idle"
	})
	do(exercise.Job{Kind: "stress", Dir: c.dir, Seed: 5, Workers: 2, Ops: 300}, t, true)
	c.settleBoth()
}
