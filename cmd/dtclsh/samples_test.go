package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"understudy/dtclsh/syntax"
)

// samples in the order in which they can be run one after another.
var samples = []string{"elements", "start", "attempts", "session", "failover", "spostback"}

// TestSamplesParse: every sample is known to the test, parses, and prints to itself.
func TestSamplesParse(t *testing.T) {
	files, err := filepath.Glob("../../ops/samples/*.dtcl")
	if err != nil || len(files) != len(samples) {
		t.Error(files, err, "want", samples)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		script, err := syntax.Parse(string(raw))
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		again, err := syntax.Parse(script.String())
		if err != nil || again.String() != script.String() {
			t.Errorf("%s is printed as\n%s\n%v", f, script, err)
		}
	}
}

// TestSampleScripts: the samples run as they are written, against two daemons on networks
// of their own, with users whom PAM knows. A command that this version only parses answers
// its code.
func TestSampleScripts(t *testing.T) {
	base := private(t, "samples.sh", "SCRIPTS="+strings.Join(samples, " "))
	out := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(base, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	here := inThisVersion(t, out("help"))
	for script, want := range map[string]string{
		"elements": "^daemon found on nova after attempt 1\n$",
		"start":    `(?s)^  User access level set to DT_FULL_ACCESS\n  User access level set to DT_FULL_ACCESS\n1\n  - Status for connection 1 -\n.*Mirror:  +Idle\n`,
		"attempts": `^connected as \d+\n$`,
		"session":  `(?s)^Command: logon 198.*DT_FULL_ACCESS.*Command: .*newrep +disabled\n.*- Status for connection \d+ -.*Target machine: +orion\n.*Mirror: +Idle\n.*Command: \n$`,
	} {
		if got := out(script + ".out"); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s said\n%s", script, got)
		}
		if got := out(script+".err") + out(script+".code"); got != "0\n" {
			t.Errorf("%s: errors and exit code\n%s", script, got)
		}
	}
	if got := out("replica"); got != "pay\npay/wages\n" {
		t.Errorf("replica on orion:\n%s", got)
	}
	later := regexp.MustCompile(`(?m)^  Error (-\d+)`)
	for script, command := range map[string]string{"failover": "MONITOR START", "spostback": "RESTORE"} {
		t.Logf("%s:\n%s%s", script, out(script+".out"), out(script+".err"))
		for _, code := range later.FindAllStringSubmatch(out(script+".err"), -1) {
			if script == "spostback" && code[1] == "-205" {
				continue // nobody failed over here, so the monitor is still at work
			}
			if here[command] || code[1] != "-155" {
				t.Errorf("%s: error %s", script, code[1])
			}
		}
	}
	if got := out("spostback.out"); !here["RESTORE"] && !strings.HasSuffix(got, "restore refused, code -155\n") {
		t.Errorf("spostback said\n%s", got)
	} else if here["RESTORE"] && !strings.Contains(got, "new connection ") {
		t.Errorf("spostback said\n%s", got)
	}
}

// inThisVersion reads what HELP says of commands.
func inThisVersion(t *testing.T, help string) map[string]bool {
	t.Helper()
	here := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(help), "\n") {
		var topics []struct {
			Name string `json:"name"`
			Here bool   `json:"in_this_version"`
		}
		if err := json.Unmarshal([]byte(line), &topics); err != nil {
			t.Fatal(err, line)
		}
		for _, topic := range topics {
			here[topic.Name] = topic.Here
		}
	}
	return here
}
