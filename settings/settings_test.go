package settings

import (
	"bufio"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite docs/settings.md")

// TestManual: docs/settings.md is what the table says.
func TestManual(t *testing.T) {
	const file = "../docs/settings.md"
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
		t.Errorf("%s is not what the table says: run go test ./settings -run Manual -update, and read the difference", file)
	}
}

// TestEveryNameIsKnown: no name of the original's settings is refused.
func TestEveryNameIsKnown(t *testing.T) {
	f, err := os.Open("testdata/names.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		name := s.Text()
		if strings.HasPrefix(name, "#") {
			continue
		}
		count++
		for _, spelled := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if Find(spelled) == nil {
				t.Errorf("%s is not known", spelled)
			}
		}
	}
	if count < 190 {
		t.Errorf("only %d names in the list", count)
	}
	if Find("") != nil || Find("nonsense") != nil {
		t.Error("a name that is none is found")
	}
}

// TestRows: each row is complete, its default is a value it accepts, and no name stands
// twice.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	keys := map[string]string{}
	for i := range Table {
		s := &Table[i]
		for _, name := range append([]string{s.Name}, s.Aliases...) {
			if low := strings.ToLower(name); seen[low] {
				t.Errorf("%s stands twice", name)
			} else {
				seen[low] = true
			}
		}
		if s.Help == "" || s.Owner == "" || strings.HasSuffix(s.Help, ".") || strings.ContainsAny(s.Help+s.Without, "|\n") {
			t.Errorf("%s: help %q, owner %q", s.Name, s.Help, s.Owner)
		}
		if got, err := s.Parse(s.Default); !s.ReadOnly && (err != nil || got != s.Default) && s.Kind != File {
			t.Errorf("%s: default %q becomes %q, %v", s.Name, s.Default, got, err)
		}
		effects := 0
		for _, has := range []bool{s.Key != "" || s.Name == "NetPort" || s.Name == "DefaultAddress", s.Without != "", s.ReadOnly} {
			if has {
				effects++
			}
		}
		if effects != 1 {
			t.Errorf("%s: it has an effect, or a reason, or is told: one of them", s.Name)
		}
		if other := keys[s.Key]; s.Key != "" && other != "" {
			t.Errorf("%s and %s are the same key", s.Name, other)
		}
		keys[s.Key] = s.Name
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"AutoReconnect", "TRUE", "1"}, {"AutoReconnect", " off ", "0"}, {"AutoReconnect", "2", "!"}, {"AutoReconnect", "", "!"},
		{"NetworkRetry", "007", "7"}, {"NetworkRetry", "0", "!"}, {"NetworkRetry", "-1", "!"}, {"NetworkRetry", "1.5", "!"}, {"NetworkRetry", "99999999999999999999", "!"},
		{"AutoRemirror", "3", "3"}, {"AutoRemirror", "4", "!"}, {"QJournalSpaceMax", "Unlimited", "4294967295"}, {"QJournalSpaceMax", "0", "!"},
		{"LogDir", "/var/log//dt/", "/var/log/dt"}, {"LogDir", "log", "!"}, {"LogDir", "", ""}, {"LogDir", "/a\nb", "!"},
		{"LogFile", "DTLog", "DTLog"}, {"LogFile", "a/b", "!"}, {"LogFile", "..", "!"},
		{"SkipCompressionFileExt", "mp3,,zip ", "mp3, zip"}, {"ActivationCode", "abc", "abc"}, {"ActivationCode", "a\x1b[2J", "!"},
		{"ActivationCode", strings.Repeat("x", maxText+1), "!"},
	} {
		got, err := Find(c.name).Parse(c.value)
		var refused *ValueError
		switch {
		case c.want == "!" && !errors.As(err, &refused):
			t.Errorf("%s = %q is taken as %q, %v", c.name, c.value, got, err)
		case c.want != "!" && (err != nil || got != c.want):
			t.Errorf("%s = %q becomes %q, %v", c.name, c.value, got, err)
		case refused != nil && !strings.Contains(err.Error(), Find(c.name).Range()):
			t.Errorf("%v does not say what is accepted", err)
		}
	}
}

// TestParseIsStable: what was accepted is accepted again, unchanged.
func TestParseIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Table[rapid.IntRange(0, len(Table)-1).Draw(t, "row")]
		value := rapid.OneOf(rapid.String(), rapid.Map(rapid.Int64(), func(n int64) string { return strings.TrimSpace(string(rune('0' + n&7))) })).Draw(t, "value")
		once, err := s.Parse(value)
		if err != nil {
			return
		}
		if twice, err := s.Parse(once); err != nil || twice != once {
			t.Fatalf("%s: %q becomes %q, then %q, %v", s.Name, value, once, twice, err)
		}
	})
}
