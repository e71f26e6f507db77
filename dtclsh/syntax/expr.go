package syntax

import (
	"fmt"
	"strconv"
	"time"
)

// Precedences of operators: the higher binds the tighter. NOT and the sign bind
// tightest.
var precedence = map[string]int{
	"OR": 1, "AND": 2,
	"=": 3, "<>": 3, "<": 3, ">": 3, "<=": 3, ">=": 3,
	"+": 4, "-": 4, "*": 5, "/": 5,
}

const unaryPrecedence = 6

func (p *parser) expr() (Expr, error) { return p.binary(1) }

// operator returns the binary operator at t, or "".
func operator(t token) string {
	switch {
	case isWord(t, "AND"):
		return "AND"
	case isWord(t, "OR"):
		return "OR"
	case t.kind == tPunct && precedence[t.text] > 0:
		return t.text
	}
	return ""
}

// binary reads operators of at least the precedence least; they associate to the left.
func (p *parser) binary(least int) (Expr, error) {
	t := p.peek(exprs)
	if err := p.deeper(t); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	x, err := p.unary()
	for err == nil {
		t := p.peek(exprs)
		op := operator(t)
		if op == "" || precedence[op] < least {
			break
		}
		p.take(t)
		var y Expr
		y, err = p.binary(precedence[op] + 1)
		x = &Binary{p.pos(t), op, x, y}
	}
	return x, err
}

func (p *parser) unary() (Expr, error) {
	t := p.peek(exprs)
	op := ""
	switch {
	case isWord(t, "NOT"):
		op = "NOT"
	case t.kind == tPunct && t.text == "-":
		op = "-"
	default:
		return p.primary(t)
	}
	if err := p.deeper(t); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	p.take(t)
	x, err := p.unary()
	return &Unary{p.pos(t), op, x}, err
}

func (p *parser) primary(t token) (Expr, error) {
	kind := Int
	switch t.kind {
	case tVar:
		p.take(t)
		return &Ref{p.pos(t), t.text}, nil
	case tNum:
		if _, err := strconv.ParseInt(t.text, 10, 64); err != nil {
			return nil, &Error{Pos: p.pos(t), Code: BadParameter, Msg: fmt.Sprintf("number %s is too large", t.text)}
		}
	case tStr:
		kind = Str
	case tDate:
		kind = Date
	case tTime:
		kind = Time
	default:
		if t.kind == tPunct && t.text == "(" {
			return p.brackets(t)
		}
		return nil, p.wrong(t, "a number", "a string in quotation marks", "a variable", "a date", "a time")
	}
	p.take(t)
	return &Lit{p.pos(t), kind, t.text}, nil
}

func (p *parser) brackets(t token) (Expr, error) {
	p.take(t)
	x, err := p.expr()
	if err == nil && !p.mark(")") {
		return nil, p.wrong(p.peek(exprs), ")")
	}
	return x, err
}

// ParseDate reads mm/dd/yy or mm/dd/yyyy.
func ParseDate(s string) (time.Time, error) {
	for _, layout := range []string{"1/2/06", "1/2/2006"} {
		if d, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return d, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date: mm/dd/yy", s)
}

// ParseTime reads hh:mm, 24 hours, as the time since midnight.
func ParseTime(s string) (time.Duration, error) {
	d, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is no time: hh:mm", s)
	}
	return time.Duration(d.Hour())*time.Hour + time.Duration(d.Minute())*time.Minute, nil
}

func isDate(s string) bool { _, err := ParseDate(s); return err == nil }
func isTime(s string) bool { _, err := ParseTime(s); return err == nil }
