package repset

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// slow is the meaning of rules, spelt out: look at every rule, keep the longest.
func slow(rules []Rule, p string, dir bool) bool {
	best, include := -1, false
	for _, r := range rules {
		rank, ok := slowCovers(r, p, dir)
		if !ok || rank < best || rank == best && !r.Exclude {
			continue
		}
		best, include = rank, !r.Exclude
	}
	return include
}

func slowCovers(r Rule, p string, dir bool) (rank int, ok bool) {
	base, last := path.Split(r.Path)
	base = strings.TrimSuffix(base, "/")
	n := strings.Count(r.Path, "/")
	if !isWild(last) {
		switch {
		case p == r.Path:
			return 2 * n, true
		case r.Recursive:
			return 2 * n, strings.HasPrefix(p, r.Path+"/")
		}
		return 2 * n, path.Dir(p) == r.Path && !dir
	}
	if !r.Recursive {
		return slowRank(n, last), path.Dir(p) == base && !dir && slowMatch(last, path.Base(p))
	}
	if allStars(last) {
		return 2*n - 1, strings.HasPrefix(p, base+"/")
	}
	return 2 * n, strings.HasPrefix(p, base+"/") && !dir && slowMatch(last, path.Base(p))
}

func slowRank(n int, last string) int {
	if allStars(last) {
		return 2*n - 1
	}
	return 2 * n
}

func slowMatch(pat, name string) bool {
	if pat == "" {
		return name == ""
	}
	switch pat[0] {
	case '*':
		return slowMatch(pat[1:], name) || name != "" && slowMatch(pat, dropRune(name))
	case '?':
		return name != "" && slowMatch(pat[1:], dropRune(name))
	}
	return name != "" && name[0] == pat[0] && slowMatch(pat[1:], name[1:])
}

func dropRune(s string) string {
	for i := range s {
		if i > 0 {
			return s[i:]
		}
	}
	return ""
}

// universe is every path of up to four components over three names.
var universe = func() []string {
	level, all := []string{""}, []string(nil)
	for range 4 {
		var next []string
		for _, p := range level {
			for _, n := range []string{"a", "ab", "b"} {
				next = append(next, p+"/"+n)
			}
		}
		level, all = next, append(all, next...)
	}
	return all
}()

func drawRules(t *rapid.T) []Rule {
	rule := rapid.Custom(func(t *rapid.T) Rule {
		p := "/" + strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "b"}), 1, 3).Draw(t, "dir"), "/")
		if last := rapid.SampledFrom([]string{"", "", "*", "a*", "*b", "?", "a?"}).Draw(t, "last"); last != "" {
			p += "/" + last
		}
		return Rule{p, rapid.Bool().Draw(t, "exclude"), rapid.Bool().Draw(t, "recursive")}
	})
	return append(rapid.SliceOfN(rule, 0, 6).Draw(t, "rules"), Rule{"/a", false, rapid.Bool().Draw(t, "first")})
}

// TestMatchesModel: the compiled rules say what the rules mean, for every path there is.
func TestMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		c, err := Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range universe {
			for _, dir := range []bool{false, true} {
				if got, want := c.Selects(p, dir), slow(rules, p, dir); got != want {
					t.Fatalf("Selects(%s, dir %t) = %t with %v", p, dir, got, rules)
				}
			}
		}
		checkLeads(t, c, rules)
		checkSameBelow(t, c, rules)
	})
}

// checkLeads: whatever is selected has directories that lead to it, and roots.
func checkLeads(t *rapid.T, c *Rules, rules []Rule) {
	roots := c.RootsFunc(func(string) bool { return false })
	for _, p := range universe {
		if !slow(rules, p, false) && !slow(rules, p, true) {
			continue
		}
		if slow(rules, p, true) && !c.Leads(p) {
			t.Fatalf("%s is selected but does not lead, with %v", p, rules)
		}
		for d := path.Dir(p); d != "/"; d = path.Dir(d) {
			if !c.Leads(d) {
				t.Fatalf("%s is selected but %s does not lead, with %v", p, d, rules)
			}
		}
		if !slices.ContainsFunc(roots, func(r string) bool { return Within(r, p) }) {
			t.Fatalf("%s is selected but in none of %v, with %v", p, roots, rules)
		}
	}
	for i, r := range roots {
		if i > 0 && Within(roots[i-1], r) {
			t.Fatalf("roots %v overlap", roots)
		}
	}
}

