package interp

import (
	"context"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// How a monitor decides and what it runs: options and scripts.

func (in *Interp) monitorOption(ctx context.Context, c *syntax.Call) (answer, error) {
	var witnesses []string
	for _, v := range c.Args("witness") {
		w, err := in.textOf(v)
		if err != nil {
			return answer{}, err
		}
		witnesses = append(witnesses, w)
	}
	return in.editMonitor(ctx, c, func(m *control.MonitorConfig) error {
		set := func(flag *bool, on, off string) {
			if c.Has(on) || c.Has(off) {
				*flag = c.Has(on)
			}
		}
		set(&m.MoveName, "MOVENAME", "NOMOVENAME")
		set(&m.KeepAddresses, "NOMOVEADDRESSES", "MOVEADDRESSES")
		set(&m.Automatic, "AUTO", "MANUAL")
		set(&m.Automatic, "NOINTERVENTION", "INTERVENTION")
		set(&m.SkipQueue, "SKIPQUEUE", "APPLYQUEUE")
		set(&m.NoLease, "NOLEASE", "LEASE")
		if c.Has("ALLIP") {
			m.Trigger = "all"
		}
		if c.Has("ONEIP") {
			m.Trigger = "any"
		}
		if c.Has("NOWITNESS") {
			m.Witnesses = nil
		}
		m.Witnesses = append(m.Witnesses, witnesses...)
		return nil
	})
}

// scriptTypes are the hooks.
var scriptTypes = []string{"PREFAILOVER", "POSTFAILOVER", "PREFAILBACK", "POSTFAILBACK", "FENCE"}

func scriptType(c *syntax.Call) string {
	for _, t := range scriptTypes {
		if c.Has(t) {
			return strings.ToLower(t)
		}
	}
	return ""
}

func (in *Interp) monitorScriptAdd(ctx context.Context, c *syntax.Call) (answer, error) {
	path, _, err := in.arg(c, "script")
	if err != nil {
		return answer{}, err
	}
	var args []string
	for _, v := range append(c.Args("args"), c.Args("more_args")...) {
		word, err := in.textOf(v)
		if err != nil {
			return answer{}, err
		}
		args = append(args, strings.Fields(word)...)
	}
	kind := scriptType(c)
	return in.editMonitor(ctx, c, func(m *control.MonitorConfig) error {
		if m.Scripts == nil {
			m.Scripts = map[string]control.MonitorScript{}
		}
		m.Scripts[kind] = control.MonitorScript{Path: path, Args: args, Wait: c.Has("DELAY") || kind == "fence"}
		return nil
	})
}

func (in *Interp) monitorScriptRemove(ctx context.Context, c *syntax.Call) (answer, error) {
	return in.editMonitor(ctx, c, func(m *control.MonitorConfig) error {
		delete(m.Scripts, scriptType(c))
		return nil
	})
}
