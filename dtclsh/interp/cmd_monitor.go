package interp

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

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

func (in *Interp) monitorList(ctx context.Context, _ *syntax.Call) (answer, error) {
	var list control.MonitorList
	if err := in.askTarget(ctx, "monitor.list", struct{}{}, &list); err != nil {
		return answer{}, err
	}
	a := answer{value: number(int64(len(list.Monitors))), json: list.Monitors}
	for _, st := range list.Monitors {
		a.lines = append(a.lines, fmt.Sprintf("%-24s%-14s%-12s%s", st.Source, st.State, timeToFail(&st), st.Line))
	}
	return a, nil
}

// timeToFail is the column of that name (F55).
func timeToFail(st *control.MonitorStatus) string {
	switch st.State {
	case "failed over":
		return "Failed Over"
	case "stopped":
		return "-"
	}
	return (time.Duration(st.LeftMS) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// monitorStates are what MONITOR GET returns.
var monitorStates = map[string]int64{"online": 1, "caution": 2, "failed": 2, "failing over": 2, "failed over": 3, "failing back": 3}

func (in *Interp) monitorGet(ctx context.Context, c *syntax.Call) (answer, error) {
	st, err := in.getMonitor(ctx, c)
	if err != nil {
		return answer{}, err
	}
	return answer{value: number(monitorStates[st.State]), json: st, lines: []string{st.Line}}, nil
}

func (in *Interp) monitorDisplay(ctx context.Context, c *syntax.Call) (answer, error) {
	st, err := in.getMonitor(ctx, c)
	if err != nil {
		return answer{}, err
	}
	a := answer{value: number(1), json: st, lines: []string{"- Monitor of " + st.Source + " -"}}
	add := func(label, format string, args ...any) {
		a.lines = append(a.lines, fmt.Sprintf("%-34s%s", label, fmt.Sprintf(format, args...)))
	}
	add("State:", "%s", st.State)
	add("Time to Fail:", "%s", timeToFail(&st))
	add("Status:", "%s", st.Line)
	add("Trigger:", "%s monitored addresses", st.Trigger)
	add("Manual intervention:", "%s", yesNo(!st.Automatic))
	add("Move addresses:", "%s", yesNo(!st.KeepAddresses))
	add("Move name:", "%s", yesNo(st.MoveName))
	add("Apply target queue first:", "%s", yesNo(!st.SkipQueue))
	if st.Lease != "" {
		add("When the source is cut off:", "%s", st.Lease)
	}
	if len(st.Witnesses) > 0 {
		add("Witnesses:", "%s", strings.Join(st.Witnesses, " "))
	}
	for _, m := range st.Addresses {
		add("Address:", "%s", addressLine(m, st.Watched))
	}
	for _, t := range scriptTypes {
		if s, has := st.Scripts[strings.ToLower(t)]; has {
			add("Script "+strings.ToLower(t)+":", "%s %s (waited for: %s)", s.Path, strings.Join(s.Args, " "), yesNo(s.Wait))
		}
	}
	for _, t := range st.Taken {
		add("Taken over:", "%s on %s", t.Address, t.NIC)
	}
	for _, e := range st.Errors {
		add("Went wrong:", "%s", e)
	}
	if st.Restore {
		add("Restore required:", "yes")
	}
	return a, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func addressLine(m control.MonitorAddress, watched []control.WatchedAddressStatus) string {
	words := []string{m.Address}
	if m.Watch {
		words = append(words, fmt.Sprintf("watched by %s every %v, missed %d", m.Probe, time.Duration(m.IntervalMS)*time.Millisecond, m.Missed))
	} else {
		words = append(words, "not watched")
	}
	for _, w := range watched {
		if w.Address == m.Address {
			words = append(words, w.State)
			if w.Err != "" {
				words = append(words, w.Err)
			}
		}
	}
	if m.Take {
		words = append(words, "taken over on "+cmp.Or(m.NIC, "the card in its network"))
	}
	return strings.Join(words, ", ")
}

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
