// Package testterm is a terminal for tests: a pseudo-terminal, and behind it what turns
// the bytes a program writes into the screen a person would see. Tests wait for what the
// screen shows.
package testterm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"
)

// patience bounds every wait: other tests may keep the machine busy.
const patience = 60 * time.Second

// Terminal has a screen and a keyboard. Its methods are for one goroutine.
type Terminal struct {
	t      testing.TB
	keys   *os.File // our end
	Line   *os.File // the program's end
	read   chan struct{}
	mu     sync.Mutex // guards screen and raw
	screen vt10x.Terminal
	raw    strings.Builder // all that was written
	cmd    *exec.Cmd
	exited chan error
}

// New opens a terminal. The end of the test closes it.
func New(t testing.TB, cols, rows int) *Terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &Terminal{t: t, keys: keys, read: make(chan struct{}), screen: vt10x.New(vt10x.WithSize(cols, rows), vt10x.WithWriter(keys))}
	term.resize(cols, rows)
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal("open a pseudo-terminal:", err)
	}
	if term.Line, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	go term.pump()
	t.Cleanup(term.close)
	return term
}

// pump puts what the program writes onto the screen.
func (term *Terminal) pump() {
	defer close(term.read)
	buf := make([]byte, 32<<10)
	for {
		n, err := term.keys.Read(buf)
		term.mu.Lock()
		term.raw.Write(buf[:n])
		_, _ = term.screen.Write(buf[:n]) // it takes anything
		term.mu.Unlock()
		if err != nil { // EIO: the program's end is closed
			return
		}
	}
}

func (term *Terminal) close() {
	if term.cmd != nil {
		_ = term.cmd.Process.Kill() // it may have ended
		<-term.exited
	}
	_ = term.Line.Close()
	<-term.read
	_ = term.keys.Close()
}

// Start runs a program on the terminal, as the leader of a session of its own.
func (term *Terminal) Start(cmd *exec.Cmd) {
	term.t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.Line, term.Line, term.Line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		term.t.Fatal(err)
	}
	term.cmd, term.exited = cmd, make(chan error, 1)
	go func() { term.exited <- cmd.Wait() }()
}

// Exit waits for the program's end and returns its exit code.
func (term *Terminal) Exit() int {
	term.t.Helper()
	select {
	case err := <-term.exited:
		term.cmd = nil
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			term.t.Fatal(err)
		}
		if exit != nil {
			return exit.ExitCode()
		}
		return 0
	case <-time.After(patience):
		term.t.Fatalf("the program does not end; the screen shows\n%s", term.Screen())
		return -1
	}
}

// Signal sends a signal to the program.
func (term *Terminal) Signal(s os.Signal) {
	term.t.Helper()
	if err := term.cmd.Process.Signal(s); err != nil {
		term.t.Fatal(err)
	}
}

// Keys that are no characters, as an xterm sends them.
const (
	Enter  = "\r"
	Tab    = "\t"
	CtrlC  = "\x03"
	CtrlD  = "\x04"
	CtrlU  = "\x15"
	Up     = "\x1b[A"
	Down   = "\x1b[B"
	PgUp   = "\x1b[5~"
	PgDown = "\x1b[6~"
	F1     = "\x1bOP"
)

// Type presses keys.
func (term *Terminal) Type(keys string) {
	term.t.Helper()
	if _, err := term.keys.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// Resize changes the size, and tells the program.
func (term *Terminal) Resize(cols, rows int) {
	term.t.Helper()
	term.mu.Lock()
	term.screen.Resize(cols, rows)
	term.mu.Unlock()
	term.resize(cols, rows)
}

func (term *Terminal) resize(cols, rows int) {
	term.t.Helper()
	size := &unix.Winsize{Col: uint16(cols), Row: uint16(rows)}
	if err := unix.IoctlSetWinsize(int(term.keys.Fd()), unix.TIOCSWINSZ, size); err != nil {
		term.t.Fatal(err)
	}
}

// Lines are the lines of the screen, without blanks at their ends.
func (term *Terminal) Lines() []string {
	term.mu.Lock()
	defer term.mu.Unlock()
	term.screen.Lock()
	defer term.screen.Unlock()
	cols, rows := term.screen.Size()
	var out []string
	for y := range rows {
		var b strings.Builder
		for x := range cols {
			c := term.screen.Cell(x, y).Char
			if c == 0 {
				c = ' '
			}
			b.WriteRune(c)
		}
		out = append(out, strings.TrimRight(b.String(), " "))
	}
	return out
}

// Screen is all of it.
func (term *Terminal) Screen() string { return strings.Join(term.Lines(), "\n") }

// Written is everything the program ever wrote.
func (term *Terminal) Written() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.raw.String()
}

// Echoes reports whether the terminal is as a shell leaves it: showing what is typed, a
// line at a time.
func (term *Terminal) Echoes() bool {
	state, err := unix.IoctlGetTermios(int(term.Line.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0 && state.Lflag&unix.ICANON != 0
}

// Await waits until the screen is as ok says.
func (term *Terminal) Await(what string, ok func(lines []string) bool) {
	term.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if ok(term.Lines()) {
			return
		}
		if time.Now().After(end) {
			term.t.Fatalf("the screen does not show %s, but\n%s", what, term.Screen())
		}
	}
}

// AwaitText waits until the screen shows all the texts.
func (term *Terminal) AwaitText(texts ...string) {
	term.t.Helper()
	term.Await(fmt.Sprintf("%q", texts), func(lines []string) bool {
		all := strings.Join(lines, "\n")
		for _, s := range texts {
			if !strings.Contains(all, s) {
				return false
			}
		}
		return true
	})
}
