package console

import (
	"fmt"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// Progress draws over one line of a terminal; "" wipes it. A line that is wider than the
// terminal is cut, and what is no printable character becomes a question mark.
func Progress(terminal *os.File) func(string) {
	return func(line string) {
		width := 80
		if size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
			width = int(size.Col)
		}
		fmt.Fprintf(terminal, "\r\x1b[K%s", fit(line, width-1))
	}
}

// fit makes text a line of at most width characters.
func fit(text string, width int) string {
	var b strings.Builder
	for _, r := range text {
		if width <= 0 {
			break
		}
		if !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
		width--
	}
	return b.String()
}
