package tui

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"pgregory.net/rapid"

	"understudy/control"
)

// texts are such as come from outside: wide, hostile, long.
var texts = rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "tree", "東京の大きな木", "a\x1b[2Jb\x1b]0;t\x07", strings.Repeat("long ", 40), "e\u0301\u202e", "\x1b[31mred\x1b[0m"}))

var connections = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) control.Connection {
	return control.Connection{ID: rapid.Int().Draw(t, "id"), Set: texts.Draw(t, "set"), Target: texts.Draw(t, "target"), Mirror: texts.Draw(t, "mirror"),
		MirrorPercent: rapid.Float64().Draw(t, "percent"), QueuedOps: rapid.Uint64().Draw(t, "ops"), SentBytes: rapid.Int64().Draw(t, "sent"), LastError: texts.Draw(t, "error")}
}), 0, 12)

// TestScreenFits: whatever happens at whatever size, the screen has as many lines as the
// terminal, none wider than it, and nothing but colours reaches the terminal raw.
func TestScreenFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{client: &Client{jobs: make(chan job, 1), input: &gate{}}, past: &history{}}
		m.Update(tea.WindowSizeMsg{Width: rapid.IntRange(0, 200).Draw(t, "width"), Height: rapid.IntRange(0, 60).Draw(t, "height")})
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			step(t, m)
		}
		lines, x := m.screen()
		if len(lines) != m.height && m.width > 0 {
			t.Fatalf("%d lines on a screen of %d", len(lines), m.height)
		}
		for _, l := range lines {
			if w := lipgloss.Width(l); w > m.width {
				t.Fatalf("%q: %d columns on a screen of %d", l, w, m.width)
			}
			for s := l; s != ""; {
				if c := colours.FindString(s); c != "" {
					s = s[len(c):]
					continue
				}
				if s[0] < ' ' || s[0] == 0x7f {
					t.Fatalf("%q reaches the terminal", l)
				}
				s = s[1:]
			}
		}
		if x < 0 || x > max(m.width-1, 0) {
			t.Fatalf("cursor in column %d of %d", x, m.width)
		}
	})
}

var keyNames = []tea.KeyPressMsg{{Code: tea.KeyEnter}, {Code: tea.KeyTab}, {Code: tea.KeyUp}, {Code: tea.KeyDown}, {Code: tea.KeyPgUp}, {Code: tea.KeyPgDown},
	{Code: tea.KeyLeft}, {Code: tea.KeyRight}, {Code: tea.KeyHome}, {Code: tea.KeyEnd}, {Code: tea.KeyBackspace}, {Code: tea.KeyDelete}, {Code: tea.KeyF1},
	{Code: 'c', Mod: tea.ModCtrl}, {Code: 'd', Mod: tea.ModCtrl}, {Code: 'w', Mod: tea.ModCtrl}, {Code: 'u', Mod: tea.ModCtrl}, {Code: 'k', Mod: tea.ModCtrl},
	{Code: tea.KeyUp, Mod: tea.ModShift}, {Code: tea.KeyDown, Mod: tea.ModShift}, {Code: tea.KeyEscape}, {Code: 'z', Mod: tea.ModAlt}}

