package node

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"understudy/control"
	"understudy/failover"
)

// The verbs of monitors, failover and failback.

// monitorErrors are what the manager says, as codes and hints.
var monitorErrors = []struct {
	err  error
	code control.Code
	hint string
}{
	{failover.ErrNoMonitor, control.NotFound, "see: monitor list"},
	{failover.ErrExists, control.Exists, "monitor use it"},
	{failover.ErrChanged, control.Refused, "look at it again: monitor display"},
	{failover.ErrOnline, control.NotReady, "take it off the network; or failover SOURCE confirm"},
	{failover.ErrNotUsable, control.NotReady, "wait for the mirror; or failover SOURCE force"},
	{failover.ErrStopped, control.NotReady, "see: understudy events; failover SOURCE force goes on all the same"},
	{failover.ErrFailedOver, control.Refused, "see: monitor display"},
	{failover.ErrNotFailedOver, control.Refused, "see: monitor display"},
	{failover.ErrBusy, control.Refused, "stop it, or fail back first"},
	{failover.ErrNothing, control.BadRequest, "monitor add ADDRESS"},
	{failover.ErrNoDecision, control.BadRequest, "see: monitor display"},
	{failover.ErrFull, control.Refused, "delete one that is not used"},
}

func explainMonitor(err error) error {
	for _, m := range monitorErrors {
		if errors.Is(err, m.err) {
			return control.Errorf(m.code, m.hint, "%v", err)
		}
	}
	return err
}

// recode carries a value to the type of the same JSON form on the other side of control.
func recode(from, to any) error {
	raw, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, to)
}

func monitorStatus(st failover.Status) (out control.MonitorStatus, err error) {
	err = recode(st.Monitor, &out.MonitorConfig)
	out.Started, out.State, out.LeftMS, out.TimeoutMS = st.Started, st.State, st.Left.Milliseconds(), st.Timeout.Milliseconds()
	out.Lease = st.Lease
	out.Line, out.Pending, out.Step, out.Errors, out.Restore, out.Since = st.Line, st.Pending, st.Step, st.Errors, st.Restore, st.Since
	for _, t := range st.Taken {
		out.Taken = append(out.Taken, control.TakenAddress{Address: t.Prefix.String(), NIC: t.NIC, Ours: t.Ours})
	}
	for _, a := range st.Addresses {
		out.Watched = append(out.Watched, control.WatchedAddressStatus{Address: a.Address, State: string(a.Light), Heard: a.Heard,
			LeftMS: a.Left.Milliseconds(), TimeoutMS: a.Timeout.Milliseconds(), Err: a.Err})
	}
	return out, err
}

func (n *Node) listMonitors(context.Context, nothing) (any, error) {
	out := control.MonitorList{Monitors: []control.MonitorStatus{}}
	for _, st := range n.failover.Statuses() {
		m, err := monitorStatus(st)
		if err != nil {
			return nil, err
		}
		out.Monitors = append(out.Monitors, m)
	}
	return out, nil
}

func (n *Node) getMonitor(_ context.Context, r control.MonitorRequest) (any, error) {
	st, err := n.failover.Status(r.Source)
	if err != nil {
		return nil, explainMonitor(err)
	}
	return monitorStatus(st)
}

func (n *Node) saveMonitor(_ context.Context, r control.MonitorConfig) (any, error) {
	if !nodeName.MatchString(r.Source) {
		return nil, control.Errorf(control.BadRequest, "letters, digits, - and _, at most 63", "%q cannot be the name of a machine", r.Source)
	}
	var m failover.Monitor
	if err := recode(r, &m); err != nil {
		return nil, err
	}
	n.failoverDefaults(&m)
	m.Complete()
	if err := m.Validate(); err != nil {
		return nil, control.Errorf(control.BadRequest, "", "monitor %s: %v", r.Source, err)
	}
	if err := n.failover.Save(m); err != nil {
		return nil, explainMonitor(err)
	}
	return n.getMonitor(context.Background(), control.MonitorRequest{Source: r.Source})
}

