package syntax

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// minAbbreviation is how short a keyword may be cut (spec: unique prefixes of three).
const minAbbreviation = 3

// abbreviates reports whether s stands for word, where rivals might stand as well. An
// exact match wins over everything.
func abbreviates(s, word string, rivals []string) bool {
	if strings.EqualFold(s, word) {
		return true
	}
	if !cut(s, word) {
		return false
	}
	for _, r := range rivals {
		if r != word && (strings.EqualFold(s, r) || cut(s, r)) {
			return false
		}
	}
	return true
}

// cut reports whether s is a long enough beginning of word.
func cut(s, word string) bool {
	return len(s) >= minAbbreviation && len(s) < len(word) && strings.EqualFold(s, word[:len(s)])
}

// call reads a command: every form that begins with its first word is tried, those
// with more keywords first, and the error is that of the form that came furthest.
func (p *parser) call() (*Call, error) {
	t := p.peek(words)
	m := &matcher{p: p, start: p.off}
	if t.kind == tWord {
		for i := range forms {
			if items, ok := m.form(&forms[i]); ok {
				p.off = m.off
				return &Call{Pos: p.pos(t), Cmd: forms[i].cmd, Items: items}, nil
			}
		}
	}
	if m.far.off == 0 && m.far.end == 0 || m.far.off == t.off {
		return nil, p.unknown(t)
	}
	e := m.bad
	if e == nil {
		e = p.wrong(m.far, m.want...)
	}
	e.Cmds = m.farCmds
	return nil, e
}

// unknown explains a first word that begins no command.
func (p *parser) unknown(t token) *Error {
	if t.kind != tWord {
		return p.wrong(t, "a command")
	}
	e := &Error{Pos: p.pos(t), Code: BadSyntax, Msg: fmt.Sprintf("unknown command %s", t.text)}
	if len(t.text) >= minAbbreviation {
		var like []string
		for _, f := range forms {
			if f.alias == nil && cut(t.text, f.elems[0].word) && !slices.Contains(like, f.elems[0].word) {
				like = append(like, f.elems[0].word)
			}
		}
		if len(like) > 1 {
			slices.Sort(like)
			e.Msg = fmt.Sprintf("%s may stand for %s", t.text, either(like))
		}
	}
	return e
}

// matcher tries forms of a command on the text.
type matcher struct {
	p       *parser
	start   int
	off     int
	items   []Item
	far     token      // the furthest token that did not fit,
	want    []string   // what would have,
	bad     *Error     // or what is wrong with it,
	farCmds []*Command // and the commands that came so far
	next    Expected   // what could stand at the end of the text
	cmd     *Command   // of the form that is tried
}

// Expected is what could stand at a place of a command.
type Expected struct {
	Words []string // keywords
	Kinds []string // of values: set, machine, con, cons, path, ...
}

// expect notes what could stand where the text ends.
func (m *matcher) expect(t token, e *element) {
	if t.kind != tEnd {
		return
	}
	if e.kind == eWord && !slices.Contains(m.next.Words, e.word) {
		m.next.Words = append(m.next.Words, e.word)
	}
	if e.kind == eValue {
		if kind := kindOf(m.cmd, e); !slices.Contains(m.next.Kinds, kind) {
			m.next.Kinds = append(m.next.Kinds, kind)
		}
	}
}

// form tries one form; it must reach the end of the statement.
func (m *matcher) form(f *form) ([]Item, bool) {
	m.off, m.items, m.cmd = m.start, nil, f.cmd
	elems := f.elems
	if f.alias != nil {
		for _, w := range f.alias {
			t := m.peek()
			if !isWord(t, w) {
				return nil, false
			}
			m.off = t.end
		}
		for _, e := range elems[:f.lead] {
			m.items = append(m.items, Item{Word: e.word})
		}
		elems = elems[f.lead:]
	}
	if !m.seq(elems, nil) {
		return nil, false
	}
	if t := m.peek(); !ends(t) {
		m.fail(t, "the end of the statement")
		return nil, false
	}
	return m.items, true
}

// ends reports whether t ends a command.
func ends(t token) bool { return t.kind == tEnd || t.kind == tSep || isWord(t, closers...) }

func (m *matcher) peek() token { return m.p.src.scan(m.off, words) }

// fail notes what was expected at t. It returns false, for callers to return.
func (m *matcher) fail(t token, want string) bool {
	if t.off > m.far.off || m.far.end == 0 {
		m.far, m.farCmds, m.want, m.bad = t, nil, nil, nil
	}
	if t.off != m.far.off {
		return false
	}
	if !slices.Contains(m.want, want) {
		m.want = append(m.want, want)
	}
	if !slices.Contains(m.farCmds, m.cmd) {
		m.farCmds = append(m.farCmds, m.cmd)
	}
	return false
}

// seq matches elems one after another; ahead are the keywords that may follow them.
func (m *matcher) seq(elems []element, ahead []string) bool {
	for i := range elems {
		next, open := firsts(elems[i+1:])
		if open {
			next = append(next, ahead...)
		}
		if !m.element(&elems[i], next) {
			return false
		}
	}
	return true
}

func (m *matcher) element(e *element, ahead []string) bool {
	switch e.kind {
	case eWord:
		return m.word(e.word, e.rival)
	case eMark:
		m.mark(e.word)
		return true
	case eValue:
		return m.value(e)
	case eOptional:
		m.oneOf(e, ahead)
		return true
	case eLoop:
		m.loop(e, ahead)
		return true
	}
	return m.oneOf(e, ahead)
}

