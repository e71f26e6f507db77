package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Questions go to the terminal of the session, not to standard input and output: those
// may be a script and its result.

var errNobody = errors.New("there is no terminal to ask at")

// askLine asks, and returns the line that is typed.
func askLine(question string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errNobody
	}
	defer tty.Close()
	fmt.Fprint(tty, question)
	return readTerminal(tty)
}

// askPassword asks without showing what is typed. A signal that ends the program leaves
// the terminal as it was.
func askPassword(question string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", errNobody
	}
	defer tty.Close()
	fd := int(tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", errNobody
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	restore := func() { _ = unix.IoctlSetTermios(fd, unix.TCSETSF, before) } // as good as can be
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		select {
		case <-signals:
			restore()
			fmt.Fprintln(tty)
			os.Exit(130)
		case <-done:
		}
	}()
	defer func() {
		signal.Stop(signals)
		close(done)
		restore()
		fmt.Fprintln(tty)
	}()
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet); err != nil {
		return "", fmt.Errorf("hide the password: %w", err)
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
		if n, err := tty.Read(one); err != nil || n == 0 {
			return "", errors.New("nothing was typed")
		}
		if one[0] == '\n' {
			break
		}
		line = append(line, one[0])
	}
	return string(bytes.TrimSuffix(line, []byte("\r"))), nil
}
