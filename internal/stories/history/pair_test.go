package history

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/node"
)

func TestMain(m *testing.M) { stories.Main(m, nil) }

var must, same, waitFor, scaled = stories.Must, stories.Same, stories.WaitFor, stories.Scaled

// pair keeps a history on its target.
type pair struct{ *stories.Pair }

// newPair is one that is connected and keeps its history.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := unconnected(t)
	p.begin()
	return p
}

func unconnected(t *testing.T) *pair {
	t.Helper()
	t.Parallel()
	return &pair{stories.StackedPair(t, func(cfg *node.Config) { cfg.History, cfg.Hold, cfg.QueueFree = "72h", false, 64<<20 })}
}

// begin connects and waits until the history is kept.
func (p *pair) begin() {
	p.T.Helper()
	p.Connect(control.ConnectRequest{Rules: p.All()})
	p.Settle()
	p.keeps()
}

// history is what the target keeps of the pair.
func (p *pair) history() (h control.History) {
	p.T.Helper()
	var list control.HistoryList
	p.Target.Ask("history", control.HistoryRequest{}, &list)
	if len(list.Histories) > 0 {
		h = list.Histories[0]
	}
	return h
}

// keeps waits until the target keeps what it applies.
func (p *pair) keeps() {
	p.T.Helper()
	waitFor(p.T, "history that is kept", func() bool { return p.history().Active })
}

// mark puts a label behind what was done so far.
func (p *pair) mark(label string) (m control.Mark) {
	p.T.Helper()
	p.Source.Ask("mark", control.MarkRequest{ID: p.Con, Label: label}, &m)
	return m
}

// replay rebuilds a moment and returns the directory.
func (p *pair) replay(req control.ReplayRequest) (string, control.Replay) {
	p.T.Helper()
	dir, err := os.MkdirTemp(p.Base, "rebuilt-")
	must(p.T, err)
	req.To = dir
	rep := p.replayed(req)
	if rep.State != "done" {
		p.T.Fatalf("replay %+v: %s: %s", req, rep.State, rep.Error)
	}
	return dir, rep
}

func (p *pair) replayed(req control.ReplayRequest) (rep control.Replay) {
	p.T.Helper()
	req.Action = "start"
	p.Target.Ask("replay", req, &rep)
	for end := time.Now().Add(stories.Patience); rep.State == "copying" || rep.State == "applying"; {
		if time.Now().After(end) {
			p.Target.D.Stacks()
			p.T.Fatalf("replay does not end: %+v\n%s", rep, p.Target.D.Log())
		}
		p.Target.Ask("replay", control.ReplayRequest{Action: "status", ID: rep.ID, WaitMS: 1000}, &rep)
	}
	return rep
}

// snapshot copies the source's tree.
func (p *pair) snapshot(name string) string {
	p.T.Helper()
	to := filepath.Join(p.Base, "was-"+name)
	p.Copy(p.Dir, to)
	return to
}
