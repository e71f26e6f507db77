package syntax

import (
	"errors"
	"fmt"
	"strings"
)

// Pos is a place in a script; both count from 1, Col in characters.
type Pos struct{ Line, Col int }

func (p Pos) String() string { return fmt.Sprintf("line %d, column %d", p.Line, p.Col) }

// Error says where a script is wrong, and what would have been right there.
type Error struct {
	Pos  Pos
	Code Code       // BadSyntax, BadParameter, BadDate, BadTime
	Want []string   // what was expected, for people; may be empty
	Msg  string     // what was found, or what is wrong
	Cmds []*Command // what may be meant; none if the first word is unknown
	open bool       // the text ended inside a block: more lines may complete it
}

func (e *Error) Error() string { return e.Pos.String() + ": " + e.Text() }

// Text is the message without the place.
func (e *Error) Text() string {
	if len(e.Want) == 0 {
		return e.Msg
	}
	return "expected " + either(e.Want) + ", found " + e.Msg
}

// Incomplete reports whether err says that the text ended inside an IF, WHILE or FOR,
// so that further lines may complete it.
func Incomplete(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.open
}

// either lists alternatives as a sentence does.
func either(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}
