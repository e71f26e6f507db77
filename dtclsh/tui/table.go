package tui

import (
	"fmt"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"understudy/control"
)

// column of the status area. Widths are for 80 columns; what the screen has more goes to
// the columns that grow.
type column struct {
	title string
	width int
	right bool // numbers
	grows bool
	cell  func(c *control.Connection) string
}

var columns = []column{
	{"Con", 4, false, false, func(c *control.Connection) string { return fmt.Sprint(c.ID) }},
	{"Rep Set", 11, false, true, func(c *control.Connection) string { return c.Set }},
	{"Transmit", 9, false, false, func(c *control.Connection) string { return c.Transmit }},
	{"Mirror", 14, false, true, mirrorCell},
	{"Replication", 11, false, false, func(c *control.Connection) string { return c.Replication }},
	{"Queue", 6, true, false, func(c *control.Connection) string { return brief(float64(c.QueuedOps), 1000) }},
	{"Sent", 6, true, false, func(c *control.Connection) string { return brief(float64(c.SentBytes), 1024) }},
	{"Target State", 12, false, true, func(c *control.Connection) string { return c.TargetState }},
}

func mirrorCell(c *control.Connection) string {
	if c.Mirror == "Mirroring" && c.MirrorPercent >= 0 {
		return fmt.Sprintf("%s %.0f%%", c.Mirror, c.MirrorPercent)
	}
	return c.Mirror
}

// brief writes a number in at most five characters, with the letter of its power: of
// 1000 for things, of 1024 for bytes.
func brief(n, base float64) string {
	letters := []string{"", "K", "M", "G", "T", "P", "E"}
	i := 0
	for n >= 9999.5 || i > 0 && n >= 999.5 {
		if i == len(letters)-1 {
			break
		}
		n /= base
		i++
	}
	if i > 0 && n < 99.95 {
		return fmt.Sprintf("%.1f%s", n, letters[i])
	}
	return fmt.Sprintf("%.0f%s", n, letters[i])
}

// tableLines are the heading and a block for each target: its name, and beneath it, in
// the same column, the numbers of its connections.
func (m *model) tableLines() []string {
	out := []string{strong.Render(m.cells(func(c column) string { return c.title }))}
	if !m.heard {
		return append(out, faint.Render("  nothing is known yet"))
	}
	var targets []string
	by := map[string][]*control.Connection{}
	for i := range m.status.Connections {
		c := &m.status.Connections[i]
		if by[c.Target] == nil {
			targets = append(targets, c.Target)
		}
		by[c.Target] = append(by[c.Target], c)
	}
	for _, t := range targets {
		out = append(out, strong.Render(clean(t, false)))
		for _, c := range by[t] {
			out = append(out, m.connectionLine(c))
			if note := noteOf(c); note != "" {
				out = append(out, careful.Render("       "+clean(note, false)))
			}
		}
	}
	if len(targets) == 0 {
		out = append(out, faint.Render("  no connections"))
	}
	out = append(out, m.replicaLines()...)
	if m.trouble != nil { // what is shown was true once
		for i := range out {
			out[i] = faint.Render(ansi.Strip(out[i]))
		}
	}
	return out
}

// noteOf is what one should know of a connection: its first alert, or its last error.
func noteOf(c *control.Connection) string {
	for _, a := range c.Alerts {
		return fmt.Sprintf("%s %d: %s", a.Severity, a.ID, a.Text)
	}
	return c.LastError
}

// replicaLines show what this machine holds for others.
func (m *model) replicaLines() (out []string) {
	for _, r := range m.status.Replicas {
		usable := "not usable yet"
		if r.Usable {
			usable = "usable"
		}
		out = append(out, clean(fmt.Sprintf("replica of %s %s: %s, %s, %s operations wait", r.Source, r.Set, r.State, usable, brief(float64(r.QueuedOps), 1000)), false))
	}
	return out
}

func (m *model) connectionLine(c *control.Connection) string {
	return m.cells(func(col column) string {
		cell := clean(col.cell(c), false)
		switch col.title {
		case "Transmit", "Mirror", "Target State":
			return styleOf(cell).Render(cell)
		}
		return cell
	})
}

// styleOf colours the word of a state.
func styleOf(state string) lipgloss.Style {
	switch {
	case state == "OK" || state == "Started" || state == "Idle":
		return good
	case state == "Error" || state == "Broken" || state == "Unreachable" || strings.HasPrefix(state, "Remirror"):
		return bad
	}
	return careful
}

// cells sets the cells of a line side by side, in the columns' widths.
func (m *model) cells(cell func(column) string) string {
	extra := m.width - len(columns) + 1
	growing := 0
	for _, c := range columns {
		extra -= c.width
		if c.grows {
			growing++
		}
	}
	extra = min(max(extra, 0)/growing, 24)
	var out []string
	for _, c := range columns {
		width := c.width
		if c.grows {
			width += extra
		}
		s := ansi.Truncate(cell(c), width, "~")
		pad := strings.Repeat(" ", width-lipgloss.Width(s))
		if c.right {
			s = pad + s
		} else {
			s += pad
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
