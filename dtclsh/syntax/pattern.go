package syntax

import (
	"fmt"
	"strings"
)

// A pattern is a form of a command as the table writes it:
//
//	WORD            a keyword
//	<name:kind>     a value; kinds lists them, none is text
//	= , ( )         marks, which may always be left out
//	[a | b]         one of them or nothing
//	{a | b}         any of them, in any order, divided by blanks or commas
//	(a | b)         one of them
//
// Brackets that are marks are quoted: "(".
type element struct {
	kind  elementKind
	word  string // of a keyword or mark
	name  string // of a value
	check string // its kind
	alts  [][]element
	rival []string // of a leading keyword: what else may stand in its place
}

type elementKind uint8

const (
	eWord elementKind = iota
	eMark
	eValue
	eOptional
	eLoop
	eChoice
)

// form is a pattern made ready.
type form struct {
	cmd   *Command
	elems []element
	lead  int      // keywords before the first value
	alias []string // words the user writes instead of the lead
}

// parsePattern reads a pattern. Patterns are our own, so a wrong one panics at the
// start of the program, and in every test.
func parsePattern(s string) []element {
	words := strings.Fields(spaced.Replace(s))
	elems, rest := parseSeq(words)
	if len(rest) > 0 {
		panic(fmt.Sprintf("pattern %q: left over %v", s, rest))
	}
	return elems
}

// spaced puts blanks around what stands for itself.
var spaced = strings.NewReplacer(`"("`, ` "( `, `")"`, ` ") `, "[", " [ ", "]", " ] ", "{", " { ", "}", " } ", "(", " ( ", ")", " ) ", "|", " | ")

func parseSeq(words []string) (out []element, rest []string) {
	for len(words) > 0 {
		w := words[0]
		switch {
		case w == "|" || w == "]" || w == "}" || w == ")":
			return out, words
		case w == "[" || w == "{" || w == "(":
			kind := map[string]elementKind{"[": eOptional, "{": eLoop, "(": eChoice}[w]
			e := element{kind: kind}
			words = words[1:]
			for {
				var alt []element
				alt, words = parseSeq(words)
				e.alts = append(e.alts, alt)
				closer := words[0]
				words = words[1:]
				if closer != "|" {
					break
				}
			}
			out = append(out, e)
			continue
		case w == "=" || w == ",":
			out = append(out, element{kind: eMark, word: w})
		case strings.HasPrefix(w, `"`):
			out = append(out, element{kind: eMark, word: w[1:]})
		case strings.HasPrefix(w, "<"):
			name, check, _ := strings.Cut(strings.Trim(w, "<>"), ":")
			out = append(out, element{kind: eValue, name: name, check: check})
		default:
			out = append(out, element{kind: eWord, word: w})
		}
		words = words[1:]
	}
	return out, nil
}

// Syntax shows a pattern to people.
func syntaxOf(elems []element) string {
	var out []string
	for _, e := range elems {
		s := ""
		switch e.kind {
		case eWord, eMark:
			s = e.word
		case eValue:
			s = "<" + strings.ReplaceAll(e.name, "_", " ") + ">"
			if e.check == "cons" {
				s = "<con_id | *>"
			} else if e.check == "con" {
				s = "<con_id>"
			}
		default:
			var alts []string
			for _, a := range e.alts {
				if len(a) == 1 && a[0].check == "flag" {
					continue
				}
				alts = append(alts, syntaxOf(a))
			}
			marks := map[elementKind]string{eOptional: "[]", eLoop: "[]", eChoice: "()"}[e.kind]
			s = marks[:1] + strings.Join(alts, " | ") + marks[1:]
			if e.kind == eLoop {
				s += " ..."
			}
		}
		if s == "," && len(out) > 0 {
			out[len(out)-1] += ","
			continue
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// firsts are the keywords a sequence may begin with; open says that it may be passed
// without any.
func firsts(elems []element) (list []string, open bool) {
	for _, e := range elems {
		switch e.kind {
		case eWord:
			return append(list, e.word), false
		case eValue:
			return list, false
		case eOptional, eLoop, eChoice:
			for _, a := range e.alts {
				l, _ := firsts(a)
				list = append(list, l...)
			}
			if e.kind == eChoice {
				return list, false
			}
		}
	}
	return list, true
}