func (m *matcher) word(word string, rivals []string) bool {
	t := m.peek()
	m.expect(t, &element{kind: eWord, word: word})
	if t.kind != tWord || !abbreviates(t.text, word, rivals) {
		return m.fail(t, word)
	}
	m.items = append(m.items, Item{Word: word})
	m.off = t.end
	return true
}

func (m *matcher) mark(mark string) bool {
	t := m.peek()
	if t.kind != tPunct || t.text != mark {
		return false
	}
	m.items = append(m.items, Item{Word: mark})
	m.off = t.end
	return true
}

// oneOf takes the first alternative that fits and leaves everything as it was if none
// does.
func (m *matcher) oneOf(e *element, ahead []string) bool {
	var keywords []string
	for _, a := range e.alts {
		l, _ := firsts(a)
		keywords = append(keywords, l...)
	}
	rivals := append(slices.Clone(keywords), ahead...)
	off, items := m.off, len(m.items)
	for _, a := range e.alts {
		if m.alternative(a, rivals, ahead) {
			return true
		}
		m.off, m.items = off, m.items[:items]
	}
	return false
}

// alternative matches one alternative. One that begins with a value does not take a
// bare word that is a keyword here.
func (m *matcher) alternative(a []element, rivals, ahead []string) bool {
	if len(a) == 0 {
		return false
	}
	switch t := m.peek(); a[0].kind {
	case eValue:
		if t.kind == tWord && slices.ContainsFunc(rivals, func(w string) bool { return strings.EqualFold(t.text, w) || cut(t.text, w) }) {
			return false
		}
		if ends(t) {
			m.expect(t, &a[0])
			return m.fail(t, wanted(a[0]))
		}
		return m.seq(a, ahead)
	case eWord:
		if !m.word(a[0].word, rivals) {
			return false
		}
		return m.seq(a[1:], ahead)
	}
	return m.seq(a, ahead)
}

// loop takes alternatives as long as they fit, with commas between them.
func (m *matcher) loop(e *element, ahead []string) {
	next := slices.Clone(ahead)
	for _, a := range e.alts {
		l, _ := firsts(a)
		next = append(next, l...)
	}
	for {
		off, items := m.off, len(m.items)
		m.mark(",")
		if !m.oneOf(e, next) || m.off == off {
			m.off, m.items = off, m.items[:items]
			return
		}
	}
}

func (m *matcher) value(e *element) bool {
	t := m.peek()
	m.expect(t, e)
	v := Value{Text: t.text, Pos: m.p.pos(t)}
	switch {
	case t.kind == tVar:
		v.Kind = Variable
	case t.kind == tStr:
		v.Kind = Quoted
	case t.kind == tWord && !ends(t):
	default:
		return m.fail(t, wanted(*e))
	}
	if k := kinds[e.check]; k.ok != nil && !k.ok(v) {
		m.fail(t, wanted(*e))
		if t.off == m.far.off && k.code != 0 {
			m.bad = &Error{Pos: v.Pos, Code: k.code, Want: []string{wanted(*e)}, Msg: describe(t)}
		}
		return false
	}
	m.items = append(m.items, Item{Name: e.name, Value: v})
	m.off = t.end
	return true
}

func wanted(e element) string {
	if k := kinds[e.check]; k.want != "" {
		return k.want
	}
	return "<" + strings.ReplaceAll(e.name, "_", " ") + ">"
}

// kinds are the values a pattern can ask for. A variable is judged when the statement
// runs.
var kinds = map[string]struct {
	want string
	code Code
	ok   func(Value) bool
}{
	"con":      {"a connection number", BadParameter, constant(isNumber)},
	"cons":     {"a connection number or *", BadParameter, constant(func(s string) bool { return s == "*" || isNumber(s) })},
	"num":      {"a number", BadParameter, constant(isNumber)},
	"seconds":  {"a number of seconds", BadParameter, constant(isSeconds)},
	"date":     {"a date mm/dd/yy", BadDate, constant(isDate)},
	"time":     {"a time hh:mm", BadTime, constant(isTime)},
	"var":      {"a variable", 0, func(v Value) bool { return v.Kind == Variable }},
	"flag":     {"an option", 0, func(v Value) bool { return v.Kind == Bare && isFlag(v.Text) }},
	"keep":     {"an age as 72h, a size as 500GB, or off", BadParameter, constant(isKeep)},
	"set":      {"the name of a replication set", 0, nil},
	"machine":  {"the name or address of a machine", 0, nil},
	"monitor":  {"the name of a monitor", 0, nil},
	"path":     {"a path", 0, nil},
	"setting":  {"the name of a setting", 0, nil},
	"command":  {"a command", 0, nil},
	"anything": {"a value", 0, nil},
}

func constant(ok func(string) bool) func(Value) bool {
	return func(v Value) bool { return v.Kind == Variable || ok(v.Text) }
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64)
	return err == nil
}

// isSeconds accepts fractions.
func isSeconds(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
}

// isKeep accepts how much of a history is kept: numbers with a unit, or off. The node says
// which units there are.
func isKeep(s string) bool {
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		unit := strings.TrimLeft(part, "0123456789")
		if !strings.EqualFold(part, "off") && (len(unit) == len(part) || len(unit) > len("TiB") || !isFlag(unit)) {
			return false
		}
	}
	return true
}

// isFlag accepts words of letters, so that a forgotten quotation mark is no option.
func isFlag(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) {
			return false
		}
	}
	return s != ""
}
