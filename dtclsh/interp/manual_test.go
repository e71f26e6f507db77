package interp

import (
	"flag"
	"os"
	"testing"

	"understudy/dtclsh/syntax"
)

var update = flag.Bool("update", false, "rewrite docs/shell.md")

// TestManual: docs/shell.md is what the tables say.
func TestManual(t *testing.T) {
	const file = "../../docs/shell.md"
	want := Manual()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the tables say: run go test ./dtclsh/interp -run Manual -update, and read the difference", file)
	}
}

// TestEveryCommand: each row of the table is carried out, and no handler is left over.
func TestEveryCommand(t *testing.T) {
	rows := map[string]bool{}
	for _, c := range syntax.Commands {
		rows[c.Name] = true
		if handlers[c.Name] == nil {
			t.Errorf("nothing carries %s out", c.Name)
		}
	}
	for name := range handlers {
		if !rows[name] {
			t.Errorf("handler of %s, which is no command", name)
		}
	}
}
