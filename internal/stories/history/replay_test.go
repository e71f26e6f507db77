package history

import (
	"os"
	"testing"
	"time"

	"understudy/control"
)

// TestReplayRebuildsMoments (G90): by label, operation and date, beside the live replica.
func TestReplayRebuildsMoments(t *testing.T) {
	p := newPair(t)
	p.Write("a", "one")
	must(t, os.Mkdir(p.Dir+"/d", 0o755))
	p.Write("d/b", "two")
	first := p.mark("first")
	was := p.snapshot("first")
	time.Sleep(20 * time.Millisecond) // the moments of the log are a millisecond apart
	between := time.Now()
	time.Sleep(20 * time.Millisecond)
	p.Write("a", "changed")
	must(t, os.Rename(p.Dir+"/d", p.Dir+"/e"))
	p.mark("second")
	p.Settle()
	for name, req := range map[string]control.ReplayRequest{"label": {Label: "first"}, "operation": {Op: first.Op}, "date": {At: between}} {
		dir, rep := p.replay(req)
		t.Logf("%s: %+v", name, rep)
		same(t, was, dir)
	}
	dir, _ := p.replay(control.ReplayRequest{})
	same(t, p.Replica, dir)
	h := p.history()
	if len(h.Marks) != 2 || h.Marks[0].Label != "first" || h.Marks[0].Op != first.Op || len(h.Spans) == 0 {
		t.Errorf("history: %+v", h)
	}
}
