package interp

import (
	"math"
	"strings"

	"understudy/dtclsh/syntax"
)

// MaxText bounds a string a script builds, in bytes, so that a loop cannot fill the
// memory.
const MaxText = 1 << 20

// eval works out an expression.
func (in *Interp) eval(x syntax.Expr) (Value, error) {
	switch x := x.(type) {
	case *syntax.Lit:
		v, err := literal(x)
		if err != nil {
			return v, fail(syntax.BadParameter, "", "%v", err)
		}
		return v, nil
	case *syntax.Ref:
		return in.variable(x.Name)
	case *syntax.Unary:
		return in.unary(x)
	case *syntax.Binary:
		return in.binary(x)
	}
	return Value{}, fail(syntax.BadSyntax, "", "expression not understood")
}

func (in *Interp) variable(name string) (Value, error) {
	v, ok := in.vars[strings.ToLower(name)]
	if !ok {
		return v, fail(syntax.BadParameter, "give it a value first: $"+name+" = ...", "variable $%s has no value", name)
	}
	return v, nil
}

func (in *Interp) unary(x *syntax.Unary) (Value, error) {
	v, err := in.eval(x.X)
	if err != nil {
		return v, err
	}
	if x.Op == "NOT" {
		return truthValue(!v.truth()), nil
	}
	n, ok := v.Int()
	if !ok {
		return v, fail(syntax.BadParameter, "", "- before %q, which is no number", v.String())
	}
	return number(-n), nil
}

func (in *Interp) binary(x *syntax.Binary) (Value, error) {
	a, err := in.eval(x.X)
	if err != nil {
		return a, err
	}
	switch { // the second operand is looked at only where it matters
	case x.Op == "AND" && !a.truth():
		return number(0), nil
	case x.Op == "OR" && a.truth():
		return number(1), nil
	}
	b, err := in.eval(x.Y)
	if err != nil {
		return b, err
	}
	switch x.Op {
	case "AND", "OR":
		return truthValue(b.truth()), nil
	case "=":
		return truthValue(compare(a, b) == 0), nil
	case "<>":
		return truthValue(compare(a, b) != 0), nil
	case "<":
		return truthValue(compare(a, b) < 0), nil
	case ">":
		return truthValue(compare(a, b) > 0), nil
	case "<=":
		return truthValue(compare(a, b) <= 0), nil
	case ">=":
		return truthValue(compare(a, b) >= 0), nil
	}
	return arithmetic(x.Op, a, b)
}

// arithmetic calculates with numbers; + also joins strings. Results that do not fit 64
// bits are errors.
func arithmetic(op string, a, b Value) (Value, error) {
	if op == "+" && (a.kind != syntax.Int || b.kind != syntax.Int) {
		s := a.String() + b.String()
		if len(s) > MaxText {
			return a, fail(syntax.BadParameter, "", "string of %d bytes, at most %d", len(s), MaxText)
		}
		return text(s), nil
	}
	p, okA := a.Int()
	q, okB := b.Int()
	if !okA || !okB {
		return a, fail(syntax.BadParameter, "", "%s between %q and %q, which are not both numbers", op, a.String(), b.String())
	}
	r, ok := p, true
	switch op {
	case "+":
		r = p + q
		ok = (r > p) == (q > 0)
	case "-":
		r = p - q
		ok = (r < p) == (q > 0)
	case "*":
		r = p * q
		ok = p == 0 || r/p == q && !(p == -1 && q == math.MinInt64)
	case "/":
		if q == 0 {
			return a, fail(syntax.BadParameter, "", "division by 0")
		}
		r = p / q
		ok = !(p == math.MinInt64 && q == -1)
	}
	if !ok {
		return a, fail(syntax.BadParameter, "", "%d %s %d is too large", p, op, q)
	}
	return number(r), nil
}
