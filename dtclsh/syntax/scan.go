package syntax

import (
	"fmt"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mode says how a text is cut into tokens.
type mode uint8

const (
	words mode = iota // of a command: bare words hold paths
	exprs             // of an expression: + - * / are operators
)

type tokenKind uint8

const (
	tEnd   tokenKind = iota // end of the text
	tSep                    // newline or semicolon
	tWord                   // bare word; in expressions letters only
	tStr                    // "..."; text is what it holds
	tVar                    // $name; text is the name
	tPunct                  // , = ( ) and the operators
	tNum
	tDate
	tTime
	tBad // text says what is wrong
)

type token struct {
	kind tokenKind
	text string
	off  int // where it begins
	end  int // where the next may begin
}

// source is a text being parsed.
type source struct {
	text  string
	lines []int // offsets at which lines begin
}

func newSource(text string) *source {
	s := &source{text: text, lines: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

func (s *source) pos(off int) Pos {
	line := sort.Search(len(s.lines), func(i int) bool { return s.lines[i] > off })
	return Pos{line, utf8.RuneCountInString(s.text[s.lines[line-1]:off]) + 1}
}

// skip passes blanks and a comment.
func (s *source) skip(off int) int {
	for off < len(s.text) {
		switch s.text[off] {
		case ' ', '\t', '\r':
			off++
		case '#':
			n := strings.IndexByte(s.text[off:], '\n')
			if n < 0 {
				return len(s.text)
			}
			off += n
		default:
			return off
		}
	}
	return off
}

// scan returns the token at or after off.
func (s *source) scan(off int, m mode) token {
	off = s.skip(off)
	if off >= len(s.text) {
		return token{tEnd, "", off, off}
	}
	switch c := s.text[off]; {
	case c == '\n' || c == ';':
		return token{tSep, "", off, off + 1}
	case c == '"':
		return s.scanString(off)
	case c == '$':
		n := nameLen(s.text[off+1:])
		if n == 0 {
			return token{tBad, "$ without the name of a variable", off, off + 1}
		}
		return token{tVar, s.text[off+1 : off+1+n], off, off + 1 + n}
	case m == words:
		return s.scanWord(off)
	case isLetter(c):
		n := nameLen(s.text[off:])
		return token{tWord, s.text[off : off+n], off, off + n}
	case isDigit(c):
		return s.scanNumber(off)
	}
	return s.scanOperator(off)
}

func (s *source) scanString(off int) token {
	var b strings.Builder
	for i := off + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '\n' || c == 0:
			return token{tBad, `string without a closing "`, off, i}
		case c != '"':
			b.WriteByte(c)
		case i+1 < len(s.text) && s.text[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return token{tStr, b.String(), off, i + 1}
		}
	}
	return token{tBad, `string without a closing "`, off, len(s.text)}
}

// notInWords end a bare word; they have a meaning of their own.
const notInWords = " \t\r\n;,=\"#()$<>!&|"

func (s *source) scanWord(off int) token {
	c := s.text[off]
	if strings.IndexByte(",=()", c) >= 0 {
		return token{tPunct, string(c), off, off + 1}
	}
	end := off
	for end < len(s.text) && strings.IndexByte(notInWords, s.text[end]) < 0 {
		r, n := utf8.DecodeRuneInString(s.text[end:])
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			break
		}
		end += n
	}
	if end == off {
		r, n := utf8.DecodeRuneInString(s.text[off:])
		return token{tBad, fmt.Sprintf("character %q outside of quotation marks", r), off, off + n}
	}
	return token{tWord, s.text[off:end], off, end}
}

// scanNumber reads an integer, a date (two digits each, so that 8/4/2 stays a
// division) or a time.
func (s *source) scanNumber(off int) token {
	end := off
	for end < len(s.text) && (isDigit(s.text[end]) || s.text[end] == '/' || s.text[end] == ':') {
		end++
	}
	switch run := s.text[off:end]; {
	case isDate(run) && len(run) >= len("01/02/06"):
		return token{tDate, run, off, end}
	case isTime(run):
		return token{tTime, run, off, end}
	}
	end = off
	for end < len(s.text) && isDigit(s.text[end]) {
		end++
	}
	return token{tNum, s.text[off:end], off, end}
}

// operators of expressions, longer ones first, and what they are called in nodes.
var operators = []struct{ text, op string }{
	{"==", "="}, {"<>", "<>"}, {"!=", "<>"}, {"<=", "<="}, {">=", ">="}, {"&&", "AND"}, {"||", "OR"},
	{"=", "="}, {"<", "<"}, {">", ">"}, {"+", "+"}, {"-", "-"}, {"*", "*"}, {"/", "/"}, {"(", "("}, {")", ")"}, {",", ","},
}

func (s *source) scanOperator(off int) token {
	for _, o := range operators {
		if strings.HasPrefix(s.text[off:], o.text) {
			return token{tPunct, o.op, off, off + len(o.text)}
		}
	}
	r, n := utf8.DecodeRuneInString(s.text[off:])
	return token{tBad, fmt.Sprintf("character %q", r), off, off + n}
}

// nameLen is how many bytes at the front of s are a name.
func nameLen(s string) int {
	n := 0
	for n < len(s) && (isLetter(s[n]) || n > 0 && isDigit(s[n])) {
		n++
	}
	return n
}

func isLetter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
