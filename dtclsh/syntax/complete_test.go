package syntax

import (
	"slices"
	"strings"
	"testing"
)

func TestNext(t *testing.T) {
	for in, want := range map[string]string{
		"repset ":                  "CALCULATE CREATE DELETE DISPLAY LIST RESYNC RULE SAVE USE |",
		"REPSET RULE ":             "ADD REMOVE |",
		"repset use ":              "| set",
		"connect ":                 "| set",
		"connect a ":               "TO |",
		"connect a to ":            "TDU | machine",
		"$x = waitonmirror ":       "| cons",
		"source a; mirror start ":  "| cons",
		"if $a then disconnect ":   "| cons",
		"status ":                  "CONNECTION MONITOR REPSET SCHEDULE SOURCE TARGET TASKS |",
		"mirror start 1 clean, ":   "CHECKSUM CLEAN DIFFERENT NEWER ORPHANS |",
		"monitor add 1.2.3.4 to ":  "| monitor",
		`repset rule add "/a `:     "|",
		"nonsense ":                "|",
		"schedule x ":              "CLEAR DISABLE ENABLE END START WINDOW |",
		"resumetarget x ":          "FROM |",
		"getlocal ":                "| localsetting",
		"get ":                     "| setting machine",
		"mount ":                   "| path",
		"limit bandwidth 5, 1 to ": "| machine",
	} {
		got := Next(in)
		if s := strings.TrimSpace(strings.Join(got.Words, " ") + " | " + strings.Join(got.Kinds, " ")); s != want {
			t.Errorf("%q: %s, want %s", in, s, want)
		}
	}
	for _, start := range []string{"", "source x; ", "if 1 then "} {
		if got := Next(start); !slices.Contains(got.Words, "WHILE") || !slices.Contains(got.Words, "CONNECT") || len(got.Kinds) > 0 {
			t.Errorf("%q: %v", start, got)
		}
	}
	if got := Next("$x = "); slices.Contains(got.Words, "WHILE") || !slices.Contains(got.Words, "CONNECT") {
		t.Errorf("after =: %v", got)
	}
}
