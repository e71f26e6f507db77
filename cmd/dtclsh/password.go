package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Questions go to the terminal of the session, not to standard input and output: those
// may be a script and its result.

var errNobody = errors.New("there is no terminal to ask at")

// askLine asks, and returns the line that is typed.
func askLine(ctx context.Context, question string) (string, error) {
	return ask(ctx, question, unix.ECHO)
}

// askPassword asks without showing what is typed.
func askPassword(ctx context.Context, question string) (string, error) {
	return ask(ctx, question, 0)
}

// errInterrupted: Ctrl-C came instead of an answer, or another signal.
var errInterrupted = errors.New("interrupted")

// ask reads a line. The line editor may have the terminal in a mode of its own: it gets
// that one back, and leaves the terminal as it found it. So a signal, Ctrl-C too, must end
// ctx, which ends the question, and not the program.
func ask(ctx context.Context, question string, echo uint32) (string, error) {
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
	defer context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Now()) })()
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
