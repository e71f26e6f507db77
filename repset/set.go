package repset

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxRules bounds the rules of one set, so that a peer or a file cannot make
// compiling one expensive.
const MaxRules = 10000

// Errors of sets.
var (
	ErrName       = errors.New("bad name of a replication set")
	ErrNoRules    = errors.New("replication set without an include rule")
	ErrRuleExists = errors.New("rule exists already")
	ErrNoRule     = errors.New("no such rule")
	ErrChanged    = errors.New("replication set was changed by someone else")
)

// Set is a replication set as it is stored and travels: plain data. The zero
// Generation is a set that was never saved.
type Set struct {
	Name       string `json:"name" yaml:"name"`
	Generation uint64 `json:"generation,omitempty" yaml:"generation,omitempty"`
	Rules      []Rule `json:"rules" yaml:"rules"`
}

// Check reports everything wrong with the set's name and rules.
func (s Set) Check() error {
	errs := []error{CheckName(s.Name)}
	if _, err := Compile(s.Rules); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("replication set %q: %w", s.Name, err)
	}
	return nil
}

// CheckName refuses what cannot be the name of a set: it becomes a directory on the
// target (all-to-one mapping) and a word of the shell.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrName)
	case len(name) > 128:
		return fmt.Errorf("%w: %d bytes, at most 128", ErrName, len(name))
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("%w: %q begins with %q", ErrName, name, name[:1])
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %q is not UTF-8", ErrName, name)
	}
	for _, c := range name {
		if !unicode.IsPrint(c) || strings.ContainsRune(`/"*?`, c) {
			return fmt.Errorf("%w: %q holds %q", ErrName, name, c)
		}
	}
	return nil
}

// Compile prepares the set's rules for matching.
func (s Set) Compile() (*Rules, error) {
	r, err := Compile(s.Rules)
	if err != nil {
		return nil, fmt.Errorf("replication set %q: %w", s.Name, err)
	}
	return r, nil
}

// Add appends a rule. Rules of one path that differ in type or depth may stand beside
// each other; ErrRuleExists is for the very same rule.
func (s *Set) Add(r Rule) error {
	if err := r.Check(); err != nil {
		return err
	}
	if slices.Contains(s.Rules, r) {
		return fmt.Errorf("add %s to %s: %w", r, s.Name, ErrRuleExists)
	}
	s.Rules = append(s.Rules, r)
	return nil
}

// Remove takes a rule out.
func (s *Set) Remove(r Rule) error {
	i := slices.Index(s.Rules, r)
	if i < 0 {
		return fmt.Errorf("remove %s from %s: %w", r, s.Name, ErrNoRule)
	}
	s.Rules = slices.Delete(slices.Clone(s.Rules), i, i+1)
	return nil
}

// Save returns edited as the next generation of s. It refuses an edit that began from
// another generation: two people edited the set at once.
func (s Set) Save(edited Set) (Set, error) {
	if edited.Generation != s.Generation {
		return s, fmt.Errorf("save %s: %w: the edit began at generation %d, the stored one is %d; load it again", s.Name, ErrChanged, edited.Generation, s.Generation)
	}
	if err := edited.Check(); err != nil {
		return s, err
	}
	edited.Rules = slices.Clone(edited.Rules)
	edited.Generation++
	return edited, nil
}
