package restore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/failpoint"
	"understudy/internal/stories"
)

// restoreSteps are the moments of a restoration at which a machine is killed, by the machine
// that reaches them.
var restoreSteps = map[string][]failpoint.Point{
	"sender": {failpoint.RestoreAgreed, failpoint.RestoreNoted, failpoint.StoreBefore, failpoint.StoreAfter, failpoint.PublishBefore, failpoint.PublishAfter,
		failpoint.AckBefore, failpoint.AckAfter, failpoint.RestoreMirrored, failpoint.RestoreDurable, failpoint.RestoreEnding, failpoint.RestoreEnded},
	"receiver": {failpoint.RestoreJoin, failpoint.RestoreJoined, failpoint.ApplyBefore, failpoint.ApplyAfter, failpoint.MirrorBefore, failpoint.MirrorAfter,
		failpoint.SyncBefore, failpoint.SyncAfter, failpoint.PositionBefore, failpoint.PositionAfter, failpoint.ConfirmBefore, failpoint.ConfirmAfter,
		failpoint.RewindBefore, failpoint.RewindAfter, failpoint.RestoreSetHome},
}

// TestRestorationsKilledAtEveryStep (G61): whichever machine is killed at whichever step,
// with a source that is blank, or has files of which some are newer: in the end every file
// that was newer is as it was, and every other one is the replica's.
func TestRestorationsKilledAtEveryStep(t *testing.T) {
	for side, steps := range restoreSteps {
		t.Run(side, func(t *testing.T) {
			p := newPair(t)
			fill(t, p.Dir, "replica", stepFiles)
			p.replicated()
			rng := rand.New(rand.NewPCG(9, uint64(len(steps))))
			kills := 0
			for round := range rounds(1, 8) {
				for i, step := range steps {
					blank, hits := (i+round)%2 == 0, 0
					if step == failpoint.MirrorBefore || step == failpoint.MirrorAfter {
						hits = rng.IntN(stepFiles / 2)
					}
					p.killedAt(step, side == "sender", blank, hits, rng)
					kills++
				}
			}
			t.Logf("%d kills at %d steps", kills, len(steps))
		})
	}
}

// stepFiles is small: what is under way at a step counts, not how much.
const stepFiles = 40

// killedAt begins a restoration, has a machine killed at a step of it, and sees how it ends.
func (p *pair) killedAt(step failpoint.Point, sender, blank bool, hits int, rng *rand.Rand) {
	p.T.Helper()
	_ = p.Source.Try("repset.delete", control.NameRequest{Name: "tree"}, nil) // it may not have come home yet
	want := p.laid(stepFiles, blank, rng)
	m := p.Source
	if sender {
		m = p.Target
	}
	first := failpoint.At(step, hits)
	if step == failpoint.RewindBefore || step == failpoint.RewindAfter {
		first = failpoint.At(failpoint.MirrorAfter, 5) // a rewind is for one that was killed
	}
	p.armed(m, first)
	begun, sending := make(chan error, 1), p.Target.Other()
	go func() {
		req := control.RestoreRequest{Action: "start", Set: "tree", Address: p.Source.Cfg.Listen, Checksum: blank, Repset: true}
		begun <- sending.Try("restore", req, nil)
	}()
	p.died(m, first)
	if first != failpoint.At(step, hits) {
		m.StartDoomed(failpoint.At(step, 0))
		p.died(m, failpoint.At(step, 0))
	}
	if !sender {
		m.Start()
	}
	err := <-begun // by a sender that died: at once
	if sender {
		m.Start()
	}
	p.ended(err)
	p.Source.Ask("repset.get", control.NameRequest{Name: "tree"}, nil)
	for path, content := range want {
		if got := held(p.T, path); got != content {
			p.T.Fatalf("%s, blank %v: %s holds %q, want %q", step, blank, path, got, content)
		}
	}
}

// armed starts a machine that ends at a step, and not at one of a restoration before: the
// receiver may not have been told that that one is over, and goes on with it.
func (p *pair) armed(m *stories.Machine, what string) {
	p.T.Helper()
	for range 3 {
		m.Kill()
		m.StartDoomed(what)
		ended := false
		waitFor(p.T, "an answer or the end", func() bool {
			ended = m.D.AwaitEnd(0)
			return ended || m.Try("status", struct{}{}, nil) == nil
		})
		if !ended {
			return
		}
		m.Start()
		p.ended(errors.New("begin one, which drops the other"))
	}
	p.T.Fatalf("%s ends at %s before a restoration begins", m.Cfg.Name, what)
}

func (p *pair) died(m *stories.Machine, at string) {
	p.T.Helper()
	if !m.D.AwaitEnd(stories.Patience) {
		p.T.Fatalf("%s was not reached: %+v\n%+v", at, p.Source.Status(), p.Target.Status())
	}
}

// laid prepares the source: blank, or with files of which some are lost, some older and some
// newer than the replica's. It returns what the files are to hold afterwards.
func (p *pair) laid(files int, blank bool, rng *rand.Rand) map[string]string {
	p.T.Helper()
	entries, err := os.ReadDir(p.Dir)
	must(p.T, err)
	for _, e := range entries {
		must(p.T, os.RemoveAll(filepath.Join(p.Dir, e.Name())))
	}
	want := map[string]string{}
	for i := range files {
		path := filepath.Join(p.Dir, "file-"+strconv.Itoa(i))
		want[path] = "replica"
		at := time.Now().Add(-2 * time.Hour)
		switch rng.IntN(3) {
		case 0:
			continue // it is lost
		case 1:
			if !blank {
				want[path], at = "source!", time.Now().Add(-time.Minute)
			}
		}
		if !blank {
			must(p.T, os.WriteFile(path, fmt.Appendf(nil, "source! %d", i), 0o644))
			must(p.T, os.Chtimes(path, at, at))
		}
	}
	return want
}

// ended waits until the restoration is over. One that was killed before anybody was told that
// it begins is begun again; of one that has ended nothing may be left.
func (p *pair) ended(begun error) {
	p.T.Helper()
	restoring := func() bool {
		return slices.ContainsFunc(p.Target.Status().Connections, func(c control.Connection) bool { return c.Set == "restore tree" })
	}
	if begun != nil && !restoring() {
		if rep := p.over(p.restore(control.RestoreRequest{Repset: true})); rep.State != "done" {
			p.T.Fatalf("%+v", rep)
		}
	}
	waitFor(p.T, "end of the restoration", func() bool { return !restoring() })
}
