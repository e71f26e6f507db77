package restore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"understudy/control"
	"understudy/internal/exercise"
)

// busy changes files below the tree until it is stopped.
func (p *pair) busy(rate int) (stop func()) {
	p.t.Helper()
	job := exercise.Job{Kind: "rate", Dir: filepath.Join(p.dir, "busy"), Seed: 3, Ops: rate}
	must(p.t, os.Mkdir(job.Dir, 0o755))
	defer p.waitFor("changes", func() bool {
		names, err := os.ReadDir(job.Dir)
		return err == nil && len(names) > 0
	})
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	var stats exercise.Stats
	go func() {
		var err error
		stats, err = job.RunChild(ctx)
		done <- err
	}()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			p.t.Errorf("changes beside: %v", err)
		}
		p.t.Logf("%d changes beside", stats.Ops)
	}
}

// verified runs a verification to its end.
func (p *pair) verified(req control.VerifyRequest) (rep control.VerifyReport) {
	p.t.Helper()
	req.ID, req.Action = p.con, "start"
	p.waitFor("a verification that begins", func() bool { return p.source.try("verify", req, nil) == nil })
	p.waitFor("the end of the verification", func() bool {
		p.source.ask("verify", control.VerifyRequest{ID: p.con, Action: "status", WaitMS: 10_000}, &rep)
		return rep.State != "running"
	})
	if rep.State != "done" || rep.Totals.Errors > 0 {
		p.t.Fatalf("%+v", rep)
	}
	return rep
}

// TestVerifyByHintsReportsNothingUnderWay (G36): captured by hints, a change that was not
// even told yet is no difference; what differs is found all the same.
func TestVerifyByHintsReportsNothingUnderWay(t *testing.T) {
	p := newPair(t)
	fill(t, p.dir, "source!", 40)
	p.connect(control.ConnectRequest{Rules: []string{p.dir + " inc, rec"}})
	p.settle()
	stop := p.busy(50)
	var looked, unsettled uint64
	for round := range rounds(30, 300) {
		rep := p.verified(control.VerifyRequest{Checksum: true})
		if rep.Totals.Different > 0 {
			t.Fatalf("round %d: nothing was planted: %+v", round, rep)
		}
		looked, unsettled = looked+rep.Totals.Files, unsettled+rep.Totals.Unsettled
	}
	t.Logf("%d looked at, %d changed at every look", looked, unsettled)
	must(t, os.WriteFile(filepath.Join(p.replica, "file-3"), []byte("other"), 0o644))
	must(t, os.WriteFile(filepath.Join(p.replica, "extra"), []byte("other"), 0o644))
	must(t, os.Remove(filepath.Join(p.replica, "file-5")))
	want := []string{filepath.Join(p.dir, "extra"), filepath.Join(p.dir, "file-3"), filepath.Join(p.dir, "file-5")}
	rep := p.verified(control.VerifyRequest{Checksum: true})
	stop()
	var got []string
	for _, d := range rep.Differences {
		if d.Path != p.dir { // its time changed with its names
			got = append(got, d.Path)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("found %q, want %q: %+v", got, want, rep)
	}
}
