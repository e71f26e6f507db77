package interp

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"understudy/dtclsh/syntax"
)

// answer is what a command comes back with.
type answer struct {
	value Value    // what it returns; the zero value becomes 1
	json  any      // for --json; nil: nothing to say
	lines []string // for people
	raw   bool     // lines are printed as they are, not indented
	quiet bool     // lines only acknowledge: said to people at a prompt alone
}

func ok() answer { return answer{value: number(1)} }

// said is an acknowledgement.
func said(format string, args ...any) answer {
	return answer{value: number(1), lines: []string{fmt.Sprintf(format, args...)}, quiet: true}
}

// handler carries out one command.
type handler func(in *Interp, ctx context.Context, c *syntax.Call) (answer, error)

// call runs a command. What it answers is printed, unless the script takes its value.
func (in *Interp) call(ctx context.Context, c *syntax.Call, taken bool) (Value, error) {
	if err := in.unknownFlags(c); err != nil {
		return Value{}, err
	}
	a, err := handlers[c.Cmd.Name](in, ctx, c)
	if err != nil {
		return Value{}, err
	}
	if !taken || c.Cmd.Name == "WRITE" {
		in.print(a)
	}
	return a.value, nil
}

// unknownFlags warns of options that nobody knows; with Strict they are errors.
func (in *Interp) unknownFlags(c *syntax.Call) error {
	for _, f := range c.Args("flag") {
		if in.cfg.Strict || in.local["strict"].truth() {
			return fail(syntax.BadOption, "see: help "+strings.ToLower(c.Cmd.Name), "%s is no option of %s", f.Text, c.Cmd.Name)
		}
		in.warn(fmt.Sprintf("%s is no option of %s and is ignored", f.Text, c.Cmd.Name))
	}
	return nil
}

func (in *Interp) print(a answer) {
	if in.cfg.JSON {
		if a.json != nil {
			in.printJSON(a.json)
		}
		return
	}
	if a.quiet && !in.cfg.Interactive {
		return
	}
	for _, l := range a.lines {
		if !a.raw {
			l = "  " + l
		}
		fmt.Fprintln(in.cfg.Out, l)
	}
}

func (in *Interp) printJSON(v any) {
	raw, err := json.Marshal(v)
	if err != nil { // numbers and texts only
		raw = []byte(`{"error":{"code":-1,"msg":"answer cannot be written as JSON"}}`)
	}
	fmt.Fprintln(in.cfg.Out, string(raw))
}

// PrintedError is an error as --json shows it, behind the key "error".
type PrintedError struct {
	Code    syntax.Code `json:"code"`
	Text    string      `json:"text"`              // what the code means
	Msg     string      `json:"msg"`               // what went wrong
	Hint    string      `json:"hint,omitempty"`    // what to do
	Control string      `json:"control,omitempty"` // the node's own code
	Line    int         `json:"line"`
	Column  int         `json:"column"`
}

func (in *Interp) printError(e *Error, pos syntax.Pos) {
	if in.cfg.JSON {
		in.printJSON(map[string]PrintedError{"error": {e.Code, e.Code.String(), e.Msg, e.Hint, string(e.Control), pos.Line, pos.Col}})
		return
	}
	where := ""
	if !in.cfg.Interactive {
		where = fmt.Sprintf("line %d: ", pos.Line)
	}
	fmt.Fprintf(in.cfg.Err, "  %s%s\n", in.paint(red, fmt.Sprintf("Error %d: ", int(e.Code))), where+e.Msg)
	if e.Hint != "" {
		fmt.Fprintf(in.cfg.Err, "  Hint: %s\n", e.Hint)
	}
}

// SyntaxError tells of a text that does not parse, as every other error is told.
func (in *Interp) SyntaxError(err error) {
	e := &Error{Code: syntax.BadSyntax, Msg: err.Error(), Hint: "see: help, or help COMMAND"}
	pos := syntax.Pos{Line: 1, Col: 1}
	if se, ok := err.(*syntax.Error); ok {
		e.Code, pos, e.Msg = se.Code, se.Pos, se.Text()
		if len(se.Cmds) > 0 {
			e.Hint = formOf(se.Cmds)
		}
		if !in.cfg.JSON {
			e.Msg = fmt.Sprintf("column %d: %s", pos.Col, e.Msg)
		}
	}
	in.last = number(int64(e.Code))
	in.printError(e, pos)
}

// formOf tells how a command is written, or where that is told.
func formOf(cmds []*syntax.Command) string {
	const short = 100 // a line of a terminal beside what stands before it
	if forms := cmds[0].Syntax(); len(cmds) == 1 && len(forms) == 1 && len(forms[0]) <= short {
		return "the form is: " + forms[0]
	}
	topic := cmds[0].Name
	for _, c := range cmds {
		for topic != "" && !strings.HasPrefix(c.Name+" ", topic+" ") {
			topic = topic[:max(strings.LastIndexByte(topic, ' '), 0)]
		}
	}
	return strings.TrimRight("see: help "+strings.ToLower(topic), " ")
}

func (in *Interp) warn(msg string) {
	fmt.Fprintf(in.cfg.Err, "  %s%s\n", in.paint(yellow, "Warning: "), msg)
}

// Colours of a terminal (ECMA-48).
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	normal = "\x1b[0m"
)

func (in *Interp) paint(color, s string) string {
	if !in.cfg.Color || color == "" {
		return s
	}
	return color + s + normal
}

// arg is the text of an argument; ok is false where it was left out.
func (in *Interp) arg(c *syntax.Call, name string) (s string, ok bool, err error) {
	v, ok := c.Arg(name)
	if !ok {
		return "", false, nil
	}
	s, err = in.textOf(v)
	return s, true, err
}

func (in *Interp) textOf(v syntax.Value) (string, error) {
	if v.Kind != syntax.Variable {
		return v.Text, nil
	}
	val, err := in.variable(v.Text)
	return val.String(), err
}

// integer is an argument as a number.
func (in *Interp) integer(c *syntax.Call, name string) (int64, error) {
	s, _, err := in.arg(c, name)
	if err != nil {
		return 0, err
	}
	n, isInt := plain(s).Int()
	if !isInt {
		return 0, fail(syntax.BadParameter, "", "%s: %q is no number", strings.ReplaceAll(name, "_", " "), s)
	}
	return n, nil
}
