package node

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"understudy/control"
)

// Machines this one knows by name, and where they are reached.

// maxMachines bounds the table; a name asked at connect time is remembered only while
// there is room.
const maxMachines = 1000

// askName bounds how long an unknown machine may take to say its name.
const askName = 5 * time.Second

func (n *Node) listMachines(context.Context, nothing) (any, error) {
	out := control.MachineList{Machines: []control.Machine{{Name: n.cfg.Name, Address: n.Addr()}}}
	n.state.read(func(d *stateData) {
		for name, addr := range d.Machines {
			if name != n.cfg.Name {
				out.Machines = append(out.Machines, n.withPresence(n.withKeys(control.Machine{Name: name, Address: addr})))
			}
		}
	})
	for _, p := range n.keys.Peers() { // one that is paired and listens nowhere is here, too
		if !slices.ContainsFunc(out.Machines, func(m control.Machine) bool { return m.Name == p.Name }) {
			out.Machines = append(out.Machines, n.withPresence(n.withKeys(control.Machine{Name: p.Name, Address: p.Address})))
		}
	}
	own := &out.Machines[0]
	own.Paired, own.Keys, own.Online, own.Program = true, []string{n.keys.Key().String()}, true, Version()
	sortMachines(out.Machines)
	return out, nil
}

// withKeys adds by which keys a machine is known, if it is paired.
func (n *Node) withKeys(m control.Machine) control.Machine {
	if p := n.peerInfo(m.Name); p.Name != "" {
		m.Paired, m.Keys = true, p.Keys
	}
	return m
}

// addMachine enters a machine; one that is known gets the new address, and connections to
// it go on there. Without a name the machine is asked for it.
func (n *Node) addMachine(ctx context.Context, m control.Machine) (any, error) {
	m.Address = withPort(m.Address)
	if m.Name == "" {
		var err error
		if m, err = n.ask(ctx, m.Address); err != nil {
			return nil, err
		}
	}
	if !nodeName.MatchString(m.Name) {
		return nil, control.Errorf(control.BadRequest, "letters, digits, - and _, at most 63", "%q cannot be the name of a machine", m.Name)
	}
	if host, _, err := net.SplitHostPort(m.Address); err != nil || host == "" {
		return nil, control.Errorf(control.BadRequest, "HOST or HOST:PORT", "%q is no address", m.Address)
	}
	full := false
	err := n.state.update(func(d *stateData) {
		if _, known := d.Machines[m.Name]; !known && len(d.Machines) >= maxMachines {
			full = true
			return
		}
		if d.Machines == nil {
			d.Machines = map[string]string{}
		}
		d.Machines[m.Name] = m.Address
	})
	if full {
		return nil, control.Errorf(control.Refused, "remove one that is gone", "%d machines are known", maxMachines)
	}
	if err == nil {
		n.moveConnections(m)
	}
	return m, err
}

func (n *Node) removeMachine(_ context.Context, r control.NameRequest) (any, error) {
	name, ok := "", false
	err := n.state.update(func(d *stateData) {
		if name, ok = matchMachine(d.Machines, r.Name); ok {
			delete(d.Machines, name)
		}
	})
	if !ok {
		return nil, control.Errorf(control.NotFound, "see: environment", "no machine %q is known", r.Name)
	}
	return nothing{}, err
}

// matchMachine finds a name regardless of case.
func matchMachine(table map[string]string, name string) (string, bool) {
	if _, ok := table[name]; ok {
		return name, true
	}
	for have := range table {
		if strings.EqualFold(have, name) {
			return have, true
		}
	}
	return "", false
}

// findMachine finds a target by its name, or else by HOST[:PORT], which is asked for
// its name and remembered.
func (n *Node) findMachine(ctx context.Context, target string) (control.Machine, error) {
	if strings.EqualFold(target, n.cfg.Name) {
		return control.Machine{Name: n.cfg.Name, Address: n.Addr()}, nil
	}
	var m control.Machine
	n.state.read(func(d *stateData) {
		if name, ok := matchMachine(d.Machines, target); ok {
			m = control.Machine{Name: name, Address: d.Machines[name]}
		}
	})
	if m.Name != "" {
		return m, nil
	}
	m, err := n.ask(ctx, withPort(target))
	if err != nil {
		return m, err
	}
	if _, err := n.addMachine(ctx, m); err != nil {
		n.log.Warn("machine not remembered", "machine", m.Name, "err", err)
	}
	return m, nil
}

// ask asks whoever listens at address for its name.
func (n *Node) ask(ctx context.Context, address string) (control.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, askName)
	defer cancel()
	c, err := control.Dial(ctx, address, "", control.Login{Accept: control.AcceptAny})
	if err != nil {
		return control.Machine{}, control.Errorf(control.Unreachable, "give HOST:PORT, or name it with: machine add NAME HOST:PORT",
			"%s is no known machine, and as an address does not answer: %v", strings.TrimSuffix(address, ":"+DefaultPort), err)
	}
	defer c.Close()
	return control.Machine{Name: c.Node(), Address: address}, nil
}

// withPort completes HOST to HOST:PORT; what has a port keeps it.
func withPort(address string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), DefaultPort)
}