func checkSameBelow(t *rapid.T, c *Rules, rules []Rule) {
	a := rapid.SampledFrom(universe[:39]).Draw(t, "a")
	b := rapid.SampledFrom(universe[:39]).Draw(t, "b")
	if !c.SameBelow(a, b) {
		return
	}
	for _, s := range append([]string{""}, universe...) {
		for _, dir := range []bool{false, true} {
			if (s != "" || dir) && slow(rules, a+s, dir) != slow(rules, b+s, dir) {
				t.Fatalf("SameBelow(%s, %s) but %s differs with %v", a, b, s, rules)
			}
		}
	}
}

// TestViewAgrees: a view answers for relative paths what the rules answer for whole ones.
func TestViewAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := Compile(drawRules(t))
		if err != nil {
			t.Fatal(err)
		}
		root := rapid.SampledFrom(universe[:12]).Draw(t, "root")
		v := c.Under(root)
		for _, p := range append([]string{""}, universe[:39]...) {
			rel := strings.TrimPrefix(p, "/")
			if v.Selects(rel, true) != c.Selects(root+p, true) || v.Leads(rel) != c.Leads(root+p) ||
				p != "" && v.Selects(rel, false) != c.Selects(root+p, false) {
				t.Fatalf("view of %s differs at %q with %v", root, rel, c.rules)
			}
		}
	})
}

func TestMatchPattern(t *testing.T) {
	for _, c := range []struct {
		pat, name string
		want      bool
	}{
		{"*", "x", true}, {"*", ".hidden", true}, {"*.db", "a.db", true}, {"*.db", ".db", true},
		{"*.db", "a.dbx", false}, {"*.db", "A.DB", false}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "axxbyy", false},
		{"?", "x", true}, {"?", "", false}, {"?", "xy", false}, {"?", "é", true}, {"??", "é", false},
		{"*?", "é", true}, {"a?c", "a\xffc", true}, {"*é", "xé", true}, {"**", "x", true}, {"[a]*", "a", false},
		{`\*`, "*", false}, {"*a", strings.Repeat("a", 200), true},
	} {
		if got := match(c.pat, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %t", c.pat, c.name, got)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "axbyc")
	f.Fuzz(func(t *testing.T, pat, name string) {
		if len(pat) > 12 || len(name) > 16 || pat == "" {
			return
		}
		if strings.ToValidUTF8(pat, "") != pat {
			return
		}
		if got := match(pat, name); got != slowMatch(pat, name) {
			t.Errorf("match(%q, %q) = %t", pat, name, got)
		}
	})
}

// TestPrecedence: the examples of the behaviour pages.
func TestPrecedence(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		in, out     string // paths; a trailing slash is a directory
	}{
		{"B5.4", "/dir/* inc, rec", "/dir/f /dir/sub/ /dir/sub/f", "/dir/ /other"},
		{"B5.5", "/customer/*.db inc, rec", "/customer/a.db /customer/x/y/b.db", "/customer/a.txt /customer/x/ /customer/x.db/"},
		{"B5.6", "/dir inc, norec", "/dir/ /dir/f", "/dir/sub/f /dir/sub/"},
		{"B5.12", "/var/data inc, rec; /var/data/old inc, norec", "/var/data/old/sub/f /var/data/f", "/var/f"},
		{"B5.13", "/var/data inc, rec; /var/data/old exc, rec", "/var/data/f /var/data/older", "/var/data/old /var/data/old/sub/f"},
		{"B5.14 deeper again", "/d inc; /d/a exc; /d/a/b inc", "/d/x /d/a/b/c", "/d/a/ /d/a/c"},
		{"B5.14 tie", "/d inc, rec; /d/x exc, rec; /d/x inc, rec", "/d/y", "/d/x /d/x/y"},
		{"B5.15", "/d inc", "/d/x", "/e /dd /"},
		{"pattern excluded", "/srv/pay inc; /srv/pay/*.tmp exc", "/srv/pay/x /srv/pay/t.tmp/ /srv/pay/t.tmp/x", "/srv/pay/x.tmp /srv/pay/a/b.tmp"},
		{"name over star", "/d/* exc; /d/a inc", "/d/a /d/a/x", "/d/b /d/b/c"},
		{"star over directory", "/d inc; /d/* exc", "/d/", "/d/x /d/x/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, order := range [][]string{strings.Split(c.rules, ";"), reversed(strings.Split(c.rules, ";"))} {
				r := mustCompile(t, order...)
				for _, p := range strings.Fields(c.in) {
					expect(t, r, p, true)
				}
				for _, p := range strings.Fields(c.out) {
					expect(t, r, p, false)
				}
			}
		})
	}
}

