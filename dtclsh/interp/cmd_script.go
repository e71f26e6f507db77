package interp

import (
	"context"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// scriptAdd has the target run a script when a mirror starts, stops or is complete. Each
// event has its script; an empty path takes it away.
func (in *Interp) scriptAdd(ctx context.Context, c *syntax.Call) (answer, error) {
	target, _, err := in.arg(c, "target")
	if err != nil {
		return answer{}, err
	}
	args, _, err := in.arg(c, "args")
	if err != nil {
		return answer{}, err
	}
	if err := exclude(c, [][2]string{{"DELAY", "NODELAY"}}); err != nil {
		return answer{}, err
	}
	path, _, err := in.arg(c, "script")
	if err != nil {
		return answer{}, err
	}
	event := ""
	for _, e := range []string{"MIRRORSTART", "MIRRORSTOP", "MIRRORCOMPLETE"} {
		switch {
		case c.Has(e) && event != "":
			return answer{}, fail(syntax.BadParameter, "one command for each", "%s and %s", event, e)
		case c.Has(e):
			event = e
		}
	}
	if event == "" {
		return answer{}, fail(syntax.BadParameter, "see: help script add", "no MIRRORSTART, MIRRORSTOP or MIRRORCOMPLETE")
	}
	return in.each(ctx, c, func(con control.Connection) error {
		return in.ask(ctx, "script", control.ScriptRequest{ID: con.ID, Target: target, Event: strings.ToLower(event), Path: path,
			Args: strings.Fields(args), Wait: c.Has("DELAY")}, nil)
	})
}
