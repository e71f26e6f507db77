package console

import (
	"context"
	"regexp"
	"sort"
	"strings"
	"time"

	"understudy/dtclsh/interp"
	"understudy/dtclsh/syntax"
)

// Namer knows what can be named; *interp.Interp is one. What it cannot find out in time
// it leaves out.
type Namer interface {
	Names(ctx context.Context) (sets, cons, machines []string)
	Monitors(ctx context.Context) []string
	Paths(ctx context.Context, prefix string) []string
	TargetPaths(ctx context.Context, target, prefix string) []string
}

// Completer completes keywords and settings from the tables, and names and paths by
// asking the machines. It is for one goroutine.
type Completer struct {
	namer Namer

	asked time.Time // names are asked again after namesFresh
	lists [4][]string
}

const (
	namesFresh = 5 * time.Second
	// namesPatience bounds how long a press of Tab may hang on a slow link.
	namesPatience = 2 * time.Second
)

// NewCompleter asks in for names.
func NewCompleter(in *interp.Interp) *Completer { return &Completer{namer: in} }

// Complete lists what the word before pos may become; head and tail stay.
func (c *Completer) Complete(line string, pos int) (head string, list []string, tail string) {
	runes := []rune(line)
	pos = min(pos, len(runes))
	before, tail := string(runes[:pos]), string(runes[pos:])
	head, word, quoted := lastWord(before)
	next := syntax.Next(head)
	if !quoted {
		for _, w := range next.Words {
			list = appendFit(list, word, matchCase(w, word))
		}
	}
	for _, kind := range next.Kinds {
		switch kind {
		case "path", "targetpath":
			list = append(list, c.pathsOf(kind, head, word, quoted)...)
		default:
			for _, name := range c.namesOf(kind) {
				if quoted || mustQuote(name) {
					name = `"` + name + `"`
				}
				list = appendFit(list, word, name)
			}
		}
	}
	return head, list, tail
}

// lastWord splits what stands before the cursor in front of the word that is being
// typed. Of a string that is not closed, the word is what stands behind its mark.
func lastWord(before string) (head, word string, quoted bool) {
	start, open := 0, -1
	for i, r := range before {
		switch {
		case r == '"' && open < 0:
			open = i
		case r == '"':
			open, start = -1, i+1
		case open < 0 && strings.ContainsRune(" \t;,=(", r):
			start = i + 1
		}
	}
	if open >= 0 {
		return before[:open], before[open+1:], true
	}
	return before[:start], before[start:], false
}

func appendFit(list []string, word, candidate string) []string {
	plain := strings.TrimPrefix(candidate, `"`)
	if len(plain) >= len(word) && strings.EqualFold(plain[:len(word)], word) {
		return append(list, candidate+" ")
	}
	return list
}

// matchCase writes a keyword as the user began it: in capitals, or small.
func matchCase(keyword, word string) string {
	if word != "" && word == strings.ToUpper(word) {
		return keyword
	}
	return strings.ToLower(keyword)
}

// namesOf lists the names of a kind of value.
func (c *Completer) namesOf(kind string) []string {
	place := map[string]int{"set": 0, "con": 1, "cons": 1, "machine": 2, "monitor": 3}
	i, known := place[kind]
	switch {
	case kind == "command":
		return commandNames()
	case kind == "setting":
		return interp.SettingNames()
	case kind == "localsetting":
		return interp.LocalNames()
	case !known:
		return nil
	}
	if time.Since(c.asked) > namesFresh {
		ctx, cancel := context.WithTimeout(context.Background(), namesPatience)
		defer cancel()
		c.lists[0], c.lists[1], c.lists[2] = c.namer.Names(ctx)
		c.lists[3] = c.namer.Monitors(ctx)
		c.asked = time.Now()
	}
	if kind == "cons" {
		return append([]string{"*"}, c.lists[i]...)
	}
	return c.lists[i]
}

// towards finds the target that a CONNECT or RESTORE on the line names.
var towards = regexp.MustCompile(`(?i)\b(?:to|from)\s+"?([^\s"]+)`)

// pathsOf lists paths that begin with word. A directory is left open, so that one can go
// on with what is in it.
func (c *Completer) pathsOf(kind, head, word string, quoted bool) (out []string) {
	if !strings.HasPrefix(word, "/") {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), namesPatience)
	defer cancel()
	var paths []string
	if kind == "path" {
		paths = c.namer.Paths(ctx, word)
	} else {
		target := ""
		if m := towards.FindStringSubmatch(head); m != nil {
			target = m[1]
		}
		paths = c.namer.TargetPaths(ctx, target, word)
	}
	for _, p := range paths {
		if strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' }) {
			continue // it cannot be typed
		}
		mark := ""
		if quoted || mustQuote(p) {
			mark = `"`
		}
		if strings.HasSuffix(p, "/") {
			out = append(out, mark+p)
		} else {
			out = append(out, mark+p+mark+" ")
		}
	}
	return out
}

// mustQuote reports whether a name is no bare word.
func mustQuote(name string) bool {
	return strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/.-*?:_", r))
	})
}

func commandNames() []string {
	var out []string
	for i := range syntax.Commands {
		out = append(out, strings.ToLower(syntax.Commands[i].Name))
	}
	sort.Strings(out)
	return out
}
