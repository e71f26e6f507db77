package console

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/peterh/liner"
)

// terminal edits lines; it is the one place that knows the line editor.
type terminal struct {
	state   *liner.State
	history string
}

// NewTerminal makes a Reader of the terminal. The history file may be "".
func NewTerminal(history string, complete func(line string, pos int) (head string, list []string, tail string)) Reader {
	t := &terminal{liner.NewLiner(), history}
	t.state.SetCtrlCAborts(true)
	t.state.SetTabCompletionStyle(liner.TabPrints)
	t.state.SetWordCompleter(complete)
	if f, err := os.Open(history); err == nil {
		_, _ = t.state.ReadHistory(io.LimitReader(f, 1<<20)) // a bad history is no history
		_ = f.Close()
	}
	return t
}

func (t *terminal) Prompt(prompt string) (string, error) {
	line, err := t.state.Prompt(prompt)
	if errors.Is(err, liner.ErrPromptAborted) {
		return "", ErrAborted
	}
	return line, err
}

func (t *terminal) Remember(statement string) {
	if statement != "" {
		t.state.AppendHistory(statement)
	}
}

// Close gives the terminal back and writes the history.
func (t *terminal) Close() error {
	var err error
	if t.history != "" {
		err = writeHistory(t.history, func(f *os.File) error {
			_, err := t.state.WriteHistory(f) // liner keeps the last 1000 lines (liner.HistoryLimit)
			return err
		})
	}
	return errors.Join(err, t.state.Close())
}

// plain reads lines from anything else and repeats them, so that what is written reads
// as a session does.
type plain struct {
	in  *bufio.Scanner
	out io.Writer
}

// NewPlain makes a Reader without editing, for input that is no terminal.
func NewPlain(in io.Reader, out io.Writer) Reader {
	s := bufio.NewScanner(in)
	s.Buffer(nil, 1<<20)
	return &plain{s, out}
}

func (p *plain) Prompt(prompt string) (string, error) {
	fmt.Fprint(p.out, prompt)
	if !p.in.Scan() {
		if err := p.in.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
	line := strings.TrimSuffix(p.in.Text(), "\r")
	fmt.Fprintln(p.out, line)
	return line, nil
}

func (p *plain) Remember(string) {}

func (p *plain) Close() error { return nil }
