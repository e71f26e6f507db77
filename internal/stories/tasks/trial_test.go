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
func (m *machine) trialOf(id int) *control.TrialStats {
	m.t.Helper()
	var st control.Stats
	m.ask("stats", struct{}{}, &st)
	for _, c := range st.Connections {
		if c.ID == id {
			return c.Trial
		}
	}
	m.t.Fatalf("connection %d is not in the statistics", id)
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
			must(t, os.WriteFile(filepath.Join(p.dir, fmt.Sprint("f", k)), noise[:1000*k+round], 0o644))
		}
		must(t, os.WriteFile(filepath.Join(p.dir, "big"), noise[:280_000+round], 0o644))
	}
	fill(0)
	var reply control.ConnectReply
	p.source.ask("connect", control.ConnectRequest{Set: "tree", Rules: []string{p.dir + " inc, rec"}, Target: "TDU", Capture: "stacked", Trial: true, StatsFile: "trial.sts"}, &reply)
	settle := func(id int) {
		p.source.ask("settle", control.SettleRequest{ID: id, TimeoutMS: patience.Milliseconds()}, nil)
	}
	settle(reply.ID)
	after := p.source.trialOf(reply.ID)
	fill(1)
	settle(reply.ID)
	trial := p.source.trialOf(reply.ID)
	if !after.MirrorDone || after.RepBytes > 1000 || after.MirrorBytes < 700_000 || len(trial.Lines) != 5 || trial.PeakSecond == 0 {
		t.Fatalf("trial: %+v, then %+v", after, trial)
	}
	if exists(p.replica) || len(p.target.status().Replicas) != 0 {
		t.Error("the target has something")
	}
	p.source.ask("replication", control.ReplicationRequest{ID: reply.ID, Stop: true}, nil)
	fill(2)
	if got := p.source.trialOf(reply.ID); got.RepBytes != trial.RepBytes {
		t.Errorf("changes are counted while replication is stopped: %d, then %d", trial.RepBytes, got.RepBytes)
	}
	if err := p.source.try("transmission", control.TransmissionRequest{ID: reply.ID, Action: "pause"}, nil); err == nil {
		t.Error("transmission of a trial could be paused")
	}
	p.source.ask("replication", control.ReplicationRequest{ID: reply.ID}, nil)
	p.source.restart()
	list := p.source.status().Connections
	if len(list) != 1 || list[0].Target != "TDU" {
		t.Fatalf("after a restart: %+v", list)
	}
	settle(list[0].ID)
	if got := p.source.trialOf(list[0].ID); got.MirrorBytes < 700_000 {
		t.Errorf("the mirror after the restart: %+v", got)
	}
	p.source.ask("disconnect", control.IDRequest{ID: list[0].ID}, nil)
	if n := len(p.source.status().Connections); n != 0 {
		t.Errorf("%d connections after the disconnect", n)
	}
	p.measured()
	fill(0)
	p.real(fill, after, trial)
}

// measured: the trial's file has its figures.
func (p *pair) measured() {
	p.t.Helper()
	file := filepath.Join(p.source.cfg.Data, "trial.sts")
	records, damaged, err := statfile.Read(file)
	must(p.t, err)
	var last control.Stats
	n := 0
	for r := range records {
		must(p.t, json.Unmarshal(r, &last))
		n++
	}
	if n == 0 || *damaged > 0 || len(last.Connections) != 1 || last.Connections[0].Trial == nil {
		p.t.Errorf("%s: %d records, %d damaged, last %+v", file, n, *damaged, last)
	}
}

// real compares a trial with a real connection that does the same.
func (p *pair) real(fill func(int), after, trial *control.TrialStats) {
	p.t.Helper()
	p.con = p.connect("tree", p.dir, p.replica)
	p.settle()
	wire := func() uint64 {
		var st control.Stats
		p.source.ask("stats", struct{}{}, &st)
		return st.Connections[0].WireBytesTx
	}
	mirrored := wire()
	fill(1)
	p.settle()
	for what, c := range map[string][2]uint64{"mirror": {after.MirrorBytes, mirrored}, "changes": {trial.RepBytes - after.RepBytes, wire() - mirrored}} {
		if low, high := float64(c[1])*0.95, float64(c[1])*1.05; float64(c[0]) < low || float64(c[0]) > high {
			p.t.Errorf("%s: the trial says %d bytes, a real connection sent %d; %+v", what, c[0], c[1], after)
		}
	}
	same(p.t, p.dir, p.replica)
}

// restart stops the daemon in good order and starts it again.
func (m *machine) restart() {
	m.t.Helper()
	m.close()
	m.d.Stop()
	m.start()
}