// step lets something happen.
func step(t *rapid.T, m *model) {
	var msg tea.Msg
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		msg = statusMsg{status: control.Status{Name: texts.Draw(t, "name"), Version: texts.Draw(t, "version"), Connections: connections.Draw(t, "connections")}}
	case 1:
		msg = statusMsg{err: errors.New(texts.Draw(t, "trouble"))}
	case 2:
		msg = textMsg{lineKind(rapid.IntRange(0, 3).Draw(t, "kind")), []string{texts.Draw(t, "text")}}
	case 3:
		msg = eventsMsg{events: []control.Event{{Text: texts.Draw(t, "event"), Severity: texts.Draw(t, "severity")}}}
	case 4:
		msg = askMsg{texts.Draw(t, "question"), rapid.Bool().Draw(t, "hidden"), make(chan string, 1)}
	case 5:
		msg = tea.PasteMsg{Content: texts.Draw(t, "paste")}
	case 6:
		list := rapid.SliceOf(texts).Draw(t, "list")
		msg = completedMsg{m.line.String(), "", list, ""}
	case 7:
		msg = progressMsg(texts.Draw(t, "progress"))
	case 8:
		s := texts.Draw(t, "typed")
		msg = tea.KeyPressMsg{Text: s, Code: tea.KeyExtended}
	default:
		msg = rapid.SampledFrom(keyNames).Draw(t, "key")
	}
	m.Update(msg)
	select {
	case <-m.client.jobs:
		m.Update(doneMsg{})
	default:
	}
}

func TestBrief(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 9999: "9999", 10000: "9.8K", 1 << 20: "1.0M", 150 << 20: "150M", 1023 << 20: "1.0G", 1 << 62: "4.0E", 1.8e19: "15.6E"} {
		if got := brief(n, 1024); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
}

func TestEditor(t *testing.T) {
	var e editor
	e.insert("one two\x1b three")
	for _, c := range []struct{ key, want string }{
		{"ctrl+w", "one two |"}, {"backspace", "one two|"}, {"home", "|one two"}, {"delete", "|ne two"}, {"right", "n|e two"}, {"left", "|ne two"}, {"left", "|ne two"},
		{"end", "ne two|"}, {"right", "ne two|"}, {"ctrl+w", "ne |"}, {"left", "ne| "}, {"ctrl+k", "ne|"}, {"left", "n|e"}, {"ctrl+u", "|e"}, {"backspace", "|e"},
	} {
		if !e.edit(c.key) {
			t.Error(c.key, "is no key")
		}
		if got := string(e.text[:e.pos]) + "|" + string(e.text[e.pos:]); got != c.want {
			t.Errorf("%s: %s, want %s", c.key, got, c.want)
		}
	}
	e.insert(strings.Repeat("x", 2*maxLine))
	if len(e.text) != maxLine {
		t.Error("a line of", len(e.text))
	}
}

func TestHistory(t *testing.T) {
	h := &history{}
	for _, s := range []string{"one", "two", "two", ""} {
		h.add(s)
	}
	for _, c := range []struct {
		step int
		want string
	}{{1, "-"}, {-1, "two"}, {-1, "one"}, {-1, "-"}, {1, "two"}, {1, "mine"}, {1, "-"}} {
		got, ok := h.move(c.step, "mine")
		if !ok {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%+d: %s, want %s", c.step, got, c.want)
		}
	}
	for range 2 * maxHistory {
		h.add("x")
		h.add("y")
	}
	if len(h.list) != maxHistory {
		t.Error("keeps", len(h.list))
	}
}

// TestPaneIsBounded: rows are dropped at the far end, and who has scrolled back stays
// where he is.
func TestPaneIsBounded(t *testing.T) {
	m := &model{past: &history{}}
	for range 3 * maxRows {
		m.add(row{text: "x"})
	}
	m.back = 5
	m.add(row{text: "y"})
	if len(m.pane) != maxRows || m.back != 6 {
		t.Error(len(m.pane), m.back)
	}
}

func TestClientLogIsBounded(t *testing.T) {
	l := clientLog{file: filepath.Join(t.TempDir(), "log")}
	long := strings.Repeat("x", maxLog/3)
	for range 20 {
		if err := l.keep(time.Now(), "write 1\n"+long); err != nil {
			t.Fatal(err)
		}
	}
	var sum int64
	for _, name := range []string{l.file, l.file + ".1"} {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sum += st.Size()
		if st.Mode().Perm() != 0o600 {
			t.Error(name, st.Mode())
		}
	}
	if sum > 3*maxLog {
		t.Error(sum, "bytes kept")
	}
}
