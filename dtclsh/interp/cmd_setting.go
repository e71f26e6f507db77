package interp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Settings of machines: GET and SET.

// settingOwner is the machine a setting is asked of: the one named, else the current
// source, else the current target.
func (in *Interp) settingOwner(ctx context.Context, c *syntax.Call) (Client, error) {
	name, given, err := in.arg(c, "machine")
	if err != nil {
		return nil, err
	}
	if !given && !in.chosen && in.target != "" {
		name, given = in.target, true
	}
	if !given {
		return in.current(ctx)
	}
	m, _, err := in.machine(ctx, name)
	return m, err
}

func settingValue(s control.Setting) Value {
	if n, ok := plain(s.Value).Int(); s.Number && ok {
		return number(n)
	}
	return text(s.Value)
}

func (in *Interp) getSetting(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "option")
	if err != nil {
		return answer{}, err
	}
	m, err := in.settingOwner(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if name == "*" {
		return in.allSettings(ctx, m)
	}
	var s control.Setting
	if err := in.askOn(ctx, m, "setting.get", control.SettingRequest{Name: name}, &s); err != nil {
		return answer{}, err
	}
	return answer{value: settingValue(s), json: s, lines: []string{settingLine(s)}}, nil
}

// settingLine shows a setting and what one must know of it.
func settingLine(s control.Setting) string {
	line := s.Name + " = " + s.Value
	if s.InForce != s.Value {
		line += ", now " + s.InForce
	}
	if s.Note != "" {
		line += " (" + s.Note + ")"
	}
	return line
}

func (in *Interp) allSettings(ctx context.Context, m Client) (answer, error) {
	var list control.SettingList
	if err := in.askOn(ctx, m, "setting.list", struct{}{}, &list); err != nil {
		return answer{}, err
	}
	a := answer{value: number(int64(len(list.Settings))), json: list.Settings, lines: []string{"- Settings of " + m.Node() + " -"}}
	for _, s := range list.Settings {
		a.lines = append(a.lines, settingLine(s))
	}
	return a, nil
}

// outcomes are what SET answers.
var outcomes = map[string]string{
	control.Applied: "applied", control.Stored: "stored, restart needed", control.NoEffect: "accepted, has no effect",
	control.Unchanged: "unchanged",
}

func (in *Interp) setSetting(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err1 := in.arg(c, "option")
	value, _, err2 := in.arg(c, "value")
	if err := errors.Join(err1, err2); err != nil {
		return answer{}, err
	}
	m, err := in.settingOwner(ctx, c)
	if err != nil {
		return answer{}, err
	}
	req := control.SettingRequest{Name: name, Value: value}
	if strings.EqualFold(value, "default") {
		req = control.SettingRequest{Name: name, Reset: true}
	}
	var s control.Setting
	if err := in.askOn(ctx, m, "setting.set", req, &s); err != nil {
		return answer{}, err
	}
	line := fmt.Sprintf("%s = %s: %s", s.Name, s.Value, outcomes[s.Outcome])
	if s.Note != "" {
		line += " (" + s.Note + ")"
	}
	return answer{value: number(1), json: s, lines: []string{line}}, nil
}
