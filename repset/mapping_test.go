package repset

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMap(t *testing.T) {
	custom := Custom{{"/srv", "/copy/srv"}, {"/srv/pay", "/pay"}, {"/srvx", "/x"}}
	for _, c := range []struct {
		m    Mapping
		root string
		want string
	}{
		{Exact{}, "/srv/pay", "/srv/pay"},
		{Base{"/replica", "alpha", "pay"}, "/srv/pay", "/replica/alpha/pay/srv/pay"},
		{custom, "/srv/pay", "/pay"}, {custom, "/srv/pay/a", "/pay/a"}, {custom, "/srv/payroll", "/copy/srv/payroll"},
	} {
		got, err := c.m.Map(c.root)
		if err != nil || got != c.want {
			t.Errorf("%s of %s = %q, %v", c.m, c.root, got, err)
		}
	}
	for _, c := range []struct {
		m    Mapping
		root string
		want string
	}{
		{Exact{}, "srv", "clean absolute"}, {Exact{}, "/srv/../x", "clean absolute"},
		{Base{"/r", "..", "pay"}, "/srv", `source name ".."`}, {Base{"/r", "a", "x/y"}, "/srv", "set name"},
		{Base{"r", "a", "b"}, "/srv", "clean absolute"},
		{custom, "/home", "add a pair"}, {Custom{{"/a", "/b"}, {"/a", "/c"}}, "/a", "keep one"},
		{Custom{{"/a", "b/../c"}}, "/a", "clean absolute"},
	} {
		if got, err := c.m.Map(c.root); !errors.Is(err, ErrMapping) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %s = %q, %v", c.m, c.root, got, err)
		}
	}
	if _, err := MapAll(custom, []string{"/srv", "/home"}); err == nil {
		t.Error("a root without a place was mapped")
	}
}

// TestOverlaps: each refusal names both paths and the remedy; neighbours whose names
// merely begin alike are fine.
func TestOverlaps(t *testing.T) {
	p := func(from, to string) []Pair { return []Pair{{from, to}} }
	for _, c := range []struct {
		name string
		err  error
		want string // words of the message; "" for no error
	}{
		{"apart", CheckSameMachine(p("/srv/pay", "/copy")), ""},
		{"alike", CheckSameMachine(p("/srv/pay", "/srv/payroll")), ""},
		{"exact", CheckSameMachine(p("/srv/pay", "/srv/pay")), "needs a second machine"},
		{"target inside", CheckSameMachine(p("/srv/pay", "/srv/pay/copy")), "target path /srv/pay/copy lies inside root of the replication set /srv/pay; choose a target path that neither lies in /srv/pay nor contains it"},
		{"set inside", CheckSameMachine(p("/srv/pay", "/srv")), "target path /srv contains root of the replication set /srv/pay"},
		{"other root", CheckSameMachine([]Pair{{"/a", "/x"}, {"/b", "/a/b"}}), "lies inside"},
		{"swapped", CheckSameMachine([]Pair{{"/a", "/b"}, {"/b", "/a"}}), "is also"},
		{"roots together", CheckPairs([]Pair{{"/a", "/x"}, {"/b", "/x/y"}}), "map them to directories that lie apart"},
		{"roots apart", CheckPairs([]Pair{{"/a", "/x"}, {"/b", "/xy"}}), ""},
		{"slash protected", CheckPairs(p("/", "/x")), "cannot be protected"},
		{"slash target", CheckPairs(p("/a", "/")), "name a directory"},
		{"circle", CheckBothWays(p("/a", "/r"), p("/r/x", "/q")), "round in circles"},
		{"circle back", CheckBothWays(p("/a", "/r"), p("/s", "/a/x")), "round in circles"},
		{"cross", CheckBothWays(p("/a", "/copy"), p("/a", "/copy")), ""},
		{"two sources", CheckClaims([]Claim{{"alpha, set pay", "/srv"}}, Claim{"beta, set pay", "/srv/pay"}), "target path of beta, set pay /srv/pay lies inside target path of alpha, set pay /srv;"},
		{"same again", CheckClaims([]Claim{{"alpha", "/srv"}}, Claim{"alpha", "/srv"}), ""},
		{"others apart", CheckClaims([]Claim{{"alpha", "/r/alpha"}}, Claim{"al", "/r/al"}), ""},
	} {
		switch {
		case c.want == "" && c.err != nil, c.want != "" && c.err == nil:
			t.Errorf("%s: %v", c.name, c.err)
		case c.want != "" && !strings.Contains(c.err.Error(), c.want):
			t.Errorf("%s: %v, want %q", c.name, c.err, c.want)
		}
		var o *Overlap
		if c.err != nil && !strings.HasPrefix(c.name, "slash") && (!errors.As(c.err, &o) || o.Remedy == "") {
			t.Errorf("%s is no overlap: %#v", c.name, c.err)
		}
	}
}

func TestRoots(t *testing.T) {
	isFile := func(p string) bool { return strings.HasSuffix(p, ".conf") }
	for _, c := range []struct{ rules, want string }{
		{"/srv/pay inc", "/srv/pay"},
		{"/srv/pay inc; /srv/pay/old inc; /srv/pay-day inc", "/srv/pay /srv/pay-day"},
		{"/srv/pay/*.db inc; /etc/app.conf inc", "/etc /srv/pay"},
		{"/srv/* inc; /srv/b/c inc; /srv exc, norec", "/srv"},
		{"/a/b inc; /a exc", "/a/b"},
		{"/a inc; /a exc; /b inc", "/b"},
		{"/etc/a.conf inc; /etc/a.conf exc; /b inc", "/b"},
		{"/a-b inc; /a/c inc; /a inc", "/a /a-b"},
	} {
		got := mustCompile(t, strings.Split(c.rules, ";")...).RootsFunc(isFile)
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: roots %v", c.rules, got)
		}
	}
}
