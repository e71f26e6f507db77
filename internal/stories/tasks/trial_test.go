package tasks

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"understudy/control"
	"understudy/internal/statfile"
)

// trialOf is the report of a trial connection.
func trialOf(m *machine, id int) *control.TrialStats {
	m.T.Helper()
	var st control.Stats
	m.Ask("stats", struct{}{}, &st)
	for _, c := range st.Connections {
		if c.ID == id {
			return c.Trial
		}
	}
	m.T.Fatalf("connection %d is not in the statistics", id)
	return nil
}

// TestTrialMeasuresARealConnection: what CONNECT TDU counts, of a mirror and of changes
// after it, is what a real connection of the same set then sends, within 5 %; nothing is
// written, queued or sent meanwhile; it survives a restart and ends as every connection.
func TestTrialMeasuresARealConnection(t *testing.T) {
	p := unconnected(t)
	noise := make([]byte, 300_000)
	_, _ = rand.Read(noise)
	fill := func(round int) {
		for k := range 30 {
			must(t, os.WriteFile(filepath.Join(p.Dir, fmt.Sprint("f", k)), noise[:1000*k+round], 0o644))
		}
		must(t, os.WriteFile(filepath.Join(p.Dir, "big"), noise[:280_000+round], 0o644))
	}
	fill(0)
	var reply control.ConnectReply
	p.Source.Ask("connect", control.ConnectRequest{Set: "tree", Rules: p.All(), Target: "TDU", Capture: "stacked", Trial: true, StatsFile: "trial.sts"}, &reply)
	settle := func(id int) {
		p.Source.Ask("settle", control.SettleRequest{ID: id, TimeoutMS: patience.Milliseconds()}, nil)
	}
	settle(reply.ID)
	after := trialOf(p.Source, reply.ID)
	fill(1)
	settle(reply.ID)
	trial := trialOf(p.Source, reply.ID)
	if !after.MirrorDone || after.RepBytes > 1000 || after.MirrorBytes < 700_000 || len(trial.Lines) != 5 || trial.PeakSecond == 0 {
		t.Fatalf("trial: %+v, then %+v", after, trial)
	}
	if exists(p.Replica) || len(p.Target.Status().Replicas) != 0 {
		t.Error("the target has something")
	}
	p.Source.Ask("replication", control.ReplicationRequest{ID: reply.ID, Stop: true}, nil)
	fill(2)
	if got := trialOf(p.Source, reply.ID); got.RepBytes != trial.RepBytes {
		t.Errorf("changes are counted while replication is stopped: %d, then %d", trial.RepBytes, got.RepBytes)
	}
	if err := p.Source.Try("transmission", control.TransmissionRequest{ID: reply.ID, Action: "pause"}, nil); err == nil {
		t.Error("transmission of a trial could be paused")
	}
	p.Source.Ask("replication", control.ReplicationRequest{ID: reply.ID}, nil)
	p.Source.Restart()
	list := p.Source.Status().Connections
	if len(list) != 1 || list[0].Target != "TDU" {
		t.Fatalf("after a restart: %+v", list)
	}
	settle(list[0].ID)
	if got := trialOf(p.Source, list[0].ID); got.MirrorBytes < 700_000 {
		t.Errorf("the mirror after the restart: %+v", got)
	}
	p.Source.Ask("disconnect", control.IDRequest{ID: list[0].ID}, nil)
	if n := len(p.Source.Status().Connections); n != 0 {
		t.Errorf("%d connections after the disconnect", n)
	}
	p.measured()
	fill(0)
	p.real(fill, after, trial)
}

// measured: the trial's file has its figures.
func (p *pair) measured() {
	p.T.Helper()
	file := filepath.Join(p.Source.Cfg.Data, "trial.sts")
	records, damaged, err := statfile.Read(file)
	must(p.T, err)
	var last control.Stats
	n := 0
	for r := range records {
		must(p.T, json.Unmarshal(r, &last))
		n++
	}
	if n == 0 || *damaged > 0 || len(last.Connections) != 1 || last.Connections[0].Trial == nil {
		p.T.Errorf("%s: %d records, %d damaged, last %+v", file, n, *damaged, last)
	}
}

// real compares a trial with a real connection that does the same.
func (p *pair) real(fill func(int), after, trial *control.TrialStats) {
	p.T.Helper()
	p.Connect(control.ConnectRequest{Rules: p.All()})
	p.Settle()
	wire := func() uint64 {
		var st control.Stats
		p.Source.Ask("stats", struct{}{}, &st)
		return st.Connections[0].WireBytesTx
	}
	mirrored := wire()
	fill(1)
	p.Settle()
	for what, c := range map[string][2]uint64{"mirror": {after.MirrorBytes, mirrored}, "changes": {trial.RepBytes - after.RepBytes, wire() - mirrored}} {
		if low, high := float64(c[1])*0.95, float64(c[1])*1.05; float64(c[0]) < low || float64(c[0]) > high {
			p.T.Errorf("%s: the trial says %d bytes, a real connection sent %d; %+v", what, c[0], c[1], after)
		}
	}
	same(p.T, p.Dir, p.Replica)
}
