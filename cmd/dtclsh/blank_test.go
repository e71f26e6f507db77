package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBlankMachineByShell (G61): a machine that was set up anew gets its data and its
// replication set back from the target by the two commands that the manual names for it,
// as they stand there.
func TestBlankMachineByShell(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operate/restore.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "\n**A blank machine**")
	commands := regexp.MustCompile(`(?m)(^    .*\n)+`).FindString(rest)
	if lines := strings.Split(strings.TrimSpace(commands), "\n"); !ok || len(lines) != 2 {
		t.Fatalf("the manual names %d commands: %q", len(lines), commands)
	}
	base := private(t, "blank.sh", "RESTORE="+commands)
	out := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(base, "out", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if got := out("restore"); !regexp.MustCompile(`Restoration \d+ of payroll to nova: done`).MatchString(got) {
		t.Errorf("the restoration said\n%s", got)
	}
	if pay, standby := out("pay"), out("standby"); pay != standby {
		t.Errorf("what came home is %s, the replica %s", pay, standby)
	}
	if got := out("files"); got != ".\n./2026\n./2026/again\n./link\n./wages\n" {
		t.Errorf("home came\n%s", got)
	}
	if before, after := rulesOf(out("before")), rulesOf(out("after")); before != after || !strings.Contains(after, "cache") {
		t.Errorf("the set was\n%s\nand came home as\n%s", before, after)
	}
	t.Log(out("again"))
}

// rulesOf are the lines that name directories.
func rulesOf(text string) string {
	return strings.Join(regexp.MustCompile(`(?m)^.*/srv/pay.*$`).FindAllString(text, -1), "\n")
}
