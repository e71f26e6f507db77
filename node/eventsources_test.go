package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/applier"
	"understudy/event"
	"understudy/fileop"
	"understudy/stream"
)

// What raises the events that TestEachFaultIsSeenAndClears has no fault for.

// quietAgain waits until no alert of either machine is left.
func (r *rig) quietAgain() {
	r.t.Helper()
	for _, m := range []*machine{r.source, r.target} {
		waitFor(r.t, m.cfg.Name+" to be without alerts", func() bool { return len(m.status().Alerts) == 0 })
	}
}

// brokenFeed fails once, as a queue does whose next frame is damaged.
type brokenFeed struct {
	applier.Feed
	fail *atomic.Bool
}

func (f brokenFeed) Next(ctx context.Context) (fileop.Frame, uint64, error) {
	fr, i, err := f.Feed.Next(ctx)
	if err == nil && f.fail.CompareAndSwap(true, false) {
		err = fmt.Errorf("receive: %w", stream.ErrBroken)
	}
	return fr, i, err
}

// TestDamagedQueueIsSeen: a damaged queue, on the target or on the source, is told on the
// machine that has it, the connection is given up and begins anew by itself.
func TestDamagedQueueIsSeen(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	fail := new(atomic.Bool)
	p.target.wrapFeed = func(_ *joinInfo, f applier.Feed) applier.Feed { return brokenFeed{f, fail} }
	p.mount()
	p.connect()
	p.settle()
	told := func(n *Node, id event.ID) bool {
		rows, _, err := n.events.List(0, 100_000)
		must(t, err)
		return slices.ContainsFunc(rows, func(e event.Event) bool { return e.ID == id })
	}
	fail.Store(true)
	put(t, filepath.Join(p.dir, "one"), "1")
	waitFor(t, "the target to tell of a damaged queue", func() bool { return told(p.target, event.QueueDamaged) })
	waitFor(t, "the source to reconnect", func() bool { return told(p.source, event.AutoDisconnect) && told(p.source, event.Reconnecting) })
	p.settle()
	if told(p.source, event.QueueDamaged) {
		t.Error("the source tells of its queue, which is whole")
	}
	s, err := p.source.live(p.id)
	must(t, err)
	s.cancel(fmt.Errorf("%w: %w", errAutoDisc, stream.ErrBroken))
	waitFor(t, "the source to tell of a damaged queue", func() bool { return told(p.source, event.QueueDamaged) })
	put(t, filepath.Join(p.dir, "two"), "2")
	waitFor(t, "another session", func() bool { now, err := p.source.live(p.id); return err == nil && now != s })
	p.settle()
	p.same()
	for _, n := range []*Node{p.source, p.target} {
		waitFor(t, n.Name()+" to be without alerts", func() bool { return len(n.alertsOf(nil)) == 0 })
	}
}

// holderPID is the process that holds what the source must not lose.
func (r *rig) holderPID() (pid int) {
	r.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(r.t, err)
	for _, path := range lines {
		raw, _ := os.ReadFile(path) // it may have ended
		args := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
		if len(args) > 2 && args[1] == "holder" && slices.Contains(args, r.source.cfg.Data) {
			pid, err = strconv.Atoi(strings.Split(path, "/")[2])
			must(r.t, err)
			return pid
		}
	}
	r.t.Fatal("no holder runs")
	return 0
}

// TestLostHolderIsSeen: a holder that dies is an alert until another has taken its place,
// and a session that a new daemon resumed is told.
func TestLostHolderIsSeen(t *testing.T) {
	t.Parallel()
	r := heldRig(t)
	defer r.end()
	since := r.source.lastEvent()
	must(t, unix.Kill(r.holderPID(), unix.SIGKILL))
	waitFor(t, "the holder's end and another to be told", func() bool {
		return r.source.seen(event.HolderLost, since) && r.source.seen(event.HolderBack, since)
	})
	r.quietAgain()
	since = r.source.lastEvent()
	r.source.kill()
	r.source.start()
	waitFor(t, "the resumed session to be told", func() bool { return r.source.seen(event.DaemonResumed, since) })
	r.settled("after the daemon resumed")
	r.quietAgain()
}
