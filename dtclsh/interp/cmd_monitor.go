package interp

import (
	"cmp"
	"context"
	"math"
	"strconv"
	"strings"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// Monitors of the current target: each command reads the monitor, changes it and stores
// it; the node refuses if somebody else changed it in between.

// onTarget is the machine that monitors and takes over: the current target, else the
// machine the shell is on.
func (in *Interp) onTarget(ctx context.Context) (Client, error) {
	if in.target == "" {
		return in.current(ctx)
	}
	m, _, err := in.machine(ctx, in.target)
	return m, err
}

// askTarget calls a verb of that machine.
func (in *Interp) askTarget(ctx context.Context, verb string, req, reply any) error {
	m, err := in.onTarget(ctx)
	if err != nil {
		return err
	}
	return in.askOn(ctx, m, verb, req, reply)
}

// monitorName is the monitor a command names, else the current one.
func (in *Interp) monitorName(c *syntax.Call) (string, error) {
	name, given, err := in.arg(c, "monitor")
	if err != nil || given {
		return name, err
	}
	if in.monitor == "" {
		return "", fail(syntax.NoMonitor, "monitor use SOURCE", "no monitor is chosen")
	}
	return in.monitor, nil
}

func (in *Interp) getMonitor(ctx context.Context, c *syntax.Call) (st control.MonitorStatus, err error) {
	name, err := in.monitorName(c)
	if err == nil {
		err = in.askTarget(ctx, "monitor.get", control.MonitorRequest{Source: name}, &st)
	}
	return st, err
}

// editMonitor reads a monitor, has it changed and stores it.
func (in *Interp) editMonitor(ctx context.Context, c *syntax.Call, change func(m *control.MonitorConfig) error) (answer, error) {
	st, err := in.getMonitor(ctx, c)
	if err != nil {
		return answer{}, err
	}
	m := st.MonitorConfig
	if err := change(&m); err != nil {
		return answer{}, err
	}
	return ok(), in.askTarget(ctx, "monitor.save", m, nil)
}

func (in *Interp) monitorCreate(ctx context.Context, c *syntax.Call) (answer, error) {
	name, err := in.monitorName(c)
	if err == nil {
		err = in.askTarget(ctx, "monitor.save", control.MonitorConfig{Source: name}, nil)
	}
	if err != nil {
		return answer{}, err
	}
	in.monitor = name
	return said("Monitor: %s", name), nil
}

func (in *Interp) monitorUse(ctx context.Context, c *syntax.Call) (answer, error) {
	st, err := in.getMonitor(ctx, c)
	if err != nil {
		return answer{}, err
	}
	in.monitor = st.Source
	return said("Monitor: %s", st.Source), nil
}

// monitorSimple is start, stop and delete.
func (in *Interp) monitorSimple(ctx context.Context, c *syntax.Call) (answer, error) {
	name, err := in.monitorName(c)
	if err == nil {
		err = in.askTarget(ctx, "monitor."+strings.ToLower(strings.TrimPrefix(c.Cmd.Name, "MONITOR ")), control.MonitorRequest{Source: name}, nil)
	}
	return ok(), err
}

func (in *Interp) monitorClear(ctx context.Context, c *syntax.Call) (answer, error) {
	st, err := in.getMonitor(ctx, c)
	if err != nil {
		return answer{}, err
	}
	if st.State != "stopped" {
		return answer{}, fail(syntax.MonitorInUse, "monitor stop "+st.Source, "monitor %s is %s", st.Source, st.State)
	}
	return ok(), in.askTarget(ctx, "monitor.save", control.MonitorConfig{Source: st.Source, Generation: st.Generation}, nil)
}

// findAddress finds an address of a monitor, whatever its prefix.
func findAddress(m *control.MonitorConfig, address string) *control.MonitorAddress {
	bare := func(a string) string { s, _, _ := strings.Cut(a, "/"); return s }
	for i := range m.Addresses {
		if bare(m.Addresses[i].Address) == bare(address) {
			return &m.Addresses[i]
		}
	}
	return nil
}

func (in *Interp) monitorAdd(ctx context.Context, c *syntax.Call) (answer, error) {
	address, _, err := in.arg(c, "address")
	if err != nil {
		return answer{}, err
	}
	return in.editMonitor(ctx, c, func(m *control.MonitorConfig) error {
		a := findAddress(m, address)
		if a == nil {
			m.Addresses = append(m.Addresses, control.MonitorAddress{Take: true})
			a = &m.Addresses[len(m.Addresses)-1]
		}
		a.Address, a.Watch = address, !c.Has("NOWATCH")
		if c.Has("TAKE") || c.Has("NOTAKE") {
			a.Take = c.Has("TAKE")
		}
		for _, p := range []string{"PING", "SERVICE", "BOTH"} {
			if c.Has(p) {
				a.Probe = strings.ToLower(p)
			}
		}
		return in.timing(c, a)
	})
}

// timing reads INTERVAL, MISSED and TIMEOUT; of a timeout the interval follows.
func (in *Interp) timing(c *syntax.Call, a *control.MonitorAddress) error {
	interval, hasInterval, err := in.seconds(c, "interval")
	if err != nil {
		return err
	}
	timeout, hasTimeout, err := in.seconds(c, "timeout")
	if err != nil {
		return err
	}
	if _, given := c.Arg("missed"); given {
		n, err := in.integer(c, "missed")
		if err != nil {
			return err
		}
		if n < 1 || n > 65535 {
			return fail(syntax.BadParameter, "1 to 65535", "missed: %d", n)
		}
		a.Missed = int(n)
	}
	if hasInterval {
		a.IntervalMS = interval
	}
	switch {
	case hasTimeout && hasInterval:
		a.Missed = int(max(1, (timeout+interval-1)/max(interval, 1)))
	case hasTimeout:
		a.Missed = cmp.Or(a.Missed, 5)
		a.IntervalMS = timeout / int64(a.Missed)
	}
	return nil
}

// seconds is an argument in seconds, as milliseconds.
func (in *Interp) seconds(c *syntax.Call, name string) (ms int64, given bool, err error) {
	s, given, err := in.arg(c, name)
	if err != nil || !given {
		return 0, given, err
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f <= 0 || f > 65535 {
		return 0, true, fail(syntax.BadParameter, "seconds, more than 0 and at most 65535", "%s: %q", name, s)
	}
	return int64(math.Round(f * 1000)), true, nil
}

func (in *Interp) monitorRemove(ctx context.Context, c *syntax.Call) (answer, error) {
	address, _, err := in.arg(c, "address")
	if err != nil {
		return answer{}, err
	}
	return in.editMonitor(ctx, c, func(m *control.MonitorConfig) error {
		a := findAddress(m, address)
		if a == nil {
			return fail(syntax.BadParameter, "see: monitor display", "%s is no address of monitor %s", address, m.Source)
		}
		for i := range m.Addresses {
			if &m.Addresses[i] == a {
				m.Addresses = append(m.Addresses[:i], m.Addresses[i+1:]...)
				break
			}
		}
		return nil
	})
}

func (in *Interp) monitorMove(ctx context.Context, c *syntax.Call) (answer, error) {
	address, _, err := in.arg(c, "address")
	if err != nil {
		return answer{}, err
	}
	name, _, err := in.arg(c, "nic")
	if err != nil {
		return answer{}, err
	}
	var list control.NICList
	if err := in.askTarget(ctx, "nic.list", struct{}{}, &list); err != nil {
		return answer{}, err
	}
	nic := ""
	for _, n := range list.NICs {
		if n.Name == name || strconv.Itoa(n.Number) == name {
			nic = n.Name
		}
	}
	if nic == "" {
		return answer{}, fail(syntax.NoNIC, "see: niclist", "no network card %q on the target", name)
	}
	return in.editMonitor(ctx, c, func(m *control.MonitorConfig) error {
		a := findAddress(m, address)
		if a == nil { // taken over without being watched (F3)
			m.Addresses = append(m.Addresses, control.MonitorAddress{Address: address})
			a = &m.Addresses[len(m.Addresses)-1]
		}
		a.NIC, a.Take = nic, true
		return nil
	})
}
