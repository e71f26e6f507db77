package sametree

import "fmt"

// links compares which common names are names of one file.
func (d *differ) links() {
	fa, fb := leaders(d.a, d.common), leaders(d.b, d.common)
	for _, p := range d.common {
		if fa[p] != fb[p] {
			d.add(p, "hard link: %s, %s", showLeader(p, fa[p]), showLeader(p, fb[p]))
		}
	}
}

// leaders gives for each path the first path of the same file.
func leaders(t *Tree, paths []string) map[string]string {
	first := map[[2]uint64]string{}
	out := make(map[string]string, len(paths))
	for _, p := range paths {
		n := t.Nodes[p]
		if _, ok := first[n.ID]; !ok {
			first[n.ID] = p
		}
		out[p] = first[n.ID]
	}
	return out
}

func showLeader(p, leader string) string {
	if p == leader {
		return "a file of its own"
	}
	return fmt.Sprintf("same file as %q", leader)
}
