package interp

import (
	"context"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// loadModule makes a machine a source or a target, or ends that; without a name the
// current source.
func (in *Interp) loadModule(ctx context.Context, c *syntax.Call) (answer, error) {
	name, given, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	what, module, _ := strings.Cut(c.Cmd.Name, " ")
	req := control.ModuleRequest{Module: strings.ToLower(module), Load: what == "LOAD"}
	if !given {
		return ok(), in.ask(ctx, "module", req, nil)
	}
	m, _, err := in.machine(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return ok(), in.askOn(ctx, m, "module", req, nil)
}
