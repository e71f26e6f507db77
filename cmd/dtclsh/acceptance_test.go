package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAcceptanceCommands: two daemons are set up, steered and ended by the commands the
// manual promises, word for word, with the default port; the fields of a connection have
// their promised names.
func TestAcceptanceCommands(t *testing.T) {
	base := private(t, "acceptance.sh")
	out := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(base, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if got := out("con"); got != "1\n" {
		t.Errorf("connection %q", got)
	}
	if tree, replica := out("tree"), out("replica"); tree != replica || !strings.Contains(tree, "./a/b/two") {
		t.Errorf("tree:\n%sreplica:\n%s", tree, replica)
	}
	var cons []map[string]any
	if err := json.Unmarshal([]byte(out("status.json")), &cons); err != nil || len(cons) != 1 {
		t.Fatal(err, out("status.json"))
	}
	for _, field := range strings.Fields("set con_id target transmit mirror mirror_percent replication queued_ops queued_bytes sent_bytes lag_ms target_state capture fidelity epoch captured_op applied_op") {
		if _, ok := cons[0][field]; !ok {
			t.Errorf("a connection has no field %s: %v", field, cons[0])
		}
	}
	for field, want := range map[string]any{"set": "tree", "con_id": 1.0, "target": "jersey", "transmit": "Started", "mirror": "Idle", "replication": "Replicating", "queued_ops": 0.0, "target_state": "OK", "capture": "stacked"} {
		if cons[0][field] != want {
			t.Errorf("%s is %v, want %v", field, cons[0][field], want)
		}
	}
	if cons[0]["captured_op"] != cons[0]["applied_op"] || cons[0]["captured_op"] == 0.0 {
		t.Error("captured", cons[0]["captured_op"], "applied", cons[0]["applied_op"])
	}
	if got := out("script"); !strings.HasPrefix(got, "1\n") || !strings.Contains(got, "127.0.0.3:6320") {
		t.Errorf("script said %q", got)
	}
	if got := out("nosettle"); !strings.Contains(got, "99") {
		t.Errorf("settle of no connection said %q", got)
	}
}
