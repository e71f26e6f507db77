package tui

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// colours are the only sequences that may pass to the terminal (ECMA-48, SGR).
var colours = regexp.MustCompile("^\x1b\\[[0-9;]*m")

// clean makes text fit for a line: control characters become a question mark, tabs
// blanks. Colours stay where coloured says so: in what the interpreter printed.
func clean(s string, coloured bool) string {
	var b strings.Builder
	for len(s) > 0 {
		if coloured {
			if c := colours.FindString(s); c != "" {
				b.WriteString(c)
				s = s[len(c):]
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(s)
		s = s[size:]
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r == '\r':
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteByte('?')
		}
	}
	return b.String()
}
