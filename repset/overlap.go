package repset

import "fmt"

// Overlap says that two places which must lie apart do not: changes would go round in
// circles, or two sources would write over each other.
type Overlap struct {
	A, WhatA string // a path and what it is
	B, WhatB string
	Remedy   string
}

func (e *Overlap) Error() string {
	how := "lies inside"
	switch {
	case e.A == e.B:
		how = "is also"
	case Within(e.A, e.B):
		how = "contains"
	}
	return fmt.Sprintf("%s %s %s %s %s; %s", e.WhatA, e.A, how, e.WhatB, e.B, e.Remedy)
}

func overlaps(a, b string) bool { return Within(a, b) || Within(b, a) }

// All checks below compare whole components of the paths they are given and do not
// look at the file system: callers resolve symbolic links first (of a path that does
// not exist yet, of its nearest existing parent).

// CheckPairs refuses what is wrong on any machine: the root of the file system as a
// root of the set or as its place on the target, and two roots that go to places
// inside one another.
func CheckPairs(pairs []Pair) error {
	for i, p := range pairs {
		if p.From == "/" {
			return fmt.Errorf("%w; protect the directories below it one by one", ErrRootPath)
		}
		if p.To == "/" {
			return fmt.Errorf("%w: %s would go to the root of the target's file system; name a directory", ErrMapping, p.From)
		}
		for _, q := range pairs[:i] {
			if overlaps(p.To, q.To) {
				return &Overlap{p.To, "target path of " + p.From, q.To, "target path of " + q.From,
					"map them to directories that lie apart"}
			}
		}
	}
	return nil
}

// CheckSameMachine refuses, for a source that is its own target, a target path inside
// the replication set and the reverse. The rules do not matter: an excluded directory
// below a captured one lies behind the capture's own mount.
func CheckSameMachine(pairs []Pair) error {
	for _, p := range pairs {
		for _, q := range pairs {
			if p.From == q.From && p.To == p.From {
				return &Overlap{p.To, "target path", p.From, "root of the replication set",
					"one-to-one mapping needs a second machine: choose a base or custom path"}
			}
			if overlaps(p.To, q.From) {
				return &Overlap{p.To, "target path", q.From, "root of the replication set",
					"choose a target path that neither lies in " + q.From + " nor contains it"}
			}
		}
	}
	return nil
}

// CheckBothWays refuses two machines that protect each other in a circle: out is what
// this machine sends, back what it receives from the same peer.
func CheckBothWays(out, back []Pair) error {
	for _, o := range out {
		for _, b := range back {
			if overlaps(o.To, b.From) {
				return loop(o.To, b.From)
			}
			if overlaps(b.To, o.From) {
				return loop(b.To, o.From)
			}
		}
	}
	return nil
}

func loop(to, from string) error {
	return &Overlap{to, "target path", from, "root of the replication set of the other direction",
		"changes would go round in circles: choose another target path, or undo the other direction"}
}

// Claim is a target path and who writes to it ("alpha, set pay").
type Claim struct{ Owner, Path string }

// CheckClaims refuses a new target path that overlaps one another owner writes to.
func CheckClaims(have []Claim, add Claim) error {
	for _, c := range have {
		if c.Owner != add.Owner && overlaps(c.Path, add.Path) {
			return &Overlap{add.Path, "target path of " + add.Owner, c.Path, "target path of " + c.Owner,
				"map one of them elsewhere (a base mapping keeps sources apart by name)"}
		}
	}
	return nil
}
