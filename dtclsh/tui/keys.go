package tui

import (
	tea "charm.land/bubbletea/v2"
)

// key does what a key is for.
func (m *model) key(k tea.KeyPressMsg) tea.Cmd {
	name := k.Key().Keystroke()
	if m.question != nil {
		m.answerKey(name, k.Text)
		return nil
	}
	switch name {
	case "enter", "kpenter":
		m.enterKey()
	case "ctrl+c":
		m.interruptKey()
	case "ctrl+d":
		if len(m.line.text) == 0 && m.typed == "" {
			return m.leave()
		}
		m.line.edit("delete")
	case "ctrl+z":
		return tea.Suspend
	case "ctrl+l":
		return tea.ClearScreen
	case "tab":
		m.tabKey()
	case "f1":
		if !m.busy {
			m.enter("help")
		}
	case "up", "ctrl+p":
		m.recall(-1)
	case "down", "ctrl+n":
		m.recall(1)
	case "pgup":
		m.back = min(m.back+max(m.paneHeight()-1, 1), max(len(m.pane)-1, 0))
	case "pgdown":
		m.back = max(m.back-max(m.paneHeight()-1, 1), 0)
	case "shift+up", "ctrl+up":
		m.first = max(m.first-1, 0)
	case "shift+down", "ctrl+down":
		m.first++ // the view knows where the end is
	default:
		if !m.line.edit(name) && k.Text != "" {
			m.line.insert(k.Text)
		}
	}
	return nil
}

func (m *model) enterKey() {
	if m.busy {
		m.add(row{kind: troubleLine, text: "  a command runs; Ctrl-C interrupts it"})
		return
	}
	line := m.line.String()
	m.line.set("")
	m.enter(line)
}

// interruptKey ends what runs, or else drops what is typed.
func (m *model) interruptKey() {
	if m.busy {
		m.client.interrupt()
		return
	}
	m.typed = ""
	m.line.set("")
}

func (m *model) tabKey() {
	if !m.busy {
		m.busy = m.client.submit(job{complete: true, line: m.line.String(), pos: m.line.pos})
	}
}

func (m *model) recall(step int) {
	if s, ok := m.past.move(step, m.line.String()); ok {
		m.line.set(s)
	}
}

// answerKey is a key pressed at a question.
func (m *model) answerKey(name, text string) {
	q := m.question
	switch name {
	case "enter", "kpenter":
		q.reply <- q.line.String() // it has room for the one answer
		m.question = nil
	case "ctrl+c", "ctrl+d", "esc":
		close(q.reply)
		m.question = nil
	default:
		if !q.line.edit(name) && text != "" {
			q.line.insert(text)
		}
	}
}
