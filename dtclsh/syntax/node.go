package syntax

// Script is a parsed text, or the body of a block.
type Script []Stmt

// Stmt is a statement: *Assign, *Call, *If, *While, *For or *Count.
type Stmt interface{ At() Pos }

// Assign gives a variable the value of an expression, or what a command returns.
// Exactly one of Expr and Call is set.
type Assign struct {
	Pos  Pos
	Name string
	Expr Expr
	Call *Call
}

// If runs Then or Else.
type If struct {
	Pos        Pos
	Cond       Expr
	Then, Else Script
}

// While runs Body as long as Cond is true.
type While struct {
	Pos  Pos
	Cond Expr
	Body Script
}

// For runs Start, then as long as Cond is true Body and Step.
type For struct {
	Pos         Pos
	Start, Step *Assign
	Cond        Expr
	Body        Script
}

// Count runs Body with Name counting from From to To by Step (nil: 1).
type Count struct {
	Pos            Pos
	Name           string
	From, To, Step Expr
	Body           Script
}

// Call is a command with its arguments.
type Call struct {
	Pos   Pos
	Cmd   *Command
	Items []Item
}

// At says where the statement begins.
func (s *Assign) At() Pos { return s.Pos }

// At says where the statement begins.
func (s *If) At() Pos { return s.Pos }

// At says where the statement begins.
func (s *While) At() Pos { return s.Pos }

// At says where the statement begins.
func (s *For) At() Pos { return s.Pos }

// At says where the statement begins.
func (s *Count) At() Pos { return s.Pos }

// At says where the statement begins.
func (s *Call) At() Pos { return s.Pos }

// Item is a piece of a command: a keyword, a mark (= , and brackets), or a value
// called Name in the pattern.
type Item struct {
	Word  string
	Name  string
	Value Value
}

// ValueKind is how a value was written.
type ValueKind uint8

// The kinds of values.
const (
	Bare ValueKind = iota
	Quoted
	Variable
)

// Value is an argument: a bare word, a string, or a variable whose name is Text.
type Value struct {
	Kind ValueKind
	Text string
	Pos  Pos
}

// Has reports whether the keyword was given.
func (c *Call) Has(word string) bool {
	for _, it := range c.Items {
		if it.Word == word {
			return true
		}
	}
	return false
}

// Arg returns the first value called name.
func (c *Call) Arg(name string) (Value, bool) {
	for _, it := range c.Items {
		if it.Name == name {
			return it.Value, true
		}
	}
	return Value{}, false
}

// Args returns all values called name, in order.
func (c *Call) Args(name string) []Value {
	var out []Value
	for _, it := range c.Items {
		if it.Name == name {
			out = append(out, it.Value)
		}
	}
	return out
}

// After returns the keyword that follows the value called name: its unit.
func (c *Call) After(name string) string {
	for i, it := range c.Items {
		if it.Name == name && i+1 < len(c.Items) {
			return c.Items[i+1].Word
		}
	}
	return ""
}

// Expr is an expression: *Lit, *Ref, *Unary or *Binary.
type Expr interface{ expr() }

// LitKind is the type of a constant.
type LitKind uint8

// The types of constants.
const (
	Int LitKind = iota
	Str
	Date
	Time
)

// Lit is a constant, as it was written (strings without their quotation marks).
type Lit struct {
	Pos  Pos
	Kind LitKind
	Text string
}

// Ref is a variable.
type Ref struct {
	Pos  Pos
	Name string
}

// Unary is NOT or -.
type Unary struct {
	Pos Pos
	Op  string
	X   Expr
}

// Binary is + - * / = <> < > <= >= AND or OR.
type Binary struct {
	Pos  Pos
	Op   string
	X, Y Expr
}

func (*Lit) expr()    {}
func (*Ref) expr()    {}
func (*Unary) expr()  {}
func (*Binary) expr() {}
