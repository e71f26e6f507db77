package interp

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// The words of people on a takeover and on the way back.

func (in *Interp) failover(ctx context.Context, c *syntax.Call) (answer, error) {
	name, err := in.monitorName(c)
	if err != nil {
		return answer{}, err
	}
	req := control.FailoverRequest{Source: name, Action: "start", Confirm: c.Has("CONFIRM"), Force: c.Has("FORCE")}
	switch {
	case c.Has("DECLINE"):
		req.Action = "decline"
	case c.Has("DRYRUN"):
		req.Action = "plan"
	case c.Has("SWITCH"):
		req.Switch = true
		if err := in.bringToRest(ctx, c, name); err != nil {
			return answer{}, err
		}
	case c.Has("REVERSE"):
		req.Action = "reverse"
		if req.Address, _, err = in.arg(c, "address"); err != nil {
			return answer{}, err
		}
		if err := in.leaveOld(ctx, name, req.Address); err != nil {
			return answer{}, err
		}
	}
	var reply control.FailoverReply
	if err := in.askTarget(ctx, "failover", req, &reply); err != nil {
		return answer{}, err
	}
	a := answer{value: number(1), json: reply, lines: reply.Steps}
	for _, e := range reply.Errors {
		in.warn(e)
	}
	return a, nil
}

// targetName is the name of the machine that takes over.
func (in *Interp) targetName(ctx context.Context) (string, error) {
	m, err := in.onTarget(ctx)
	if err != nil {
		return "", err
	}
	var v control.Version
	err = in.askOn(ctx, m, "version", struct{}{}, &v)
	return v.Name, err
}

// bringToRest stops what writes on a source and waits until the target has everything.
func (in *Interp) bringToRest(ctx context.Context, c *syntax.Call, source string) error {
	target, err := in.targetName(ctx)
	if err != nil {
		return err
	}
	m, _, err := in.machine(ctx, source)
	if err != nil {
		return err
	}
	script, _, err := in.arg(c, "script")
	if err != nil {
		return err
	}
	var reply control.SwitchoverReply
	return in.askOn(ctx, m, "switchover", control.SwitchoverRequest{Target: target, Script: script}, &reply)
}

// leaveOld ends what is left, on a machine that was replaced, of its connections to the
// one that replaced it.
func (in *Interp) leaveOld(ctx context.Context, source, address string) error {
	target, err := in.targetName(ctx)
	if err != nil {
		return err
	}
	m, _, err := in.machine(ctx, cmp.Or(address, source))
	if err != nil {
		return err
	}
	var st control.Status
	if err := in.askOn(ctx, m, "status", struct{}{}, &st); err != nil {
		return err
	}
	for _, old := range st.Connections {
		if strings.EqualFold(old.Target, target) {
			if err := in.askOn(ctx, m, "disconnect", control.IDRequest{ID: old.ID}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *Interp) failback(ctx context.Context, c *syntax.Call) (answer, error) {
	name, err := in.monitorName(c)
	if err != nil {
		return answer{}, err
	}
	if c.Has("DISCARD") {
		return ok(), in.askTarget(ctx, "failover.restored", control.MonitorRequest{Source: name}, nil)
	}
	return ok(), in.askTarget(ctx, "failback", control.FailbackRequest{Source: name, Stop: c.Has("STOP") || c.Has("NOREMONITOR")}, nil)
}

func (in *Interp) nicList(ctx context.Context, c *syntax.Call) (answer, error) {
	m, err := in.onTarget(ctx)
	if name, given, e := in.arg(c, "machine"); given {
		if e != nil {
			return answer{}, e
		}
		m, _, err = in.machine(ctx, name)
	}
	if err != nil {
		return answer{}, err
	}
	var list control.NICList
	if err := in.askOn(ctx, m, "nic.list", struct{}{}, &list); err != nil {
		return answer{}, err
	}
	a := answer{value: number(int64(len(list.NICs))), json: list.NICs}
	for _, n := range list.NICs {
		state := "up"
		if !n.Up {
			state = "no carrier"
		}
		a.lines = append(a.lines, fmt.Sprintf("%3d  %-16s%-20s%-12s%s", n.Number, n.Name, n.MAC, state, strings.Join(n.Addresses, " ")))
	}
	return a, nil
}
