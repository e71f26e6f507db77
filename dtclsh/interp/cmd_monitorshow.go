package interp

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// What monitors are and see.

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
