package tui

import "unicode"

// maxLine bounds a line that is typed, in characters.
const maxLine = 16 << 10

// editor is a line being typed; the zero value is an empty one.
type editor struct {
	text []rune
	pos  int // of the cursor: 0..len(text)
}

func (e *editor) String() string { return string(e.text) }

// set replaces the line; the cursor stands at its end.
func (e *editor) set(s string) {
	e.text, e.pos = nil, 0
	e.insert(s)
}

// insert puts text at the cursor; control characters are left out, as is what is too
// long.
func (e *editor) insert(s string) {
	var add []rune
	for _, r := range s {
		if r == '\t' {
			r = ' '
		}
		if unicode.IsPrint(r) && len(e.text)+len(add) < maxLine {
			add = append(add, r)
		}
	}
	tail := append(add, e.text[e.pos:]...)
	e.pos += len(add)
	e.text = append(e.text[:e.pos-len(add)], tail...)
}

// cut removes the characters from a to b; the cursor stands at a.
func (e *editor) cut(a, b int) {
	e.text = append(e.text[:a], e.text[b:]...)
	e.pos = a
}

// wordStart is where the word before the cursor begins.
func (e *editor) wordStart() int {
	i := e.pos
	for i > 0 && e.text[i-1] == ' ' {
		i--
	}
	for i > 0 && e.text[i-1] != ' ' {
		i--
	}
	return i
}

// edit does what a key does to a line; false: nothing, it is no key of the editor.
func (e *editor) edit(key string) bool {
	n := len(e.text)
	switch key {
	case "left", "ctrl+b":
		e.pos = max(e.pos-1, 0)
	case "right", "ctrl+f":
		e.pos = min(e.pos+1, n)
	case "home", "ctrl+a":
		e.pos = 0
	case "end", "ctrl+e":
		e.pos = n
	case "backspace", "ctrl+h":
		e.cut(max(e.pos-1, 0), e.pos)
	case "delete":
		e.cut(e.pos, min(e.pos+1, n))
	case "ctrl+w":
		e.cut(e.wordStart(), e.pos)
	case "ctrl+u":
		e.cut(0, e.pos)
	case "ctrl+k":
		e.cut(e.pos, n)
	default:
		return false
	}
	return true
}

// maxHistory is how many statements are kept.
const maxHistory = 500

// history is what was typed, and where one looks in it.
type history struct {
	list []string
	at   int    // len(list): at the line being typed
	own  string // that line, while one looks at others
}

func (h *history) add(statement string) {
	if n := len(h.list); statement != "" && (n == 0 || h.list[n-1] != statement) {
		h.list = append(h.list, statement)
	}
	if len(h.list) > maxHistory {
		h.list = h.list[1:]
	}
	h.at, h.own = len(h.list), ""
}

// move goes step statements up (-1) or down (1) from what is shown now.
func (h *history) move(step int, shown string) (string, bool) {
	to := h.at + step
	if to < 0 || to > len(h.list) {
		return "", false
	}
	if h.at == len(h.list) {
		h.own = shown
	}
	h.at = to
	if to == len(h.list) {
		return h.own, true
	}
	return h.list[to], true
}