func reversed(s []string) []string { s = slices.Clone(s); slices.Reverse(s); return s }

func expect(t *testing.T, r *Rules, p string, want bool) {
	t.Helper()
	clean := p
	if p != "/" {
		clean = strings.TrimSuffix(p, "/")
	}
	if got := r.Selects(clean, p != clean || p == "/"); got != want {
		t.Errorf("%s selected: %t, with %v", p, got, r.rules)
	}
}

func mustCompile(t testing.TB, lines ...string) *Rules {
	t.Helper()
	var rules []Rule
	for _, l := range lines {
		r, err := ParseRule(l)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	c, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLeadsAndSameBelow: the answers that must not be conservative.
func TestLeadsAndSameBelow(t *testing.T) {
	r := mustCompile(t, "/srv/pay inc", "/srv/pay/tmp exc", "/srv/pay/old inc, norec", "/srv/pay/*.bak exc", "/srv/log/*.log inc")
	for p, want := range map[string]bool{"/": true, "/srv": true, "/srv/pay": true, "/srv/pay/tmp": false, "/srv/pay/tmp/x": false,
		"/srv/pay/x": true, "/srv/log/a/b": true, "/home": false, "/srvx": false} {
		if r.Leads(p) != want {
			t.Errorf("Leads(%s) = %t", p, !want)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"/srv/pay/a", "/srv/pay/b/c", true}, {"/srv/pay/old", "/srv/pay/older", true}, {"/srv/pay/a", "/srv/pay/tmp", false},
		{"/srv/pay/a", "/srv/pay/tmp/a", false}, {"/srv/log/a", "/srv/log/b", true}, {"/srv/log/a", "/srv/pay/a", false},
		{"/srv", "/srv", true}, {"/home/a", "/etc/b", true}, {"/home/a", "/srv/pay/tmp/x", true},
	} {
		if r.SameBelow(c.a, c.b) != c.want || r.SameBelow(c.b, c.a) != c.want {
			t.Errorf("SameBelow(%s, %s) = %t", c.a, c.b, !c.want)
		}
	}
}

func TestMatchingAllocatesNothing(t *testing.T) {
	r := manyRules(t)
	v := r.Under("/srv/d7")
	n := testing.AllocsPerRun(100, func() {
		r.Selects("/srv/d7/one/two/three/file.tmp", false)
		r.Leads("/srv/d7/one")
		r.SameBelow("/srv/d7/one", "/srv/d7/two")
		v.Selects("one/two/file.dat", false)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func manyRules(t testing.TB) *Rules {
	var lines []string
	for i := range 500 {
		lines = append(lines, fmt.Sprintf("/srv/d%d inc", i), fmt.Sprintf("/srv/d%d/*.tmp exc", i))
	}
	return mustCompile(t, lines...)
}

func BenchmarkSelects(b *testing.B) {
	r := manyRules(b)
	for b.Loop() {
		r.Selects("/srv/d7/one/two/three/file.dat", false)
	}
}

func TestEverything(t *testing.T) {
	for _, tc := range []struct {
		rules []string
		dir   string
		want  bool
	}{
		{[]string{"/a inc, rec"}, "/a", true},
		{[]string{"/a inc, rec"}, "/a/b/c", true},
		{[]string{"/a inc, rec"}, "/", false},
		{[]string{"/a inc, rec", "/a/b exc, rec"}, "/a", false},
		{[]string{"/a inc, rec", "/a/b exc, rec"}, "/a/c", true},
		{[]string{"/a inc, rec", "/a/*.tmp exc, rec"}, "/a", false},
		{[]string{"/a/*.db inc, rec"}, "/a", false},
		{[]string{"/a inc, norec"}, "/a", false},
	} {
		var rules []Rule
		for _, s := range tc.rules {
			r, err := ParseRule(s)
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, r)
		}
		c, err := Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Everything(tc.dir); got != tc.want {
			t.Errorf("%v: everything below %s: %t", tc.rules, tc.dir, got)
		}
	}
}
