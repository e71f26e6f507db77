package tui

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

const (
	prompt    = "Command: "
	continued = "    ...> "
	hints     = "F1 help  Tab complete  PgUp/PgDn messages  Ctrl-C interrupt  Ctrl-D leave"
)

// The looks. Colours are the terminal's own sixteen.
var (
	strong  = lipgloss.NewStyle().Bold(true)
	banner  = lipgloss.NewStyle().Reverse(true)
	faint   = lipgloss.NewStyle().Faint(true)
	good    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	careful = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad     = lipgloss.NewStyle().Foreground(lipgloss.Red)
)

// View draws the model.
func (m *model) View() tea.View {
	lines, x := m.screen()
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	if m.height > 0 {
		v.Cursor = tea.NewCursor(x, m.height-1)
	}
	return v
}

// screen is every line of the screen, and the column of the cursor in the last one.
// There are as many lines as the screen has, none wider than it; on a very small one the
// bottom line is kept longest.
func (m *model) screen() (out []string, cursor int) {
	if m.width <= 0 || m.height <= 0 {
		return nil, 0
	}
	top, bottom := m.topHeight(), min(m.height, 2)
	if top > 0 {
		out = append(out, m.header())
	}
	if top > 1 {
		out = append(out, m.area(top-1)...)
	}
	out = append(out, m.paneLines(m.height-top-bottom)...)
	if bottom > 1 {
		out = append(out, m.statusLine())
	}
	input, cursor := m.inputLine()
	out = append(out, input)
	for i := range out {
		out[i] = ansi.Truncate(out[i], m.width, "")
	}
	return out, cursor
}

// topHeight is how many lines header, headings and connections take: as many as they
// need, but not more than half of the screen.
func (m *model) topHeight() int {
	switch {
	case m.height < 4:
		return 0
	case m.height < 8:
		return 1
	}
	return min(1+len(m.tableLines()), max(m.height/2, 5))
}

// paneHeight is how many rows of messages are seen, without their heading.
func (m *model) paneHeight() int {
	return max(m.height-m.topHeight()-min(m.height, 2)-1, 0)
}

// header names the product, the active source, and what is wrong with it.
func (m *model) header() string {
	left := fmt.Sprintf(" Understudy %s   Source Machine: %s", clean(m.status.Version, false), clean(m.sourceName(), false))
	right := ""
	switch {
	case m.trouble != nil:
		right = fmt.Sprintf("NO CONNECTION since %s, trying again ", m.since.Format(time.TimeOnly))
	case !m.heard:
		right = "connecting "
	case len(m.status.Alerts) > 0:
		right = fmt.Sprintf("%d alerts ", len(m.status.Alerts))
	}
	gap := m.width - lipgloss.Width(left) - lipgloss.Width(right)
	if gap < 1 { // what is wrong is worth more than the version
		left = ansi.Truncate(left, max(m.width-lipgloss.Width(right)-1, 0), "")
		gap = max(m.width-lipgloss.Width(left)-lipgloss.Width(right), 0)
	}
	return banner.Render(left + strings.Repeat(" ", gap) + right)
}

// area is the heading and what fits of the connections below it.
func (m *model) area(height int) []string {
	all := m.tableLines()
	m.first = min(m.first, max(len(all)-height, 0))
	head, rest := all[:1], all[1:]
	out := append([]string(nil), head...)
	room := height - 1
	rest = rest[min(m.first, len(rest)):]
	if len(rest) > room && room > 0 {
		out = append(out, rest[:room-1]...)
		return append(out, faint.Render(fmt.Sprintf("... %d more lines: Shift-Up, Shift-Down", len(rest)-room+1)))
	}
	return append(out, rest[:min(len(rest), max(room, 0))]...)
}

// paneLines is the heading of the messages and as many of them as fit.
func (m *model) paneLines(height int) []string {
	if height <= 0 {
		return nil
	}
	title := "-- Messages "
	if m.back > 0 {
		title += fmt.Sprintf("(%d below: PgDn) ", m.back)
	}
	out := []string{faint.Render(title + strings.Repeat("-", max(m.width-len(title), 0)))}
	last := max(len(m.pane)-m.back, 0)
	rows := m.pane[max(last-(height-1), 0):last]
	for range height - 1 - len(rows) {
		out = append(out, "")
	}
	for _, r := range rows {
		out = append(out, r.paint())
	}
	return out
}

func (r row) paint() string {
	switch {
	case r.kind == troubleLine:
		return careful.Render(r.text)
	case r.kind == typedLine:
		return strong.Render(r.text)
	case r.severity == "Error":
		return bad.Render(r.text)
	case r.severity == "Warning":
		return careful.Render(r.text)
	}
	return r.text
}

// statusLine says how far a wait is, or which keys there are.
func (m *model) statusLine() string {
	switch {
	case m.progress != "":
		return m.progress
	case m.busy:
		return faint.Render("running; Ctrl-C interrupts")
	}
	return faint.Render(hints)
}

// inputLine is the prompt and what is typed; of a long line the part with the cursor.
func (m *model) inputLine() (string, int) {
	ask, e, hidden := prompt, &m.line, false
	switch {
	case m.question != nil:
		ask, e, hidden = m.question.text, &m.question.line, m.question.hidden
	case m.typed != "":
		ask = continued
	}
	ask = ansi.Truncate(ask, m.width/2, "")
	text := e.text
	if hidden {
		text = nil
		return ask, min(lipgloss.Width(ask), m.width-1)
	}
	room := m.width - lipgloss.Width(ask) - 1 // the cursor may stand behind the text
	from := 0
	for from < e.pos && lipgloss.Width(string(text[from:e.pos])) > max(room, 0) {
		from++
	}
	x := lipgloss.Width(ask) + lipgloss.Width(string(text[from:e.pos]))
	return ask + string(text[from:]), min(x, m.width-1)
}
