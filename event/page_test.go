package event

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/operate/events.md")

const page = "../docs/operate/events.md"

const pageHead = `# Events

What happens on a machine is told by number. A number never changes its meaning; those
below 20000 are the ones the original product used.

    understudy events                   # the last 50
    understudy events --follow          # and what happens next
    understudy events --since 1200 --json
    understudy status                   # what holds now: the alerts
    dtclsh -c 'logviewer -f DIR'        # from the journal itself, also of a machine that is dead

- *Info* and *Success* want nothing. A *Warning* heals itself, but look. At an *Error*
  somebody must act.
- What holds for a while is an **alert**: ` + "`status`" + ` shows it, with what to do, and as JSON
  in the field ` + "`alerts`" + ` of the connection, the replica and the machine. It ends by itself
  when its cause has ended; the event in the column *ends with* tells so. A restart of the
  daemon (4000) ends all alerts; what still holds is raised again.
- The same event about the same thing within 10 s is one row, then one more that says how
  often it was repeated; of one kind about one thing at most 20 different texts in 10 s.
- Events go to the daemon's log, with the number in the field ` + "`event`" + `, and to the journal
  below ` + "`DATA/events`" + `: five files of 1 MiB, the oldest goes first. The journal survives a
  kill of the daemon; after a power cut its last second may be missing. Damaged rows are
  left out and counted.

`

// makePage writes the page from the table.
func makePage() []byte {
	b := bytes.NewBufferString(pageHead)
	list := Kinds()
	slices.SortFunc(list, func(a, b Kind) int { return cmp.Compare(a.ID, b.ID) })
	fmt.Fprintln(b, "| id | severity | category | meaning | what to do | ends with |")
	fmt.Fprintln(b, "|---|---|---|---|---|---|")
	for _, k := range list {
		text := k.Text
		for i, a := range k.Args {
			text = strings.ReplaceAll(text, fmt.Sprintf("%%%d", i+1), "*"+strings.ReplaceAll(a, "_", " ")+"*")
		}
		ends := ""
		if k.Cure != 0 {
			ends = fmt.Sprint(k.Cure)
		}
		fmt.Fprintf(b, "| %d | %s | %s | %s | %s | %s |\n", k.ID, k.Severity, k.Category, text, k.Action, ends)
	}
	return b.Bytes()
}

// TestPage: the operator's page says what the table says.
func TestPage(t *testing.T) {
	want := makePage()
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the table says (%v): run go test ./event -run Page -update, and read the difference", page, err)
	}
}
