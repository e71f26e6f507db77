package node

import (
	"slices"
	"strings"

	"understudy/repset"
)

// remapLinks is how the targets of symbolic links are rewritten on their way (RemapLink,
// B5.31); nil: they stay as they are. A restoration is a connection from the replica's
// places to the original ones, so there it works in reverse (B12.19).
func (c *Connection) remapLinks() func(path, target string) string {
	moved := slices.ContainsFunc(c.pairs, func(p repset.Pair) bool { return p.From != p.To })
	if !moved || !c.n.conf().RemapLink {
		return nil
	}
	return func(_, target string) string { return remapped(c.pairs, c.currentRules(), target) }
}

// remapped is the target of a link on the other machine. Only an absolute path that names
// something of the set, step by step downwards, is rewritten: where it leads does then not
// depend on where the link is, so that a link may be renamed.
func remapped(pairs []repset.Pair, rules *repset.Rules, target string) string {
	best := -1
	for i, p := range pairs {
		if repset.Within(p.From, strings.TrimRight(target, "/")) && (best < 0 || len(p.From) > len(pairs[best].From)) {
			best = i
		}
	}
	if best < 0 {
		return target
	}
	at := strings.TrimRight(target, "/")
	for _, step := range strings.Split(at[1:], "/") {
		if step == "" || step == "." || step == ".." {
			return target
		}
	}
	p := pairs[best]
	if at != p.From && !rules.Leads(at) && !rules.Selects(at, false) {
		return target
	}
	return p.To + strings.TrimPrefix(target, p.From)
}
