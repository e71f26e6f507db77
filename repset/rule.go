package repset

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a rule: the system's own (PATH_MAX, NAME_MAX), in bytes.
const (
	MaxPath = 4096
	MaxName = 255
)

// Errors of rules and sets, wrapped with the rule and the remedy.
var (
	ErrSyntax   = errors.New("not a rule")
	ErrPath     = errors.New("bad path in a rule")
	ErrRootPath = errors.New("the root of the file system cannot be protected")
)

// Rule includes or excludes a path; see the package comment for what it covers.
type Rule struct {
	Path      string
	Exclude   bool
	Recursive bool
}

// String is the written form: path inc, rec. ParseRule reads it back.
func (r Rule) String() string {
	kind, depth := "inc", "norec"
	if r.Exclude {
		kind = "exc"
	}
	if r.Recursive {
		depth = "rec"
	}
	return quote(r.Path) + " " + kind + ", " + depth
}

// quote puts a path in quotes where it would not be read back as one word.
func quote(path string) string {
	if path != "" && !strings.ContainsAny(path, " \t\r\n\v\f\",#;$") {
		return path
	}
	return `"` + strings.ReplaceAll(path, `"`, `""`) + `"`
}

// ParseRule reads the written form: a path, quoted if it holds blanks or commas (a
// quote inside is doubled), then in any case and order inc or exc (include, exclude)
// and rec or norec (recursive, nonrec, nonrecursive), divided by blanks or commas. A
// rule that does not say includes, and is recursive. The path is not checked; Compile
// does.
func ParseRule(s string) (Rule, error) {
	path, rest, err := cutPath(strings.TrimSpace(s))
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", s, err)
	}
	r := Rule{Path: path, Recursive: true}
	var kind, depth bool
	words := strings.FieldsFunc(rest, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	for _, w := range words {
		var twice bool
		switch strings.ToLower(w) {
		case "inc", "include":
			twice, kind = kind, true
		case "exc", "exclude":
			twice, kind, r.Exclude = kind, true, true
		case "rec", "recursive":
			twice, depth = depth, true
		case "norec", "nonrec", "nonrecursive":
			twice, depth, r.Recursive = depth, true, false
		default:
			return Rule{}, fmt.Errorf("rule %q: %w: %q is neither inc, exc, rec nor norec (quote a path that holds blanks or commas)", s, ErrSyntax, w)
		}
		if twice {
			return Rule{}, fmt.Errorf("rule %q: %w: %q says again what an earlier word said", s, ErrSyntax, w)
		}
	}
	return r, nil
}

// cutPath takes the path off the front of a written rule.
func cutPath(s string) (path, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexAny(s, " \t,"); i >= 0 {
			s, rest = s[:i], s[i:]
		}
		if s == "" {
			return "", "", fmt.Errorf("%w: no path", ErrSyntax)
		}
		if strings.Contains(s, `"`) {
			return "", "", fmt.Errorf("%w: a quote inside the path (quote the whole path and double it)", ErrSyntax)
		}
		return s, rest, nil
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		if rest = s[i+1:]; rest != "" && !strings.ContainsAny(rest[:1], " \t,") {
			return "", "", fmt.Errorf("%w: no blank after the closing quote", ErrSyntax)
		}
		return b.String(), rest, nil
	}
	return "", "", fmt.Errorf("%w: no closing quote", ErrSyntax)
}

// MarshalText writes the rule as String does, so that a rule is one line in a YAML or
// JSON file.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what ParseRule reads.
func (r *Rule) UnmarshalText(b []byte) error {
	p, err := ParseRule(string(b))
	if err == nil {
		*r = p
	}
	return err
}

// Check says what is wrong with the rule's path.
func (r Rule) Check() error {
	_, _, err := r.split()
	return err
}

// split checks the path and divides it: dir is the clean literal part without its
// leading slash, pat the last component if it holds wild cards.
func (r Rule) split() (dir, pat string, err error) {
	bad := func(format string, args ...any) (string, string, error) {
		return "", "", fmt.Errorf("rule %s: %w: %s", r, ErrPath, fmt.Sprintf(format, args...))
	}
	p := r.Path
	switch {
	case p == "":
		return bad("it is empty")
	case p[0] != '/':
		return bad("%q is relative; give it from the root, as in /%s", p, strings.TrimPrefix(p, "./"))
	case len(p) > MaxPath:
		return bad("%d bytes, the system takes %d", len(p), MaxPath)
	case strings.ContainsRune(p, 0):
		return bad("it holds a zero byte")
	case !utf8.ValidString(p):
		return bad("it is not UTF-8; write ? for a byte that is not")
	}
	var comps []string
	for _, c := range strings.Split(p, "/") {
		if c == "" {
			continue // double and trailing slashes mean nothing
		}
		if c == "." || c == ".." {
			return bad("component %q; name the directory itself", c)
		}
		if len(c) > MaxName {
			return bad("a name of %d bytes, the system takes %d", len(c), MaxName)
		}
		comps = append(comps, c)
	}
	for i, c := range comps {
		if !isWild(c) {
			continue
		}
		if i < len(comps)-1 {
			return bad("wild card in %q, which is not the last component; make a rule for each directory", c)
		}
		comps, pat = comps[:i], c
	}
	if len(comps) == 0 {
		return "", "", fmt.Errorf("rule %s: %w; protect the directories below it one by one", r, ErrRootPath)
	}
	return strings.Join(comps, "/"), pat, nil
}

func isWild(s string) bool { return strings.ContainsAny(s, "*?") }
