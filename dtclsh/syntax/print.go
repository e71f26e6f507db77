package syntax

import (
	"strings"
)

// String prints a script: one statement a line, keywords in full, joined forms joined.
// Parsing it again gives the same nodes.
func (s Script) String() string {
	var b strings.Builder
	s.print(&b, 0)
	return b.String()
}

func (s Script) print(b *strings.Builder, depth int) {
	for _, st := range s {
		indent(b, depth)
		switch st := st.(type) {
		case *Assign:
			b.WriteString(st.String())
		case *Call:
			b.WriteString(st.String())
		case *If:
			b.WriteString("IF " + ExprString(st.Cond) + " THEN\n")
			st.Then.print(b, depth+1)
			if st.Else != nil {
				indent(b, depth)
				b.WriteString("ELSE\n")
				st.Else.print(b, depth+1)
			}
			end(b, depth)
		case *While:
			b.WriteString("WHILE " + ExprString(st.Cond) + " DO\n")
			st.Body.print(b, depth+1)
			end(b, depth)
		case *For:
			b.WriteString("FOR " + st.Start.String() + "; " + ExprString(st.Cond) + "; " + st.Step.String() + " DO\n")
			st.Body.print(b, depth+1)
			end(b, depth)
		case *Count:
			b.WriteString("FOR $" + st.Name + " = " + ExprString(st.From) + " TO " + ExprString(st.To))
			if st.Step != nil {
				b.WriteString(" STEP " + ExprString(st.Step))
			}
			b.WriteString(" DO\n")
			st.Body.print(b, depth+1)
			end(b, depth)
		}
		b.WriteByte('\n')
	}
}

func indent(b *strings.Builder, depth int) { b.WriteString(strings.Repeat("  ", depth)) }

func end(b *strings.Builder, depth int) { indent(b, depth); b.WriteString("END") }

// String prints the assignment.
func (a *Assign) String() string {
	if a.Call != nil {
		return "$" + a.Name + " = " + a.Call.String()
	}
	return "$" + a.Name + " = " + ExprString(a.Expr)
}

// String prints the command; secrets too, so it is not for logs.
func (c *Call) String() string {
	var b strings.Builder
	for i, it := range c.Items {
		if i > 0 && it.Word != "," {
			b.WriteByte(' ')
		}
		if it.Name == "" {
			b.WriteString(it.Word)
		} else {
			b.WriteString(it.Value.String())
		}
	}
	return b.String()
}

// String prints the value as it was written.
func (v Value) String() string {
	switch v.Kind {
	case Quoted:
		return quoted(v.Text)
	case Variable:
		return "$" + v.Text
	}
	return v.Text
}

func quoted(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// ExprString prints an expression with the brackets it needs.
func ExprString(x Expr) string { return exprString(x, 0) }

func exprString(x Expr, least int) string {
	switch x := x.(type) {
	case *Lit:
		if x.Kind == Str {
			return quoted(x.Text)
		}
		return x.Text
	case *Ref:
		return "$" + x.Name
	case *Unary:
		sign := x.Op
		if sign == "NOT" {
			sign = "NOT "
		}
		return sign + exprString(x.X, unaryPrecedence)
	case *Binary:
		p := precedence[x.Op]
		s := exprString(x.X, p) + " " + x.Op + " " + exprString(x.Y, p+1)
		if p < least {
			s = "(" + s + ")"
		}
		return s
	}
	return ""
}
