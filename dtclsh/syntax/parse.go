package syntax

import (
	"fmt"
	"strings"
)

// Bounds of a script, so that one from outside cannot exhaust the parser: bytes, and
// how deep blocks and brackets may stand in each other.
const (
	MaxScript = 1 << 20
	maxDepth  = 100
)

// Parse reads a script. The error is an *Error.
func Parse(text string) (Script, error) {
	if len(text) > MaxScript {
		return nil, &Error{Pos: Pos{1, 1}, Code: BadSyntax, Msg: fmt.Sprintf("script of %d bytes, at most %d", len(text), MaxScript)}
	}
	p := &parser{src: newSource(text)}
	s, err := p.block()
	if err != nil {
		return nil, err
	}
	if t := p.peek(words); t.kind != tEnd {
		return nil, p.wrong(t, "a statement")
	}
	return s, nil
}

type parser struct {
	src   *source
	off   int
	depth int
}

func (p *parser) peek(m mode) token { return p.src.scan(p.off, m) }

func (p *parser) take(t token) { p.off = t.end }

func (p *parser) pos(t token) Pos { return p.src.pos(t.off) }

// wrong is the error for a token that does not belong where it stands.
func (p *parser) wrong(t token, want ...string) *Error {
	e := &Error{Pos: p.pos(t), Code: BadSyntax, Want: want, Msg: describe(t)}
	if t.kind == tBad {
		e.Want, e.Msg = nil, t.text
	}
	e.open = t.kind == tEnd && p.depth > 0
	return e
}

func describe(t token) string {
	switch t.kind {
	case tEnd:
		return "the end of the script"
	case tSep:
		return "the end of the statement"
	case tStr:
		return quoted(t.text)
	case tVar:
		return "$" + t.text
	}
	return t.text
}

// deeper guards recursion; every call needs one to shallower.
func (p *parser) deeper(t token) error {
	if p.depth++; p.depth > maxDepth {
		return &Error{Pos: p.pos(t), Code: BadSyntax, Msg: fmt.Sprintf("more than %d blocks or brackets inside each other", maxDepth)}
	}
	return nil
}

// isWord reports whether t is the given keyword in full.
func isWord(t token, list ...string) bool {
	for _, w := range list {
		if t.kind == tWord && strings.EqualFold(t.text, w) {
			return true
		}
	}
	return false
}

// closers end a block. As bare words they are nothing else, so that a block may share
// its line with END.
var closers = []string{"END", "ELSE", "ENDIF", "ENDWHILE", "ENDFOR"}

// block reads statements up to END, ELSE or the end of the text.
func (p *parser) block() (Script, error) {
	var out Script
	for {
		t := p.peek(words)
		for t.kind == tSep {
			p.take(t)
			t = p.peek(words)
		}
		if t.kind == tEnd || isWord(t, closers...) {
			return out, nil
		}
		s, err := p.stmt(t)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
		if t := p.peek(words); t.kind != tSep && t.kind != tEnd && !isWord(t, closers...) {
			return nil, p.wrong(t, "the end of the statement")
		}
	}
}

func (p *parser) stmt(t token) (Stmt, error) {
	switch {
	case t.kind == tVar:
		return p.assign(true)
	case isWord(t, "IF"):
		return p.ifStmt(t)
	case isWord(t, "WHILE"):
		return p.whileStmt(t)
	case isWord(t, "FOR"):
		return p.forStmt(t)
	}
	return p.call()
}

// assign reads $name = value; the value may be a command where calls says so.
func (p *parser) assign(calls bool) (*Assign, error) {
	t := p.peek(words)
	if t.kind != tVar {
		return nil, p.wrong(t, "a variable")
	}
	a := &Assign{Pos: p.pos(t), Name: t.text}
	p.take(t)
	if t = p.peek(words); t.kind != tPunct || t.text != "=" {
		return nil, p.wrong(t, "=")
	}
	p.take(t)
	var err error
	if t = p.peek(words); calls && t.kind == tWord && isLetter(t.text[0]) && !isWord(t, "NOT") {
		a.Call, err = p.call()
	} else {
		a.Expr, err = p.expr()
	}
	return a, err
}

