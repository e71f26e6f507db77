package interp

import (
	"context"
	"fmt"
	"strings"
	"time"

	"understudy/dtclsh/syntax"
	"understudy/settings"
)

// Commands that need no node.

// write prints values as they are. One value alone keeps its type in JSON.
func (in *Interp) write(_ context.Context, c *syntax.Call) (answer, error) {
	var b strings.Builder
	var last Value
	args := c.Args("value")
	for _, arg := range args {
		switch arg.Kind {
		case syntax.Variable:
			v, err := in.variable(arg.Text)
			if err != nil {
				return answer{}, err
			}
			last = v
		case syntax.Quoted:
			last = text(arg.Text)
		default:
			last = plain(arg.Text)
		}
		if b.Len() > MaxText {
			return answer{}, fail(syntax.BadParameter, "", "more than %d bytes to write", MaxText)
		}
		if arg.Kind == syntax.Bare {
			b.WriteString(arg.Text)
		} else {
			b.WriteString(last.String())
		}
	}
	a := answer{value: number(1), raw: true, lines: []string{b.String()}, json: map[string]any{"value": b.String()}}
	if len(args) == 1 {
		a.json = map[string]any{"value": last.JSON()}
	}
	return a, nil
}

// timenow returns the minute of the day, comparable with hh:mm.
func (in *Interp) timenow(context.Context, *syntax.Call) (answer, error) {
	now := time.Now()
	v := Value{kind: syntax.Time, n: int64(now.Hour()*3600 + now.Minute()*60)}
	return answer{value: v, lines: []string{now.Format("01/02/2006 15:04:05")}, json: map[string]any{"value": v.JSON()}}, nil
}

func (in *Interp) getenvstr(_ context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "name")
	if err != nil {
		return answer{}, err
	}
	v := text(in.cfg.Getenv(name))
	if to, given := c.Arg("variable"); given {
		in.vars[strings.ToLower(to.Text)] = v
	}
	return answer{value: v, lines: []string{v.s}, raw: true, json: map[string]any{"value": v.s}}, nil
}

// localSettings of the shell: name, the least and the greatest value. All are numbers.
var localSettings = []struct {
	name       string
	least, max int64
	help       string
}{
	{"ClientLog", 0, 1, "1: the text client keeps what is typed, but passwords, in its log file"},
	{"StopOnError", 0, 1, "1: a failing statement ends the script"},
	{"Strict", 0, 1, "1: an unknown option of a command is an error, not a warning"},
	{"WaitUnit", 1, 86400000, "milliseconds that WAIT without a unit counts in"},
}

// machineSetting is the setting of machines that a name stands for. The shell keeps a
// value for it, as the original did; nothing here goes by it.
func (in *Interp) machineSetting(c *syntax.Call) *settings.Setting {
	name, _, err := in.arg(c, "option")
	for _, s := range localSettings {
		if err != nil || strings.EqualFold(s.name, name) {
			return nil
		}
	}
	return settings.Find(name)
}

func (in *Interp) localSetting(c *syntax.Call) (int, error) {
	name, _, err := in.arg(c, "option")
	if err != nil {
		return 0, err
	}
	var known []string
	for i, s := range localSettings {
		if strings.EqualFold(s.name, name) {
			return i, nil
		}
		known = append(known, s.name)
	}
	return 0, fail(syntax.BadOption, "known are "+strings.Join(known, ", "), "the shell has no setting %s", name)
}

func (in *Interp) getLocal(_ context.Context, c *syntax.Call) (answer, error) {
	if s := in.machineSetting(c); s != nil {
		v, ok := in.local[strings.ToLower(s.Name)]
		if !ok {
			v = plain(s.Default)
		}
		return answer{value: v, lines: []string{s.Name + " = " + v.String()}, json: map[string]any{"value": v.JSON()}}, nil
	}
	i, err := in.localSetting(c)
	if err != nil {
		return answer{}, err
	}
	v := in.local[strings.ToLower(localSettings[i].name)]
	if localSettings[i].name == "StopOnError" {
		v = truthValue(in.cfg.StopOnError)
	}
	return answer{value: v, lines: []string{localSettings[i].name + " = " + v.String()}, json: map[string]any{"value": v.JSON()}}, nil
}

func (in *Interp) setLocal(_ context.Context, c *syntax.Call) (answer, error) {
	if s := in.machineSetting(c); s != nil {
		return in.setLocalCopy(c, s)
	}
	i, err := in.localSetting(c)
	if err != nil {
		return answer{}, err
	}
	n, err := in.integer(c, "value")
	s := localSettings[i]
	if err != nil || n < s.least || n > s.max {
		return answer{}, fail(syntax.BadValue, "", "%s: a number from %d to %d", s.name, s.least, s.max)
	}
	in.local[strings.ToLower(s.name)] = number(n)
	if s.name == "StopOnError" {
		in.cfg.StopOnError = n == 1
	}
	return ok(), nil
}

// setLocalCopy keeps a value that nothing here goes by, and says so.
func (in *Interp) setLocalCopy(c *syntax.Call, s *settings.Setting) (answer, error) {
	value, _, err := in.arg(c, "value")
	if err != nil {
		return answer{}, err
	}
	if value, err = s.Parse(value); err != nil {
		return answer{}, fail(syntax.BadValue, "accepted are: "+s.Range(), "%v", err)
	}
	in.local[strings.ToLower(s.Name)] = plain(value)
	why := "the shell does not use it; set changes the machine's"
	if s.Owner == settings.Client {
		why = s.Without
	}
	return answer{value: number(1), lines: []string{fmt.Sprintf("%s = %s: accepted, has no effect (%s)", s.Name, value, why)}, json: map[string]any{"value": plain(value).JSON()}}, nil
}

// leave ends the script; its status is the program's exit code.
func (in *Interp) leave(_ context.Context, c *syntax.Call) (answer, error) {
	if _, given := c.Arg("status"); given {
		n, err := in.integer(c, "status")
		if err == nil && (n < 0 || n > 255) {
			err = fail(syntax.BadParameter, "", "status %d: 0 to 255", n)
		}
		if err != nil {
			return answer{}, err
		}
		in.exit = &n
	}
	for _, name := range in.Unsaved() {
		in.warn(fmt.Sprintf("replication set %s has unsaved changes, which are lost", name))
	}
	return answer{}, ErrExit
}
