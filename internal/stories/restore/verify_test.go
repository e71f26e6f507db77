package restore

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"understudy/control"
	"understudy/internal/stories"
)

// busy changes files below the tree until it is stopped.
func (p *pair) busy(rate int) (stop func()) {
	p.T.Helper()
	dir := filepath.Join(p.Dir, "busy")
	must(p.T, os.Mkdir(dir, 0o755))
	load := stories.Load(p.T, dir, 3, rate)
	waitFor(p.T, "changes", func() bool {
		names, err := os.ReadDir(dir)
		return err == nil && len(names) > 0
	})
	return func() { p.T.Logf("%d changes beside", load()) }
}

// verified runs a verification to its end.
func (p *pair) verified(req control.VerifyRequest) (rep control.VerifyReport) {
	p.T.Helper()
	req.ID, req.Action = p.Con, "start"
	waitFor(p.T, "a verification that begins", func() bool { return p.Source.Try("verify", req, nil) == nil })
	waitFor(p.T, "the end of the verification", func() bool {
		p.Source.Ask("verify", control.VerifyRequest{ID: p.Con, Action: "status", WaitMS: 10_000}, &rep)
		return rep.State != "running"
	})
	if rep.State != "done" || rep.Totals.Errors > 0 {
		p.T.Fatalf("%+v", rep)
	}
	return rep
}

// TestVerifyByHintsReportsNothingUnderWay (G36): captured by hints, a change that was not
// even told yet is no difference; what differs is found all the same.
func TestVerifyByHintsReportsNothingUnderWay(t *testing.T) {
	p := newPair(t)
	fill(t, p.Dir, "source!", 40)
	p.Connect(control.ConnectRequest{Rules: p.All()})
	p.Settle()
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
	must(t, os.WriteFile(filepath.Join(p.Replica, "file-3"), []byte("other"), 0o644))
	must(t, os.WriteFile(filepath.Join(p.Replica, "extra"), []byte("other"), 0o644))
	must(t, os.Remove(filepath.Join(p.Replica, "file-5")))
	want := []string{filepath.Join(p.Dir, "extra"), filepath.Join(p.Dir, "file-3"), filepath.Join(p.Dir, "file-5")}
	rep := p.verified(control.VerifyRequest{Checksum: true})
	stop()
	var got []string
	for _, d := range rep.Differences {
		if d.Path != p.Dir { // its time changed with its names
			got = append(got, d.Path)
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("found %q, want %q: %+v", got, want, rep)
	}
}
