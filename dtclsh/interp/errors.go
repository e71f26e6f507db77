package interp

import (
	"context"
	"errors"
	"fmt"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Error is a refusal: a code for scripts, words and a hint for people.
type Error struct {
	Code    syntax.Code
	Control control.Code // what the node said; "" if it was not asked
	Msg     string
	Hint    string
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Msg) }

func fail(code syntax.Code, hint, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...), Hint: hint}
}

// commonCodes are what a node's refusals mean where a command does not say otherwise.
var commonCodes = map[control.Code]syntax.Code{
	control.BadRequest:  syntax.BadParameter,
	control.NotFound:    syntax.NoCon,
	control.Exists:      syntax.SetExists,
	control.Refused:     syntax.Failed,
	control.Unreachable: syntax.NoAnswer,
	control.NotReady:    syntax.ConFailed,
	control.Denied:      syntax.LevelTooLow,
	control.Internal:    syntax.Failed,
	control.NoSource:    syntax.SourceNotLoaded,
	control.NoTarget:    syntax.TargetNotLoaded,
}

// explain makes an *Error of what a command came back with.
func explain(cmd *syntax.Command, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var ce *control.Error
	if errors.As(err, &ce) {
		code, ok := syntax.Code(0), false
		if cmd != nil {
			code, ok = cmd.Codes[ce.Code]
		}
		if !ok {
			code = commonCodes[ce.Code]
		}
		if code == 0 {
			code = syntax.Failed
		}
		return &Error{Code: code, Control: ce.Code, Msg: ce.Msg, Hint: ce.Hint}
	}
	if errors.Is(err, context.Canceled) {
		return fail(syntax.Failed, "", "interrupted")
	}
	return fail(syntax.Failed, "", "%v", err)
}
