package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"understudy/internal/testterm"
	"understudy/node"
)

// desk is a pair of nodes, and a terminal with the shell on it.
type desk struct {
	*testterm.Terminal
	t    *testing.T
	base string
	indy *node.Node
	peer string // address of jersey
	idle string // shown when no command runs
	stop func() // of indy
}

func newDesk(t *testing.T, options ...string) *desk {
	t.Helper()
	d := &desk{t: t, base: t.TempDir()}
	jersey, stop := runNode(t, filepath.Join(d.base, "jersey"), "jersey", "127.0.0.1:0")
	t.Cleanup(stop)
	d.peer = jersey.Addr()
	d.indy, d.stop = runNode(t, filepath.Join(d.base, "indy"), "indy", "127.0.0.1:0")
	t.Cleanup(func() { d.stop() })
	if err := node.PairUp(d.indy, jersey); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(d.base, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.base, "tree", "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Terminal = testterm.New(t, 80, 24)
	cmd := exec.Command("dtclsh", append(options, "--data", filepath.Join(d.base, "indy"))...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+d.base, "NO_COLOR=1")
	cmd.Dir = d.base
	d.Start(cmd)
	return d
}

// protect connects the tree, by what is typed.
func (d *desk) protect() {
	d.t.Helper()
	d.Type("mac" + testterm.Tab)
	d.AwaitText("Command: machine")
	d.Type(testterm.CtrlU + `machine add jersey "` + d.peer + `"` + testterm.Enter)
	d.AwaitText("jersey is at", d.idle)
	d.Type(`repset create tree; repset rule add "` + d.base + `/tr` + testterm.Tab)
	d.Await("the path completed", func(lines []string) bool { return strings.Contains(strings.Join(lines, ""), "/tree/") })
	d.Type(`"; repset save` + testterm.Enter)
	d.AwaitText("saved, generation 1", d.idle)
	d.Type("connect tree to jersey map base \"" + d.base + "/replica\"; waitonmirror 1; write \"mirrored\"" + testterm.Enter)
	d.AwaitText("\nmirrored")
}

// TestPromptOnTerminal: completion of keywords and of paths on the source, a wait with
// progress that Ctrl-C ends while the connection goes on, and a history without passwords.
func TestPromptOnTerminal(t *testing.T) {
	d := newDesk(t, "-i")
	d.AwaitText("Command:")
	d.protect()
	d.Type("transmission pause 1" + testterm.Enter)
	d.Type("mirror start 1; waitonmirror 1; write \"never\"" + testterm.Enter)
	d.AwaitText("operations in queue")
	d.Type(testterm.CtrlC)
	d.AwaitText("Interrupted; connections keep running")
	d.Type("write \"con\"; status con 1" + testterm.Enter)
	d.AwaitText("Transmit:                         Paused")
	d.Type("login indy nobody secret" + testterm.Enter + "transmission resume 1; waitonmirror 1; write \"again\"" + testterm.Enter)
	d.AwaitText("\nagain")
	d.Type(testterm.CtrlD)
	if code := d.Exit(); code != 0 {
		t.Error("exit code", code)
	}
	if !d.Echoes() {
		t.Error("the terminal is not as it was")
	}
	history, err := os.ReadFile(filepath.Join(d.base, ".local/state/understudy/dtclsh_history"))
	if text := string(history); err != nil || strings.Contains(text, "secret") || !strings.Contains(text, "transmission pause 1") {
		t.Errorf("%v, history:\n%s", err, text)
	}
	if strings.Contains(d.Screen(), "\nnever") {
		t.Error("the statement went on")
	}
}

// TestTextClient: dtclsh -t with real daemons: connections appear and change, the source
// is lost and comes back, and the terminal is given back.
func TestTextClient(t *testing.T) {
	d := newDesk(t, "-t")
	d.idle = "F1 help"
	d.AwaitText("Source Machine: indy", "no connections", "Command:")
	d.protect()
	d.AwaitText("\njersey\n1    tree        Started   Idle           Replicating")
	d.Type("transmission pause 1" + testterm.Enter)
	d.AwaitText("1    tree        Paused ", d.idle)
	address := d.indy.Addr()
	d.stop()
	d.stop = func() {}
	d.AwaitText("NO CONNECTION since", "1    tree ")
	_, d.stop = runNode(t, filepath.Join(d.base, "indy"), "indy", address)
	d.Await("the connection again", func(lines []string) bool { return !strings.Contains(lines[0], "NO CONNECTION") })
	d.Type("write \"back\"; transmission resume 1; waitonmirror 1; write \"well\"" + testterm.Enter)
	d.AwaitText("\nback", "\nwell")
	d.Resize(100, 12)
	d.Await("the screen resized", func(lines []string) bool { return len(lines) == 12 && strings.HasPrefix(lines[11], "Command:") })
	d.Type("exit 5" + testterm.Enter)
	if code := d.Exit(); code != 5 {
		t.Error("exit code", code)
	}
	if !d.Echoes() {
		t.Error("the terminal is not as it was")
	}
}