// failoverDefaults fills in what a monitor does not say and the settings do. Of a monitor
// that exists only the timing of addresses can be left out.
func (n *Node) failoverDefaults(m *failover.Monitor) {
	c := n.conf()
	for i := range m.Addresses {
		a := &m.Addresses[i]
		service := a.Probe == failover.ProbeService
		if a.IntervalMS == 0 && !service { // the daemon is asked every second
			a.IntervalMS = c.FailoverInterval.Milliseconds()
		}
		switch {
		case a.Missed == 0 && service:
			a.Missed = c.FailoverMissedService
		case a.Missed == 0:
			a.Missed = c.FailoverMissed
		}
	}
	if m.Generation != 0 {
		return
	}
	m.Automatic = m.Automatic || !c.FailoverAsk
	m.KeepAddresses = m.KeepAddresses || !c.FailoverAddresses
	if m.Trigger == "" && !c.FailoverAll {
		m.Trigger = failover.TriggerAny
	}
	for name, s := range map[string]failover.Script{
		failover.PreFailover:  {Path: c.PreFailoverScript, Args: strings.Fields(c.PreFailoverArgs), Wait: c.PreFailoverWait},
		failover.PostFailover: {Path: c.PostFailoverScript, Args: strings.Fields(c.PostFailoverArgs)},
		failover.PreFailback:  {Path: c.PreFailbackScript, Args: strings.Fields(c.PreFailbackArgs), Wait: c.PreFailbackWait},
		failover.PostFailback: {Path: c.PostFailbackScript, Args: strings.Fields(c.PostFailbackArgs)},
	} {
		if _, given := m.Scripts[name]; s.Path != "" && !given {
			if m.Scripts == nil {
				m.Scripts = map[string]failover.Script{}
			}
			m.Scripts[name] = s
		}
	}
}

func (n *Node) deleteMonitor(_ context.Context, r control.MonitorRequest) (any, error) {
	return nothing{}, explainMonitor(n.failover.Delete(r.Source))
}

func (n *Node) startMonitor(_ context.Context, r control.MonitorRequest) (any, error) {
	return nothing{}, explainMonitor(n.failover.Start(r.Source))
}

func (n *Node) stopMonitor(_ context.Context, r control.MonitorRequest) (any, error) {
	return nothing{}, explainMonitor(n.failover.Stop(r.Source))
}

func (n *Node) takeOver(ctx context.Context, r control.FailoverRequest) (any, error) {
	var err error
	switch r.Action {
	case "plan":
		st, err1 := n.failover.Status(r.Source)
		nics, err2 := n.failover.NICs()
		if err := errors.Join(err1, err2); err != nil {
			return nil, explainMonitor(err)
		}
		reply := control.FailoverReply{Steps: st.Plan(nics)}
		if err := (standIn{n}).Usable(st.Monitor.Source); err != nil {
			reply.Errors = append(reply.Errors, "the data is not usable: "+err.Error())
		}
		return reply, nil
	case "decline":
		err = n.failover.Decline(r.Source)
	case "start":
		err = n.failover.Failover(ctx, r.Source, r.Confirm, failover.Order{Force: r.Force, Switch: r.Switch})
	case "reverse":
		return n.reverse(ctx, r)
	default:
		return nil, control.Errorf(control.BadRequest, "start, decline, plan or reverse", "action %q", r.Action)
	}
	if err != nil {
		return nil, explainMonitor(err)
	}
	st, err := n.failover.Status(r.Source)
	return control.FailoverReply{Errors: st.Errors}, explainMonitor(err)
}

func (n *Node) failBack(ctx context.Context, r control.FailbackRequest) (any, error) {
	return nothing{}, explainMonitor(n.failover.Failback(ctx, r.Source, r.Stop))
}

func (n *Node) restored(_ context.Context, r control.MonitorRequest) (any, error) {
	return nothing{}, explainMonitor(n.failover.Restored(r.Source))
}

func (n *Node) listNICs(context.Context, nothing) (any, error) {
	nics, err := n.failover.NICs()
	if err != nil {
		return nil, err
	}
	out := control.NICList{NICs: []control.NIC{}}
	for _, c := range nics {
		nic := control.NIC{Number: c.Number, Name: c.Name, MAC: c.MAC, Up: c.Up, Addresses: []string{}}
		for _, p := range c.Addresses {
			nic.Addresses = append(nic.Addresses, p.String())
		}
		out.NICs = append(out.NICs, nic)
	}
	return out, nil
}
