package console

import (
	"context"
	"sort"
	"strings"
	"time"

	"understudy/dtclsh/interp"
	"understudy/dtclsh/syntax"
)

// Completer completes keywords from the table of commands, and names by asking the
// current source.
type Completer struct {
	names func() (sets, cons, machines []string)

	asked time.Time // names are asked again after namesFresh
	lists [3][]string
}

const (
	namesFresh = 5 * time.Second
	// namesPatience bounds how long a press of Tab may hang on a slow link.
	namesPatience = 2 * time.Second
)

// NewCompleter asks in for names.
func NewCompleter(in *interp.Interp) *Completer {
	return &Completer{names: func() (sets, cons, machines []string) {
		ctx, cancel := context.WithTimeout(context.Background(), namesPatience)
		defer cancel()
		return in.Names(ctx)
	}}
}

// Complete lists what the word before pos may become; head and tail stay.
func (c *Completer) Complete(line string, pos int) (head string, list []string, tail string) {
	runes := []rune(line)
	pos = min(pos, len(runes))
	before, tail := string(runes[:pos]), string(runes[pos:])
	start := strings.LastIndexAny(before, " \t;,=\"(") + 1
	head, word := before[:start], before[start:]
	next := syntax.Next(head)
	for _, w := range next.Words {
		list = appendFit(list, word, matchCase(w, word))
	}
	for _, kind := range next.Kinds {
		for _, name := range c.namesOf(kind) {
			list = appendFit(list, word, name)
		}
	}
	return head, list, tail
}

func appendFit(list []string, word, candidate string) []string {
	if len(candidate) >= len(word) && strings.EqualFold(candidate[:len(word)], word) {
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
	place := map[string]int{"set": 0, "con": 1, "cons": 1, "machine": 2}
	i, known := place[kind]
	switch {
	case kind == "command":
		return commandNames()
	case !known:
		return nil
	}
	if time.Since(c.asked) > namesFresh {
		c.lists[0], c.lists[1], c.lists[2] = c.names()
		c.asked = time.Now()
	}
	if kind == "cons" {
		return append([]string{"*"}, c.lists[i]...)
	}
	return quoteAll(c.lists[i])
}

// quoteAll puts names in quotation marks that need them.
func quoteAll(names []string) []string {
	var out []string
	for _, n := range names {
		if strings.ContainsAny(n, " \t;,=\"#()$<>!&|") {
			n = `"` + n + `"`
		}
		out = append(out, n)
	}
	return out
}

func commandNames() []string {
	var out []string
	for i := range syntax.Commands {
		out = append(out, strings.ToLower(syntax.Commands[i].Name))
	}
	sort.Strings(out)
	return out
}
