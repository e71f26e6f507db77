package verifier

import "strings"

func join(dir, name string) string {
	switch {
	case dir == "":
		return name
	case name == "":
		return dir
	case dir == "/":
		return "/" + name
	}
	return dir + "/" + name
}

// abs is the absolute path of a path relative to the tree.
func (r *Root) abs(rel string) string { return join(r.TreePath, rel) }

// rel is the set's root directory relative to the tree.
func (r *Root) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.Dir, r.TreePath), "/")
}

// carries reports whether the object at the tree-relative path is in the set.
func (v *Verifier) carries(root *Root, rel string, dir bool) bool {
	at := root.abs(rel)
	if at == root.Dir {
		return dir
	}
	if !strings.HasPrefix(at, strings.TrimSuffix(root.Dir, "/")+"/") {
		return false
	}
	if dir {
		return v.cfg.Rules.Leads(at)
	}
	return v.cfg.Rules.Selects(at, false)
}
