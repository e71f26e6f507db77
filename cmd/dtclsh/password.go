package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Questions go to the terminal of the session, not to standard input and output: those
// may be a script and its result.

var errNobody = errors.New("there is no terminal to ask at")

// askLine asks, and returns the line that is typed.
func askLine(question string) (string, error) { return ask(question, unix.ECHO) }

// askPassword asks without showing what is typed.
func askPassword(question string) (string, error) { return ask(question, 0) }

// errInterrupted: a signal came instead of an answer.
var errInterrupted = errors.New("interrupted")

// ask reads a line. The line editor may have the terminal in a mode of its own: it gets
// that one back, and leaves the terminal as it found it. So a signal, Ctrl-C too, ends the
// question and not the program.
func ask(question string, echo uint32) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errNobody
	}
	defer tty.Close()
	raw, err := tty.SyscallConn() // not Fd: it would make reading deaf to the deadline
	if err != nil {
		return "", errNobody
	}
	mode := func(m *unix.Termios) (err error) {
		cerr := raw.Control(func(fd uintptr) { err = unix.IoctlSetTermios(int(fd), unix.TCSETSF, m) })
		return errors.Join(cerr, err)
	}
	var before *unix.Termios
	if cerr := raw.Control(func(fd uintptr) { before, err = unix.IoctlGetTermios(int(fd), unix.TCGETS) }); cerr != nil || err != nil {
		return "", errNobody
	}
	lines := *before
	lines.Iflag |= unix.ICRNL
	lines.Oflag |= unix.OPOST
	lines.Lflag = lines.Lflag&^(unix.ECHO|unix.ECHONL) | unix.ICANON | unix.ISIG | echo
	defer untilSignal(func() { _ = tty.SetReadDeadline(time.Now()) })()
	defer func() {
		if echo == 0 {
			fmt.Fprintln(tty)
		}
		_ = mode(before) // as good as can be
	}()
	if err := mode(&lines); err != nil {
		return "", fmt.Errorf("ask at the terminal: %w", err)
	}
	fmt.Fprint(tty, question)
	return readTerminal(tty)
}

// untilSignal calls f if a signal that ends programs comes before stop is called.
func untilSignal(f func()) (stop func()) {
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-signals:
			f()
		case <-done:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// maxTyped bounds a line: user and password have at most 100 characters (B15.12).
const maxTyped = 1024

func readTerminal(tty *os.File) (string, error) {
	var line []byte
	defer func() { clear(line[:cap(line)]) }()
	one := make([]byte, 1)
	for len(line) < maxTyped {
		n, err := tty.Read(one)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "", errInterrupted
		}
		if err != nil || n == 0 {
			return "", errors.New("nothing was typed")
		}
		if one[0] == '\n' {
			break
		}
		line = append(line, one[0])
	}
	return string(bytes.TrimSuffix(line, []byte("\r"))), nil
}