// keyword takes a keyword of an expression's surroundings.
func (p *parser) keyword(list ...string) error {
	t := p.peek(exprs)
	if !isWord(t, list...) {
		return p.wrong(t, list[0])
	}
	p.take(t)
	return nil
}

// body reads the block after THEN or DO, up to its closer, which stays.
func (p *parser) body(t token) (Script, error) {
	if err := p.deeper(t); err != nil {
		return nil, err
	}
	s, err := p.block()
	if err == nil {
		if end := p.peek(words); end.kind == tEnd {
			err = p.wrong(end, "END")
		}
	}
	p.depth--
	return s, err
}

// endWord takes END or the form of it that belongs to the statement.
func (p *parser) endWord(own string) error {
	t := p.peek(words)
	if !isWord(t, "END", own) {
		return p.wrong(t, "END")
	}
	p.take(t)
	return nil
}

func (p *parser) ifStmt(t token) (Stmt, error) {
	s := &If{Pos: p.pos(t)}
	p.take(t)
	var err error
	if s.Cond, err = p.expr(); err != nil {
		return nil, err
	}
	if err := p.keyword("THEN"); err != nil {
		return nil, err
	}
	if s.Then, err = p.body(t); err != nil {
		return nil, err
	}
	if e := p.peek(words); isWord(e, "ELSE") {
		p.take(e)
		if s.Else, err = p.body(t); err != nil {
			return nil, err
		}
	}
	return s, p.endWord("ENDIF")
}

func (p *parser) whileStmt(t token) (Stmt, error) {
	s := &While{Pos: p.pos(t)}
	p.take(t)
	var err error
	if s.Cond, err = p.expr(); err != nil {
		return nil, err
	}
	if err := p.keyword("DO"); err != nil {
		return nil, err
	}
	if s.Body, err = p.body(t); err != nil {
		return nil, err
	}
	return s, p.endWord("ENDWHILE")
}

// mark takes one of the punctuation marks if it stands here. In FOR a semicolon
// divides as a comma does.
func (p *parser) mark(list string) bool {
	t := p.peek(exprs)
	semi := t.kind == tSep && p.src.text[t.off] == ';' && strings.Contains(list, ";")
	if !semi && (t.kind != tPunct || !strings.Contains(list, t.text)) {
		return false
	}
	p.take(t)
	return true
}

func (p *parser) forStmt(t token) (Stmt, error) {
	p.take(t)
	bracket := p.mark("(")
	start, err := p.assign(false)
	if err != nil {
		return nil, err
	}
	var s Stmt
	var body *Script
	if isWord(p.peek(exprs), "TO") {
		c := &Count{Pos: p.pos(t), Name: start.Name, From: start.Expr}
		s, body, err = c, &c.Body, p.count(c)
	} else {
		f := &For{Pos: p.pos(t), Start: start}
		s, body, err = f, &f.Body, p.forParts(f)
	}
	if err != nil {
		return nil, err
	}
	if bracket && !p.mark(")") {
		return nil, p.wrong(p.peek(exprs), ")")
	}
	if err := p.keyword("DO"); err != nil {
		return nil, err
	}
	if *body, err = p.body(t); err != nil {
		return nil, err
	}
	return s, p.endWord("ENDFOR")
}

func (p *parser) count(c *Count) (err error) {
	p.take(p.peek(exprs)) // TO
	if c.To, err = p.expr(); err != nil {
		return err
	}
	if t := p.peek(exprs); isWord(t, "STEP") {
		p.take(t)
		c.Step, err = p.expr()
	}
	return err
}

func (p *parser) forParts(f *For) (err error) {
	p.mark(",;")
	if f.Cond, err = p.expr(); err != nil {
		return err
	}
	p.mark(",;")
	f.Step, err = p.assign(false)
	return err
}
