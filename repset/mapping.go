package repset

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// ErrMapping is wrapped by every error of a mapping.
var ErrMapping = errors.New("no place on the target")

// Mapping says where the roots of a set go on the target.
type Mapping interface {
	// Map returns the target path of a root. Both are absolute and clean.
	Map(root string) (string, error)
	// String names the mapping for people.
	String() string
}

// Exact keeps the source's path (one-to-one).
type Exact struct{}

// Map returns root.
func (Exact) Map(root string) (string, error) {
	if err := checkAbs(root); err != nil {
		return "", fmt.Errorf("exact mapping: %w", err)
	}
	return root, nil
}

func (Exact) String() string { return "exact" }

// Base puts everything below one directory of the target (all-to-one):
// Dir/Source/Set/path on the source. Source and Set keep several sources apart.
type Base struct{ Dir, Source, Set string }

// Map returns the path below Dir.
func (b Base) Map(root string) (string, error) {
	for what, name := range map[string]string{"source name": b.Source, "replication set name": b.Set} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > MaxName {
			return "", fmt.Errorf("base mapping: %w: %s %q cannot be a directory", ErrMapping, what, name)
		}
	}
	if err := errors.Join(checkAbs(b.Dir), checkAbs(root)); err != nil {
		return "", fmt.Errorf("base mapping: %w", err)
	}
	return path.Join(b.Dir, b.Source, b.Set, root), nil
}

func (b Base) String() string { return "base " + b.Dir }

// Pair is a directory on the source and where it goes on the target.
type Pair struct {
	From string `json:"from" yaml:"from"`
	To   string `json:"to" yaml:"to"`
}

// Custom gives each root, or a directory above several, a place of its own.
type Custom []Pair

// Map applies the pair with the longest From at or above root.
func (c Custom) Map(root string) (string, error) {
	best := -1
	for i, p := range c {
		if err := errors.Join(checkAbs(p.From), checkAbs(p.To)); err != nil {
			return "", fmt.Errorf("custom mapping of %q: %w", p.From, err)
		}
		if Within(p.From, root) && (best < 0 || len(p.From) > len(c[best].From)) {
			best = i
		} else if best >= 0 && p.From == c[best].From && p.To != c[best].To {
			return "", fmt.Errorf("custom mapping: %w: %s goes to %s and to %s; keep one", ErrMapping, p.From, c[best].To, p.To)
		}
	}
	if best < 0 {
		return "", fmt.Errorf("custom mapping: %w: nothing says where %s goes; add a pair for it", ErrMapping, root)
	}
	return path.Join(c[best].To, strings.TrimPrefix(root, c[best].From)), nil
}

func (c Custom) String() string {
	var s []string
	for _, p := range c {
		s = append(s, p.From+" to "+p.To)
	}
	return "custom " + strings.Join(s, ", ")
}

// MapAll maps every root.
func MapAll(m Mapping, roots []string) ([]Pair, error) {
	pairs := make([]Pair, 0, len(roots))
	for _, r := range roots {
		to, err := m.Map(r)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, Pair{r, to})
	}
	return pairs, nil
}

func checkAbs(p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p || strings.ContainsRune(p, 0) {
		return fmt.Errorf("%w: %q is not a clean absolute path", ErrMapping, p)
	}
	return nil
}
