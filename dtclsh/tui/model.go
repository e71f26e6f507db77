package tui

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"understudy/control"
	"understudy/dtclsh/console"
	"understudy/dtclsh/syntax"
)

// model is everything the screen shows. Update alone changes it, in one goroutine.
type model struct {
	client        *Client
	width, height int

	place   place
	status  control.Status // the last that was heard
	heard   bool           // status holds one of this source
	trouble error          // why nothing newer was heard
	since   time.Time      // of the trouble

	pane  []row // bounded by maxRows
	back  int   // rows the pane is scrolled back
	first int   // first line of the connections that is shown

	line     editor
	past     *history
	typed    string // lines of a statement that goes on
	busy     bool   // a job runs
	progress string
	question *question
}

// lineKind is where a row of the pane comes from.
type lineKind uint8

const (
	plainLine lineKind = iota
	troubleLine
	typedLine
	eventLine
)

// row is one of the pane.
type row struct {
	kind     lineKind
	severity string // of an event
	text     string
}

// maxRows bounds what one can scroll back to.
const maxRows = 2000

// question waits for the person.
type question struct {
	text   string
	hidden bool
	reply  chan string
	line   editor
}

// What the goroutines tell the model.
type (
	textMsg struct {
		kind  lineKind
		lines []string
	}
	progressMsg string
	statusMsg   struct {
		place  place
		status control.Status
		err    error
		at     time.Time
	}
	eventsMsg struct {
		place  place
		events []control.Event
	}
	askMsg struct { // without a reply: take the question back
		text   string
		hidden bool
		reply  chan string
	}
	completedMsg struct {
		line, head string
		list       []string
		tail       string
	}
	doneMsg  struct{} // the job is over
	leaveMsg struct{}
)

// Init starts nothing: the client's goroutines run already.
func (m *model) Init() tea.Cmd { return nil }

// Update takes what happened into the model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg)
	case tea.PasteMsg:
		m.paste(msg.Content)
	case textMsg:
		for _, l := range msg.lines {
			m.add(row{kind: msg.kind, text: l})
		}
	case progressMsg:
		m.progress = clean(string(msg), true)
	case statusMsg:
		m.hear(msg)
	case eventsMsg:
		for _, e := range msg.events {
			m.add(eventRow(e))
		}
	case askMsg:
		m.ask(msg)
	case completedMsg:
		m.completed(msg)
	case leaveMsg:
		return m, m.leave()
	case doneMsg:
		m.busy, m.progress = false, ""
	}
	return m, nil
}

// lastKeys is how long keys are still taken that were read before the gate closed.
const lastKeys = 50 * time.Millisecond

// leave ends the program, once no key is on its way any more.
func (m *model) leave() tea.Cmd {
	m.client.input.closed.Store(true)
	return tea.Tick(lastKeys, func(time.Time) tea.Msg { return tea.QuitMsg{} })
}

// hear takes an answer about the connections, or the lack of one.
func (m *model) hear(msg statusMsg) {
	if msg.place != m.place {
		m.place, m.heard, m.trouble, m.first = msg.place, false, nil, 0
	}
	switch {
	case msg.err == nil:
		if m.trouble != nil {
			m.add(row{kind: plainLine, text: "  " + m.sourceName() + " answers again"})
		}
		m.status, m.heard, m.trouble = msg.status, true, nil
	case m.trouble == nil:
		m.trouble, m.since = msg.err, msg.at
		m.add(row{kind: troubleLine, text: "  " + msg.err.Error()})
	default:
		m.trouble = msg.err
	}
}

func (m *model) sourceName() string {
	if m.heard {
		return m.status.Name
	}
	return m.place.name
}

// add puts a row at the pane's end, made fit for a line. Who has scrolled back goes on seeing the same.
func (m *model) add(r row) {
	r.text = clean(r.text, true)
	m.pane = append(m.pane, r)
	if m.back > 0 {
		m.back++
	}
	if over := len(m.pane) - maxRows; over > 0 {
		m.pane = append([]row(nil), m.pane[over:]...)
		m.back = min(m.back, len(m.pane))
	}
}

func eventRow(e control.Event) row {
	text := fmt.Sprintf("%s %-7s %d %s", e.Time.Local().Format("01/02 15:04:05"), e.Severity, e.ID, e.Text)
	if e.Repeated > 0 {
		text += fmt.Sprintf(" (and %d times before)", e.Repeated)
	}
	return row{kind: eventLine, severity: e.Severity, text: text}
}

// ask shows a question, or takes it back.
func (m *model) ask(msg askMsg) {
	if m.question != nil {
		close(m.question.reply)
		m.question = nil
	}
	if msg.reply != nil {
		for _, l := range strings.Split(strings.TrimRight(msg.text, " \n"), "\n") {
			m.add(row{kind: plainLine, text: l})
		}
		_, last, _ := cutLast("\n" + msg.text)
		m.question = &question{text: clean(last, false), hidden: msg.hidden, reply: msg.reply}
	}
}

// enter takes a line that was typed: an answer, or (part of) a statement.
func (m *model) enter(line string) {
	m.typed += line + "\n"
	m.add(row{kind: typedLine, text: prompt + shown(line)})
	m.back = 0
	script, err := syntax.Parse(m.typed)
	if syntax.Incomplete(err) {
		return
	}
	text := m.typed
	m.typed = ""
	if strings.TrimSpace(text) == "" {
		return
	}
	if !console.Secret(text) {
		m.past.add(console.OneLine(text))
	}
	m.busy = m.client.submit(job{script: script, typed: text, err: err})
}

// shown is a line as the pane repeats it: passwords are left out.
func shown(line string) string {
	if console.Secret(line) {
		return "(not shown: it may hold a password)"
	}
	return line
}

// paste inserts text; of several lines all but the last are entered.
func (m *model) paste(text string) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	if m.question != nil {
		before, _, _ := strings.Cut(text, "\n")
		m.question.line.insert(before)
		return
	}
	whole, last, found := cutLast(text)
	if found && m.busy {
		m.add(row{kind: troubleLine, text: "  a command runs: what was pasted is dropped"})
		return
	}
	if found {
		m.line.insert(strings.SplitN(whole, "\n", 2)[0])
		first := m.line.String()
		m.line.set("")
		if _, rest, more := strings.Cut(whole, "\n"); more {
			first += "\n" + rest
		}
		m.enter(first)
	}
	m.line.insert(last)
}

// completed takes what a line may become.
func (m *model) completed(msg completedMsg) {
	m.busy = false
	if m.line.String() != msg.line || len(msg.list) == 0 {
		return
	}
	word := commonStart(msg.list)
	if len(msg.list) > 1 {
		word = strings.TrimRight(word, " ")
		m.add(row{kind: plainLine, text: "  " + strings.Join(msg.list, " ")})
		m.back = 0
	}
	if rest := msg.line[len(msg.head) : len(msg.line)-len(msg.tail)]; len(word) < len(rest) {
		return
	}
	m.line.set(msg.head + word)
	at := m.line.pos
	m.line.set(msg.head + word + msg.tail)
	m.line.pos = min(at, m.line.pos)
}

// commonStart is the longest text that all begin with, as the first one writes it.
func commonStart(list []string) string {
	start := list[0]
	for _, s := range list[1:] {
		n := 0
		for n < len(start) && n < len(s) && strings.EqualFold(start[n:n+1], s[n:n+1]) {
			n++
		}
		start = start[:n]
	}
	return strings.ToValidUTF8(start, "")
}
