package syntax

import (
	"slices"
	"strings"
)

// Next says what could follow text, which ends where a word would begin: for
// completion. Inside a string or after something that cannot be read it is nothing.
func Next(text string) Expected {
	p := &parser{src: newSource(text)}
	start, fresh := 0, true // of the last statement, and whether it is empty so far
	var prev token
	for {
		t := p.peek(words)
		if t.kind == tBad && text[t.off] == '"' {
			return Expected{}
		}
		if t.kind == tEnd {
			break
		}
		p.take(t)
		switch {
		case t.kind == tSep, isWord(t, "THEN", "DO", "ELSE"), t.kind == tPunct && t.text == "=" && prev.kind == tVar && prev.off == p.src.skip(start):
			start, fresh = t.end, true
		default:
			fresh = false
		}
		prev = t
	}
	m := &matcher{p: p, start: start}
	for i := range forms {
		if forms[i].alias == nil {
			m.form(&forms[i])
		}
	}
	if fresh && start == 0 || fresh && prev.text != "=" {
		m.next.Words = append(m.next.Words, "IF", "WHILE", "FOR")
	}
	slices.Sort(m.next.Words)
	return m.next
}

// onTarget are the paths that are meant on the target.
var onTarget = []string{"base", "to", "onreceive", "onexecute", "script"}

// kindOf is the kind of a value as completion sees it: of paths and settings it also says
// whose, as "targetpath" and "localsetting".
func kindOf(c *Command, e *element) string {
	switch {
	case e.check == "path" && slices.Contains(onTarget, e.name):
		return "targetpath"
	case e.check == "setting" && c != nil && strings.HasSuffix(c.Name, "LOCAL"):
		return "localsetting"
	}
	return e.check
}
