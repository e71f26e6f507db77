package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFailoverByShell: every form of the monitor commands is typed at a real target, with
// what is wrong; then a source dies, is replaced, and its data comes home by
// ops/samples/spostback.dtcl as it is shipped; its work is moved to the target as planned,
// and the target becomes its source. Nothing but dtclsh steers.
func TestFailoverByShell(t *testing.T) {
	t.Parallel()
	base := private(t, "failover.sh")
	out := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(base, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	got := settled(out("forms"))
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("testdata/forms.want", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/forms.want")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the forms say\n%s\nwant testdata/forms.want; UPDATE=1 rewrites it", got)
	}
	for name, want := range map[string]string{
		"failedover": `nova +failed over +Failed Over`,
		"failback":   `(?s)\n?1\n.*Restore required: +yes`,
		"spostback":  `(?s)Restoration \d+ of payroll to nova: done.*new connection \d+`,
		"again":      `(?s)State: +online`,
		"switch":     `(?s)refused -\d+\n.*switched 1\nstate 3\n$`,
		"reverse":    `(?s)set payroll goes to nova.*reversed 1\n$`,
		"reversed":   `payroll`,
	} {
		if got := out(name); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: want %s, got\n%s", name, want, got)
		}
	}
	if got := out("again"); strings.Contains(got, "Restore required") {
		t.Errorf("the data is home, and the monitor says\n%s", got)
	}
}

// settled is what was said without the times that pass meanwhile, and what
// they make of the state.
func settled(text string) string {
	text = regexp.MustCompile(`(?m)(Time to Fail: +)\S+$`).ReplaceAllString(text, "${1}TIME")
	text = regexp.MustCompile(`(monitor nova is )(online|caution)`).ReplaceAllString(text, "${1}STATE")
	return regexp.MustCompile(`(?m)^(  nova +)\S+ +\S+ +\S.*$`).ReplaceAllString(text, "${1}STATE")
}
