package restore

import (
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/node"
	"understudy/repset"
)

func TestMain(m *testing.M) { stories.Main(m, nil) }

var must, same, waitFor, rounds = stories.Must, stories.Same, stories.WaitFor, stories.Scaled

// pair restores from its target to its source.
type pair struct{ *stories.Pair }

func newPair(t *testing.T) *pair {
	t.Helper()
	t.Parallel()
	return &pair{stories.HintedPair(t, func(cfg *node.Config) { cfg.TargetRetry, cfg.Hold, cfg.QueueFree = 100*time.Millisecond, false, 64<<20 })}
}

// replicated has a set saved, a whole replica, the target's copy of the set, and no
// connection any more.
func (p *pair) replicated() {
	p.T.Helper()
	p.Source.Ask("repset.save", repset.Set{Name: "tree", Rules: rules(p.T, p.All()...)}, nil)
	p.Connect(control.ConnectRequest{})
	p.Settle()
	waitFor(p.T, "the copy of the set", func() bool {
		var list control.BackupList
		p.Target.Ask("repset.backups", control.NameRequest{Name: "indy"}, &list)
		return len(list.Backups) == 1
	})
	p.Source.Ask("disconnect", control.IDRequest{ID: p.Con}, nil)
}

// restore begins a restoration.
func (p *pair) restore(req control.RestoreRequest) int {
	p.T.Helper()
	var rep control.Restore
	req.Action, req.Set, req.Address = "start", "tree", p.Source.D.Addr()
	p.Target.Ask("restore", req, &rep)
	return rep.ID
}

// over waits for the end of a restoration. One that ended before its machine was killed is
// not remembered.
func (p *pair) over(id int) (rep control.Restore) {
	p.T.Helper()
	for end := time.Now().Add(stories.Patience); time.Now().Before(end); {
		err := p.Target.Try("restore", control.RestoreRequest{Action: "status", ID: id, WaitMS: 10_000}, &rep)
		if err != nil && strings.Contains(err.Error(), "no restoration") {
			return control.Restore{State: "done"}
		}
		must(p.T, err)
		if rep.State != "restoring" {
			return rep
		}
	}
	p.T.Fatalf("the restoration does not end: %+v\nfrom: %+v\nto: %+v", rep, p.Target.Status().Connections, p.Source.Status().Replicas)
	return rep
}
