package interp

import (
	"context"
	"fmt"
	"strings"

	"understudy/dtclsh/syntax"
)

// topic is a command as HELP tells of it with --json.
type topic struct {
	Name    string   `json:"name"`
	Syntax  []string `json:"syntax"`
	Help    string   `json:"help"`
	Level   string   `json:"level"`
	Here    bool     `json:"in_this_version"`
	Example string   `json:"example"`
}

func topicOf(c *syntax.Command) topic {
	return topic{c.Name, c.Syntax(), c.Help, c.Level.String(), handlers[c.Name] != nil, c.Example}
}

func (in *Interp) help(_ context.Context, c *syntax.Call) (answer, error) {
	var words []string
	for _, v := range c.Args("topic") {
		s, err := in.textOf(v)
		if err != nil {
			return answer{}, err
		}
		words = append(words, s)
	}
	name := strings.Join(words, " ")
	found := syntax.Lookup(name)
	if name == "" {
		for i := range syntax.Commands {
			found = append(found, &syntax.Commands[i])
		}
	}
	if len(found) == 0 {
		return answer{}, fail(syntax.BadParameter, "help alone lists all", "no command %s", name)
	}
	a := answer{value: number(int64(len(found)))}
	var topics []topic
	for _, cmd := range found {
		topics = append(topics, topicOf(cmd))
		if len(found) > 1 {
			a.lines = append(a.lines, fmt.Sprintf("%-24s%s", cmd.Name, cmd.Help))
		}
	}
	a.json = topics
	if len(found) == 1 {
		a.lines = helpLines(found[0])
	}
	return a, nil
}

// helpLines explain one command.
func helpLines(c *syntax.Command) []string {
	lines := []string{c.Name + ": " + c.Help + "."}
	for _, s := range c.Syntax() {
		lines = append(lines, "  "+s)
	}
	add := func(label, s string) {
		if s != "" {
			lines = append(lines, fmt.Sprintf("%-9s%s", label, s))
		}
	}
	add("Note:", c.Note)
	add("Returns:", returns(c))
	add("Level:", c.Level.String())
	add("Example:", c.Example)
	return lines
}

func returns(c *syntax.Command) string {
	if c.Returns == "" {
		return "1"
	}
	return c.Returns
}
