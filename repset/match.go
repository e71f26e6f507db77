package repset

import (
	"strings"
	"unicode/utf8"
)

// View answers for the paths below one directory, given relative to it ("" is the
// directory itself), so that callers that know relative paths need not join them.
type View struct {
	n    *node
	deep bool // the directory lies below n's, where no rule's path leads
}

// Selects reports whether the rules select path, which must be absolute and clean. dir
// says that it is a directory. It allocates nothing.
func (r *Rules) Selects(path string, dir bool) bool {
	return strings.HasPrefix(path, "/") && r.top.Selects(path[1:], dir)
}

// Leads reports whether a directory is selected or something below it may be, so that
// it has to exist on the target. It errs towards true.
func (r *Rules) Leads(dir string) bool {
	return strings.HasPrefix(dir, "/") && r.top.Leads(dir[1:])
}

// SameBelow reports that of two directories a and b the same is selected: they
// themselves or neither, and for every s, a/s and b/s or neither. So a rename from one
// to the other does not cross the border of the set. It errs towards false: always
// true is right only where no rule names a or b or something below them, or a is b.
func (r *Rules) SameBelow(a, b string) bool {
	return strings.HasPrefix(a, "/") && strings.HasPrefix(b, "/") && r.top.SameBelow(a[1:], b[1:])
}

// Everything reports that dir and all below it is selected. It errs towards false.
func (r *Rules) Everything(dir string) bool {
	if !strings.HasPrefix(dir, "/") {
		return false
	}
	n, rest := r.top.walk(dir[1:])
	if rest != "" {
		return n.below.all()
	}
	return n.selfDir && len(n.children) == 0 && n.in.all() && n.below.all()
}

// Under returns the view of the directory dir.
func (r *Rules) Under(dir string) View {
	n, rest := r.top.walk(strings.TrimPrefix(dir, "/"))
	return View{n, rest != ""}
}

// walk goes down from v along path as far as there are nodes.
func (v View) walk(path string) (n *node, rest string) {
	n = v.n
	if v.deep {
		return n, path
	}
	for path != "" {
		name, next := path, ""
		if i := strings.IndexByte(path, '/'); i >= 0 {
			name, next = path[:i], path[i+1:]
		}
		c := n.children[name]
		if c == nil {
			return n, path
		}
		n, path = c, next
	}
	return n, ""
}

// Selects is Rules.Selects for a path relative to v.
func (v View) Selects(path string, dir bool) bool {
	n, rest := v.walk(path)
	switch {
	case dir && (rest != "" || v.deep):
		return n.below.dirs
	case dir:
		return n.selfDir
	case rest == "":
		return n.selfFile && !v.deep
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 && !v.deep {
		return n.in.selects(rest)
	}
	return n.below.selects(rest[i+1:])
}

// Leads is Rules.Leads for a path relative to v.
func (v View) Leads(dir string) bool {
	n, rest := v.walk(dir)
	if rest == "" && !v.deep {
		return n.leads
	}
	return n.below.may()
}

// SameBelow is Rules.SameBelow for paths relative to v.
func (v View) SameBelow(a, b string) bool {
	if a == b {
		return true
	}
	na, ra := v.walk(a)
	nb, rb := v.walk(b)
	if !v.deep && (ra == "" || rb == "") {
		return false
	}
	return na.below.class == nb.below.class
}

// selects asks the chain about a file name.
func (c *chain) selects(name string) bool {
	for i := range c.pats {
		if match(c.pats[i].pat, name) {
			return c.pats[i].include
		}
	}
	return c.files
}

// match reports whether name matches pat, in which * stands for any run of bytes and
// ? for one character (one byte where that is not UTF-8). The empty pattern matches
// everything.
func match(pat, name string) bool {
	if pat == "" {
		return true
	}
	p, n := 0, 0
	star, retry := -1, 0 // the last * seen, and where in name its run ends so far
	for n < len(name) {
		switch {
		case p < len(pat) && pat[p] == '*':
			star, retry = p, n
			p++
		case p < len(pat) && pat[p] == '?':
			_, w := utf8.DecodeRuneInString(name[n:])
			p, n = p+1, n+w
		case p < len(pat) && pat[p] == name[n]:
			p, n = p+1, n+1
		case star >= 0:
			// A longer run for the last *. Whole characters, so that ? after it
			// cannot match the tail of one.
			_, w := utf8.DecodeRuneInString(name[retry:])
			retry += w
			p, n = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pat[p:], "*") == ""
}
