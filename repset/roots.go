package repset

import (
	"os"
	"path"
	"slices"
	"strings"
)

// Roots returns the least set of topmost directories that hold everything selected,
// sorted. A rule with a wild card roots at its directory, a rule for a single file at
// the file's directory (which may be / and then cannot be captured). What is a file is
// looked up on this machine; a path that does not exist yet counts as a directory.
func (r *Rules) Roots() []string {
	return r.RootsFunc(func(p string) bool {
		st, err := os.Lstat(p)
		return err == nil && !st.IsDir()
	})
}

// RootsFunc is Roots with the caller's knowledge of which paths are files.
func (r *Rules) RootsFunc(isFile func(path string) bool) []string {
	var dirs []string
	for _, rule := range r.rules {
		if rule.Exclude {
			continue
		}
		dir, pat, _ := rule.split() // checked by Compile
		dir = "/" + dir
		file := pat == "" && isFile(dir)
		switch {
		case file && !r.Selects(dir, false), !file && !r.Leads(dir):
			continue // an exclude rule of the same path undoes it
		case file:
			dir = path.Dir(dir)
		}
		dirs = append(dirs, dir)
	}
	slices.SortFunc(dirs, compareComponents)
	var roots []string
	for _, d := range dirs {
		if len(roots) == 0 || !Within(roots[len(roots)-1], d) {
			roots = append(roots, d)
		}
	}
	slices.Sort(roots)
	return roots
}

// compareComponents orders paths so that a directory stands directly before what is
// in it: "/a/b" before "/a-b".
func compareComponents(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// Within reports whether p is dir or lies below it. Both are absolute and clean;
// names are compared whole, so /ab is not within /a.
func Within(dir, p string) bool {
	return dir == "/" || p == dir || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}
