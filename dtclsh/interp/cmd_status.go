package interp

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"understudy/control"
	"understudy/dtclsh/syntax"
)

// STATUS and its tables.

func (in *Interp) status(ctx context.Context, c *syntax.Call) (answer, error) {
	switch {
	case c.Has("SCHEDULE"):
		return in.statusSchedule(ctx, c)
	case c.Has("MONITOR"):
		return in.monitorList(ctx, c)
	case c.Has("TASKS"):
		return in.statusTasks(ctx)
	case c.Has("REPSET"):
		return in.repsetList(ctx, c)
	case c.Has("CONNECTION"):
		return in.statusOf(ctx, c)
	}
	st, err := in.nodeStatus(ctx)
	switch {
	case err != nil:
		return answer{}, err
	case c.Has("SOURCE"):
		return captureTable(st), nil
	case c.Has("TARGET"):
		return replicaTable(st), nil
	}
	return in.connectionTable(st.Connections), nil
}

// statusOf is STATUS CONNECTION: one in full, or * as a table.
func (in *Interp) statusOf(ctx context.Context, c *syntax.Call) (answer, error) {
	if s, _, err := in.arg(c, "con"); err != nil {
		return answer{}, err
	} else if s == "*" { // none is no error: the table is empty
		st, err := in.nodeStatus(ctx)
		return in.connectionTable(st.Connections), err
	}
	list, err := in.cons(ctx, c)
	if err != nil {
		return answer{}, err
	}
	con := list[0]
	return answer{value: number(int64(control.StateNumber(con.Transmit))), json: con, lines: in.connectionLines(con)}, nil
}

// connectionLines shows one connection; values stand in column 37.
func (in *Interp) connectionLines(c control.Connection) []string {
	order := "kept"
	if !c.OrderKept {
		order = "not kept"
	}
	lines := []string{fmt.Sprintf("- Status for connection %d -", c.ID)}
	add := func(label, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-34s", label+":")+fmt.Sprintf(format, args...))
	}
	add("Replication set", "%s", c.Set)
	add("Target machine", "%s", c.Target)
	add("Target state", "%s", in.stateText(c.TargetState))
	add("Transmit", "%s", in.stateText(c.Transmit))
	add("Mirror", "%s", in.stateText(mirrorText(c)))
	add("Mirror files transmitted", "%d", c.MirrorFiles)
	add("Mirror bytes transmitted", "%d", c.MirrorBytes)
	add("Replication", "%s", c.Replication)
	add("Replication operations in queue", "%d", c.QueuedOps)
	add("Replication bytes in queue", "%d", c.QueuedBytes)
	add("Bytes transmitted", "%d", c.SentBytes)
	add("Lag", "%.1f ms", c.LagMS)
	add("Capture", "%s (%s), order %s", c.Capture, c.Fidelity, order)
	add("Captured operation", "%d", c.CapturedOp)
	add("Applied operation", "%d", c.AppliedOp)
	add("Epoch", "%s", c.Epoch)
	if c.LastError != "" {
		add("Last error", "%s", in.paint(red, c.LastError))
	}
	for _, a := range c.Alerts {
		add(fmt.Sprintf("%s %d", a.Severity, a.ID), "%s", in.paint(alertColour[a.Severity], a.Text))
	}
	return lines
}

// alertColour by severity; others are plain.
var alertColour = map[string]string{"Error": red, "Warning": yellow}

func mirrorText(c control.Connection) string {
	if c.Mirror == "Mirroring" && c.MirrorPercent >= 0 {
		return fmt.Sprintf("%s %.0f%%", c.Mirror, c.MirrorPercent)
	}
	return c.Mirror
}

// stateText colours a state's word on a terminal.
func (in *Interp) stateText(s string) string {
	switch {
	case s == "OK" || s == "Started" || s == "Idle":
		return in.paint(green, s)
	case s == "Error" || s == "Broken" || s == "Unreachable" || strings.HasPrefix(s, "Remirror"):
		return in.paint(red, s)
	}
	return in.paint(yellow, s)
}

// table aligns rows of cells.
func table(rows [][]string) []string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // into memory
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

func (in *Interp) connectionTable(cons []control.Connection) answer {
	if cons == nil {
		cons = []control.Connection{}
	}
	rows := [][]string{{"Con", "Rep Set", "Target", "Transmit", "Mirror", "Replication", "Queue", "Sent", "Lag", "Target State"}}
	for _, c := range cons {
		rows = append(rows, []string{fmt.Sprint(c.ID), c.Set, c.Target, c.Transmit, mirrorText(c), c.Replication,
			fmt.Sprint(c.QueuedOps), fmt.Sprint(c.SentBytes), fmt.Sprintf("%.1f ms", c.LagMS), c.TargetState})
	}
	return answer{value: number(int64(len(cons))), json: cons, lines: append([]string{"- Connections -"}, table(rows)...)}
}

func captureTable(st control.Status) answer {
	rows := [][]string{{"Directory", "Capture", "Fidelity", "Operations", "Bytes"}}
	for _, c := range st.Captures {
		rows = append(rows, []string{c.Dir, c.Backend, c.Fidelity, fmt.Sprint(c.Ops), fmt.Sprint(c.WriteBytes)})
	}
	return answer{value: number(int64(len(st.Captures))), json: st.Captures, lines: append([]string{"- Captured directories of " + st.Name + " -"}, table(rows)...)}
}

func replicaTable(st control.Status) answer {
	rows := [][]string{{"Source", "Rep Set", "State", "Usable", "Queue", "Where"}}
	for _, r := range st.Replicas {
		usable := "no"
		if r.Usable {
			usable = "yes"
		}
		rows = append(rows, []string{r.Source, r.Set, r.State, usable, fmt.Sprint(r.QueuedOps), strings.Join(r.Paths, ", ")})
	}
	return answer{value: number(int64(len(st.Replicas))), json: st.Replicas, lines: append([]string{"- Replicas on " + st.Name + " -"}, table(rows)...)}
}
