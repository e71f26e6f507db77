package interp

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"understudy/dtclsh/syntax"
)

// Value is what a variable holds or a statement returns: an integer, a string, a date
// or a time. The zero Value is the integer 0.
type Value struct {
	kind syntax.LitKind
	n    int64  // Int; for Date and Time seconds
	s    string // Str
}

func number(n int64) Value { return Value{kind: syntax.Int, n: n} }
func text(s string) Value  { return Value{kind: syntax.Str, s: s} }

// Failed reports whether the value is an error code.
func (v Value) Failed() bool { return v.kind == syntax.Int && v.n < 0 }

// Int is the value as a number; ok is false if it is none.
func (v Value) Int() (n int64, ok bool) {
	if v.kind == syntax.Str {
		n, err := strconv.ParseInt(strings.TrimSpace(v.s), 10, 64)
		return n, err == nil
	}
	return v.n, v.kind == syntax.Int
}

func (v Value) String() string {
	switch v.kind {
	case syntax.Str:
		return v.s
	case syntax.Date:
		return time.Unix(v.n, 0).UTC().Format("01/02/06")
	case syntax.Time:
		return fmt.Sprintf("%02d:%02d", v.n/3600, v.n/60%60)
	}
	return strconv.FormatInt(v.n, 10)
}

// JSON is the value as it stands in an answer.
func (v Value) JSON() any {
	if v.kind == syntax.Int {
		return v.n
	}
	return v.String()
}

// literal makes a constant's value.
func literal(l *syntax.Lit) (Value, error) {
	switch l.Kind {
	case syntax.Str:
		return text(l.Text), nil
	case syntax.Date:
		d, err := syntax.ParseDate(l.Text)
		return dateValue(d), err
	case syntax.Time:
		d, err := syntax.ParseTime(l.Text)
		return Value{kind: syntax.Time, n: int64(d / time.Second)}, err
	}
	n, err := strconv.ParseInt(l.Text, 10, 64)
	return number(n), err
}

// dateValue keeps the day alone, so that dates of any zone compare.
func dateValue(d time.Time) Value {
	return Value{kind: syntax.Date, n: time.Date(d.Year(), d.Month(), d.Day(), 0, 0, 0, 0, time.UTC).Unix()}
}

// plain is the value of a bare word: a number, date or time where it reads as one.
func plain(s string) Value {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return number(n)
	}
	if d, err := syntax.ParseDate(s); err == nil {
		return dateValue(d)
	}
	if d, err := syntax.ParseTime(s); err == nil {
		return Value{kind: syntax.Time, n: int64(d / time.Second)}
	}
	return text(s)
}

// truth of a condition: a number above 0, any other value that is not empty.
func (v Value) truth() bool {
	if v.kind == syntax.Str {
		return v.s != ""
	}
	return v.kind != syntax.Int || v.n > 0
}

func truthValue(b bool) Value {
	if b {
		return number(1)
	}
	return number(0)
}

// compare orders two values of one type. A string that reads as the other's type
// counts as that; other pairs are ordered as text.
func compare(a, b Value) int {
	if a.kind == syntax.Str && b.kind != syntax.Str {
		a = plain(a.s)
	}
	if b.kind == syntax.Str && a.kind != syntax.Str {
		b = plain(b.s)
	}
	if a.kind == b.kind && a.kind != syntax.Str {
		return cmp.Compare(a.n, b.n)
	}
	return cmp.Compare(a.String(), b.String())
}
