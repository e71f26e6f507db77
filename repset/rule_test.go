package repset

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

func TestParseRule(t *testing.T) {
	for in, want := range map[string]Rule{
		"/srv/pay inc, rec":                      {"/srv/pay", false, true},
		"/srv/pay":                               {"/srv/pay", false, true},
		"  /srv/pay  EXC,norec ":                 {"/srv/pay", true, false},
		`"/srv/pay day/*.tmp" exclude,recursive`: {"/srv/pay day/*.tmp", true, true},
		`"/a ""b"", c" include, nonrecursive`:    {`/a "b", c`, false, false},
		"/srv/pay rec inc":                       {"/srv/pay", false, true},
		"/srv/pay, nonrec":                       {"/srv/pay", false, false},
	} {
		got, err := ParseRule(in)
		if err != nil || got != want {
			t.Errorf("ParseRule(%q) = %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", `"`, `"/a`, `"/a"b inc`, "/a inc, exc", "/a rec rec", "/a b inc", `/a"b inc`, ", inc"} {
		if r, err := ParseRule(in); !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseRule(%q) = %+v, %v", in, r, err)
		}
	}
}

// TestRuleRoundTrip: what is printed is read back, as a line, in JSON and in YAML.
func TestRuleRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Rule{"/" + rapid.StringMatching(`[a-z "',*?#;$:é]{1,12}`).Draw(t, "path"), rapid.Bool().Draw(t, "x"), rapid.Bool().Draw(t, "r")}
		if got, err := ParseRule(r.String()); err != nil || got != r {
			t.Fatalf("%q became %+v, %v", r.String(), got, err)
		}
		s := Set{Name: "pay", Generation: 3, Rules: []Rule{r}}
		var fromJSON, fromYAML Set
		b, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(b, &fromJSON)
		}
		y, yerr := yaml.Marshal(s)
		if yerr == nil {
			yerr = yaml.Unmarshal(y, &fromYAML)
		}
		if err != nil || yerr != nil || fromJSON.Rules[0] != r || fromYAML.Rules[0] != r || fromYAML.Generation != 3 {
			t.Fatalf("%s %s: %v %v", b, y, err, yerr)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	f.Add(`"/a ""b" inc, rec`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		if again, err := ParseRule(r.String()); err != nil || again != r {
			t.Errorf("%q: %+v became %+v, %v", s, r, again, err)
		}
	})
}

// TestCompileRefuses: each with a message that says what to do.
func TestCompileRefuses(t *testing.T) {
	for path, want := range map[string]string{
		"":                              "it is empty",
		"srv/pay":                       "give it from the root, as in /srv/pay",
		"/":                             "the root of the file system cannot be protected",
		"///":                           "the root of the file system",
		"/*":                            "protect the directories below it",
		"/srv/../etc":                   `component ".."`,
		"/srv/./etc":                    `component "."`,
		"/srv/*/log":                    "not the last component",
		"/a\x00":                        "zero byte",
		"/a\xff":                        "write ?",
		"/" + strings.Repeat("n", 256):  "name of 256 bytes",
		strings.Repeat("/abcdefg", 600): "4800 bytes",
	} {
		_, err := Compile([]Rule{{Path: path}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Compile(%.20q): %v, want %q", path, err, want)
		}
	}
	if _, err := Compile([]Rule{{"/a", true, true}}); !errors.Is(err, ErrNoRules) {
		t.Error(err)
	}
	if _, err := Compile(make([]Rule, MaxRules+1)); err == nil {
		t.Error("too many rules were taken")
	}
	_, err := Compile([]Rule{{Path: "a"}, {Path: "/b/*/c"}})
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("not both errors: %v", err)
	}
	if _, err := Compile([]Rule{{Path: "//srv//pay/"}}); err != nil {
		t.Error(err)
	}
}

func TestSetEditing(t *testing.T) {
	s := Set{Name: "pay", Generation: 4}
	r := Rule{"/srv/pay", false, true}
	if err := s.Add(r); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(r); !errors.Is(err, ErrRuleExists) {
		t.Error(err)
	}
	if err := s.Add(Rule{Path: "x"}); !errors.Is(err, ErrPath) {
		t.Error(err)
	}
	saved, err := s.Save(s)
	if err != nil || saved.Generation != 5 {
		t.Fatal(saved, err)
	}
	if _, err := saved.Save(s); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	if err := s.Remove(r); err != nil || len(s.Rules) != 0 || len(saved.Rules) != 1 {
		t.Error(err, s, saved)
	}
	if err := s.Remove(r); !errors.Is(err, ErrNoRule) {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "-x", "a\nb", `a"b`, "a*", strings.Repeat("a", 129), "\xff"} {
		if (Set{Name: name, Rules: saved.Rules}).Check() == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if err := (Set{Name: "pay day 2", Rules: saved.Rules}).Check(); err != nil {
		t.Error(err)
	}
}
