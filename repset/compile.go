package repset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Rules are compiled rules. They do not change; any number of goroutines may use them.
type Rules struct {
	top   View
	rules []Rule
}

// Rules returns the rules as they were given.
func (r *Rules) Rules() []Rule { return slices.Clone(r.rules) }

// node is a literal component of some rule's path.
type node struct {
	children map[string]*node
	plain    []Rule // rules whose path ends here
	wild     []Rule // rules whose wild card stands directly below

	in       chain // decides about files directly in this directory
	below    chain // decides about files deeper down, where no child node stands
	selfDir  bool  // the path of this node is selected if it is a directory,
	selfFile bool  // if it is anything else
	leads    bool  // as a directory it is selected or may hold something selected
}

// link is one rule as it bears on the files of a directory: the first link whose
// pattern matches decides.
type link struct {
	pat     string // "" matches every name
	include bool
	rank    int
}

// before orders links: the more specific first, of two alike exclude.
func (l link) before(m link) bool {
	if l.rank != m.rank {
		return l.rank > m.rank
	}
	return !l.include && m.include
}

// chain is what can decide about a file in a directory.
type chain struct {
	pats  []link // in the order they are asked
	files bool   // for files no pattern matches
	dirs  bool   // for directories
	class int    // equal numbers select the same names
}

// Ranks: a path of k components has 2k; with a wild card in its last component too,
// but 2k-1 if that is * alone.
func rankPlain(depth int) int { return 2 * depth }

func rankWild(depth int, pat string) int {
	if allStars(pat) {
		return 2*depth + 1
	}
	return 2*depth + 2
}

func allStars(pat string) bool { return strings.Trim(pat, "*") == "" }

// Compile checks rules and prepares them for matching. All rules that are wrong are
// reported at once (errors.Join). A set must include something.
func Compile(rules []Rule) (*Rules, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%d rules, at most %d", len(rules), MaxRules)
	}
	var errs []error
	include := false
	root := &node{}
	for _, r := range rules {
		dir, pat, err := r.split()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		include = include || !r.Exclude
		n := root
		for _, c := range strings.Split(dir, "/") {
			n = n.child(c)
		}
		if pat == "" {
			n.plain = append(n.plain, r)
		} else {
			n.wild = append(n.wild, Rule{pat, r.Exclude, r.Recursive})
		}
	}
	if len(errs) == 0 && !include {
		errs = append(errs, fmt.Errorf("%w: nothing would be protected", ErrNoRules))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	b := builder{classes: map[string]int{}}
	b.build(root, 0, nil, link{rank: -1})
	return &Rules{View{n: root}, slices.Clone(rules)}, nil
}

func (n *node) child(name string) *node {
	c := n.children[name]
	if c == nil {
		if n.children == nil {
			n.children = map[string]*node{}
		}
		c = &node{}
		n.children[name] = c
	}
	return c
}

type builder struct{ classes map[string]int }

// build fills in a node at depth and everything below. pats are the recursive wild
// cards of its ancestors, sub is the rule for whole trees that reaches down to here.
func (b *builder) build(n *node, depth int, pats []link, sub link) {
	var local []link // wild cards and non-recursive rules for this directory alone
	pats = slices.Clone(pats)
	for _, r := range n.plain {
		l := link{"", !r.Exclude, rankPlain(depth)}
		if !r.Recursive {
			local = append(local, l)
		} else if l.before(sub) {
			sub = l
		}
	}
	for _, r := range n.wild {
		l := link{r.Path, !r.Exclude, rankWild(depth, r.Path)}
		if allStars(l.pat) {
			l.pat = ""
		}
		switch {
		case !r.Recursive:
			local = append(local, l)
		case l.pat != "":
			pats = append(pats, l)
		case l.before(sub):
			sub = l
		}
	}
	in := sortLinks(append(local, pats...), sub)
	for name, c := range n.children {
		c.selfDir, c.selfFile = judge(c, name, depth+1, in, sub)
		b.build(c, depth+1, pats, sub)
	}
	n.in = b.chain(in, sub.include)
	n.below = b.chain(sortLinks(pats, sub), sub.include)
	n.settle()
}

// sortLinks brings links into the order they are asked and cuts off those that an
// earlier one always forestalls. The last link matches everything.
func sortLinks(links []link, sub link) []link {
	all := append(slices.Clone(links), link{"", sub.include, sub.rank})
	slices.SortStableFunc(all, func(a, b link) int {
		if a.before(b) {
			return -1
		}
		if b.before(a) {
			return 1
		}
		return strings.Compare(a.pat, b.pat)
	})
	var out []link
	for _, l := range all {
		if !slices.ContainsFunc(out, func(o link) bool { return o.pat == l.pat }) {
			out = append(out, l)
		}
		if l.pat == "" {
			break
		}
	}
	return out
}

// judge decides about the path of node c itself, which lies in a directory of links in.
func judge(c *node, name string, depth int, in []link, sub link) (dir, file bool) {
	dir = sub.include
	decided := in[slices.IndexFunc(in, func(l link) bool { return match(l.pat, name) })]
	for _, r := range c.plain {
		own := link{"", !r.Exclude, rankPlain(depth)}
		if own.before(sub) {
			sub, dir = own, own.include
		}
		if own.before(decided) {
			decided = own
		}
	}
	return dir, decided.include
}

// chain makes a chain in its shortest form, so that equal ones are found equal.
func (b *builder) chain(links []link, dirs bool) chain {
	last := len(links) - 1
	c := chain{files: links[last].include, dirs: dirs}
	for last > 0 && links[last-1].include == c.files {
		last--
	}
	c.pats = links[:last:last]
	key := fmt.Sprint(c.files, c.dirs)
	for _, l := range c.pats {
		key += fmt.Sprintf("/%s/%t", l.pat, l.include)
	}
	if _, ok := b.classes[key]; !ok {
		b.classes[key] = len(b.classes)
	}
	c.class = b.classes[key]
	return c
}

// may reports whether the chain can select anything.
func (c *chain) may() bool {
	return c.files || c.dirs || slices.ContainsFunc(c.pats, func(l link) bool { return l.include })
}

// all reports whether the chain selects every name.
func (c *chain) all() bool { return c.files && c.dirs && len(c.pats) == 0 }

// settle drops children that change nothing (a lower rule that repeats an upper one)
// and works out whether the directory leads anywhere.
func (n *node) settle() {
	n.leads = n.selfDir || n.in.may() || n.below.may()
	for name, c := range n.children {
		same := len(c.children) == 0 && c.in.class == n.below.class && c.below.class == n.below.class &&
			c.selfDir == n.in.dirs && c.selfFile == n.in.selects(name)
		if same {
			delete(n.children, name)
			continue
		}
		n.leads = n.leads || c.leads
	}
}
