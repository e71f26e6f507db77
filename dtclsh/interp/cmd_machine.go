package interp

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Machines: who is source, who is target, who is there.

func (in *Interp) chooseSource(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	m, address, err := in.machine(ctx, name)
	if err != nil {
		return answer{}, err
	}
	if v, err := in.probe(ctx, name); err == nil && v.NoSource {
		return answer{}, fail(syntax.SourceNotLoaded, "load source "+name, "%s is no source now", v.Name)
	}
	if address != in.source {
		in.set = "" // it belongs to the source
	}
	in.source, in.name, in.chosen = address, m.Node(), true
	return said("Source: %s", in.name), nil
}

func (in *Interp) chooseTarget(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	m, _, err := in.machine(ctx, name)
	if err != nil {
		return answer{}, err
	}
	if v, err := in.probe(ctx, name); err == nil && v.NoTarget {
		return answer{}, fail(syntax.TargetNotLoaded, "load target "+name, "%s is no target now", v.Name)
	}
	in.target = m.Node()
	return said("Target: %s", in.target), nil
}

// probe asks a machine what runs there.
func (in *Interp) probe(ctx context.Context, name string) (control.Version, error) {
	var v control.Version
	m, _, err := in.machine(ctx, name)
	if err == nil {
		err = in.askOn(ctx, m, "version", struct{}{}, &v)
	}
	return v, err
}

func (in *Interp) ping(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	v, err := in.probe(ctx, name)
	if err != nil {
		return answer{}, err
	}
	return answer{value: number(1), json: v, lines: []string{fmt.Sprintf("%s answers, understudy %s", v.Name, v.Version)}}, nil
}

func (in *Interp) environment(ctx context.Context, c *syntax.Call) (answer, error) {
	name, given, err := in.arg(c, "machine")
	if err != nil {
		return answer{}, err
	}
	m, err := in.current(ctx)
	if given {
		m, _, err = in.machine(ctx, name)
	}
	if err != nil {
		return answer{}, err
	}
	var list control.MachineList
	if err := in.askOn(ctx, m, "machine.list", struct{}{}, &list); err != nil {
		return answer{}, err
	}
	a := answer{value: number(int64(len(list.Machines))), json: list.Machines, lines: []string{"- Machines known to " + m.Node() + " -"}}
	for _, known := range list.Machines {
		a.lines = append(a.lines, strings.TrimRight(fmt.Sprintf("%-26s%-26s%s", known.Name, known.Address, presenceText(known, m.Node())), " "))
	}
	return a, nil
}

// presenceText says whether a machine is there.
func presenceText(m control.Machine, asked string) string {
	switch {
	case m.Name == asked:
		return "online, asked"
	case !m.Paired:
		return "not paired"
	case m.HeardMS == 0:
		return "not heard"
	case !m.Online:
		return fmt.Sprintf("away, heard %d s ago", m.HeardMS/1000)
	}
	return fmt.Sprintf("online, %d connections, %d replicas", m.Connections, m.Replicas)
}

func (in *Interp) machineAdd(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err1 := in.arg(c, "name")
	address, _, err2 := in.arg(c, "address")
	if err := errors.Join(err1, err2); err != nil {
		return answer{}, err
	}
	var m control.Machine
	if err := in.ask(ctx, "machine.add", control.Machine{Name: name, Address: address}, &m); err != nil {
		return answer{}, err
	}
	a := said("%s is at %s", m.Name, m.Address)
	a.json = m
	return a, nil
}

func (in *Interp) machineRemove(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err := in.arg(c, "name")
	if err == nil {
		err = in.ask(ctx, "machine.remove", control.NameRequest{Name: name}, nil)
	}
	return ok(), err
}

func (in *Interp) mount(ctx context.Context, c *syntax.Call) (answer, error) {
	dir, _, err := in.arg(c, "path")
	if err != nil {
		return answer{}, err
	}
	var reply control.MountReply
	if err := in.ask(ctx, "mount", control.DirRequest{Dir: dir}, &reply); err != nil {
		return answer{}, err
	}
	for _, p := range reply.Foreign {
		in.warn(fmt.Sprintf("process %d (%s) opened %s before the mount; what it writes there is not captured", p.PID, p.Command, p.Path))
	}
	a := said("Captured in write order: %s", dir)
	a.json = reply
	return a, nil
}

func (in *Interp) umount(ctx context.Context, c *syntax.Call) (answer, error) {
	dir, _, err := in.arg(c, "path")
	if err == nil {
		err = in.ask(ctx, "umount", control.DirRequest{Dir: dir}, nil)
	}
	return ok(), err
}

// pauseTarget pauses or resumes applying on a target.
func (in *Interp) pauseTarget(ctx context.Context, c *syntax.Call) (answer, error) {
	name, _, err1 := in.arg(c, "target")
	source, _, err2 := in.arg(c, "source")
	if err := errors.Join(err1, err2); err != nil {
		return answer{}, err
	}
	m, _, err := in.machine(ctx, name)
	if err == nil {
		err = in.askOn(ctx, m, "target", control.PauseRequest{Source: source, Pause: c.Cmd.Name == "PAUSETARGET"}, nil)
	}
	return ok(), err
}

// Names lists what can be named, for completion: sets, connections and machines of the
// current source. What cannot be asked is left out.
func (in *Interp) Names(ctx context.Context) (sets, cons, machines []string) {
	var rl control.RepsetList
	if in.ask(ctx, "repset.list", struct{}{}, &rl) == nil {
		for _, s := range rl.Sets {
			sets = append(sets, s.Name)
		}
	}
	for _, e := range in.edits {
		if e.set.Generation == 0 {
			sets = append(sets, e.set.Name)
		}
	}
	sort.Strings(sets)
	if st, err := in.nodeStatus(ctx); err == nil {
		for _, c := range st.Connections {
			cons = append(cons, fmt.Sprint(c.ID))
		}
	}
	var ml control.MachineList
	if in.ask(ctx, "machine.list", struct{}{}, &ml) == nil {
		for _, m := range ml.Machines {
			machines = append(machines, m.Name)
		}
	}
	return sets, cons, machines
}
