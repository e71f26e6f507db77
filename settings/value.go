package settings

import (
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// flags are the ways to write yes and no. The original knows 0 and 1 only.
var flags = map[string]string{
	"0": "0", "no": "0", "off": "0", "false": "0", "disabled": "0",
	"1": "1", "yes": "1", "on": "1", "true": "1", "enabled": "1",
}

// Unlimited is how a number without a bound may be written.
const Unlimited = "unlimited"

// Parse brings a value into its canonical form. A *ValueError says what is accepted.
func (s *Setting) Parse(value string) (string, error) {
	value = strings.TrimSpace(value)
	out, ok := "", false
	switch s.Kind {
	case Flag:
		out, ok = flags[strings.ToLower(value)]
	case Number:
		out, ok = s.number(value)
	case File:
		out, ok = value, isText(value) && value != "" && value != "." && value != ".." && !strings.Contains(value, "/")
	case Path:
		if ok = isText(value) && (value == "" || filepath.IsAbs(value)); ok && value != "" {
			out = filepath.Clean(value)
		}
	case List:
		out, ok = list(value)
	default:
		out, ok = value, isText(value)
	}
	if !ok {
		return "", &ValueError{s, value}
	}
	return out, nil
}

func (s *Setting) number(value string) (string, bool) {
	if strings.EqualFold(value, Unlimited) && s.Unit == "MB" {
		return strconv.FormatInt(s.Max, 10), true
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < s.Min || n > s.Max {
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}

// Int is a canonical value of a Flag or a Number.
func (s *Setting) Int(value string) (int64, bool) {
	if s.Kind > Number {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return n, err == nil
}

func list(value string) (string, bool) {
	var words []string
	for w := range strings.SplitSeq(value, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", "), isText(value)
}

// isText refuses what would disturb a terminal or a file of lines.
func isText(s string) bool {
	if len(s) > maxText || !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return true
}
