package syntax

import (
	"slices"
	"strings"

	"understudy/control"
)

// Command is a row of the table. Help, completion, docs/shell.md and the parser are
// made from it.
type Command struct {
	Name    string   // its keywords, as printed
	Forms   []string // patterns; they begin with Name
	Aliases []string // words that stand for Name
	Level   control.Level
	Help    string // what it does, one sentence without a full stop
	Note    string // what else one must know
	Returns string // the value of a success; "" is 1
	// Codes are what a refusal by the node means here; the rest is common to all.
	Codes   map[control.Code]Code
	Example string
}

// Syntax lists the command's forms for people.
func (c *Command) Syntax() []string {
	var out []string
	for _, f := range c.Forms {
		out = append(out, syntaxOf(parsePattern(f)))
	}
	return out
}

// Lookup finds commands by name, by the beginning of it, or by an alias.
func Lookup(name string) []*Command {
	name = strings.ToUpper(strings.Join(strings.Fields(name), " "))
	var out []*Command
	for i := range Commands {
		c := &Commands[i]
		if c.Name == name || slices.Contains(c.Aliases, name) {
			return []*Command{c}
		}
		if name != "" && strings.HasPrefix(c.Name, name) {
			out = append(out, c)
		}
	}
	return out
}

// forms are the patterns of all commands, those with more keywords before the others.
var forms []form

func init() {
	slots := map[string][]string{} // by what stands before: the keywords that may follow
	for i := range Commands {
		c := &Commands[i]
		for _, f := range c.Forms {
			elems := parsePattern(f)
			lead := len(strings.Fields(c.Name))
			if slices.ContainsFunc(elems[:lead], func(e element) bool { return e.kind != eWord }) {
				lead = 1 // SCHEDULE <target> START
			}
			forms = append(forms, form{cmd: c, elems: elems, lead: lead})
			eachFixed(elems, func(key string, e *element) {
				if !slices.Contains(slots[key], e.word) {
					slots[key] = append(slots[key], e.word)
				}
			})
			for _, a := range c.Aliases {
				forms = append(forms, form{cmd: c, elems: elems, lead: lead, alias: strings.Fields(a)})
			}
		}
	}
	for i := range forms {
		eachFixed(forms[i].elems, func(key string, e *element) { e.rival = slots[key] })
	}
	slices.SortStableFunc(forms, func(a, b form) int { return b.weight() - a.weight() })
}

// eachFixed calls f for the keywords in fixed places, with what stands before them.
func eachFixed(elems []element, f func(key string, e *element)) {
	key := ""
	for i := range elems {
		e := &elems[i]
		switch e.kind {
		case eWord:
			f(key, e)
			key += " " + e.word
		case eValue:
			key += " <>"
		default:
			return
		}
	}
}

// weight is how many keywords must stand.
func (f *form) weight() int {
	n := len(f.alias)
	for i, e := range f.elems {
		if e.kind == eWord && (f.alias == nil || i >= f.lead) {
			n++
		}
	}
	return n
}
