package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"understudy/dtclsh/interp"
	"understudy/dtclsh/syntax"
)

// Reader reads lines from a person, or from what stands for one.
type Reader interface {
	// Prompt returns the next line, io.EOF, or ErrAborted.
	Prompt(prompt string) (string, error)
	// Remember puts a statement into the history.
	Remember(statement string)
	Close() error
}

// ErrAborted: Ctrl-C at the prompt; what was typed is dropped.
var ErrAborted = errors.New("aborted")

const (
	prompt    = "Command: "
	continued = "    ...> "
)

// Run reads statements and runs them until EXIT, the end of the input, or the end of
// ctx. The prompt begins with the current source if named says so.
func Run(ctx context.Context, in *interp.Interp, r Reader, out io.Writer, named bool) error {
	text := ""
	for ctx.Err() == nil {
		ask := prompt
		if name := in.SourceName(); named && name != "" {
			ask = name + " " + prompt
		}
		if text != "" {
			ask = continued
		}
		line, err := promptLine(ctx, r, ask)
		switch {
		case ctx.Err() != nil:
			fmt.Fprintln(out)
			return nil
		case errors.Is(err, ErrAborted):
			text = ""
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(out)
			for _, name := range in.Unsaved() {
				fmt.Fprintf(out, "  Warning: replication set %s was not saved\n", name)
			}
			return nil
		case err != nil:
			return fmt.Errorf("read the command line: %w", err)
		}
		text += line + "\n"
		script, err := syntax.Parse(text)
		if syntax.Incomplete(err) {
			continue
		}
		if !Secret(text) {
			r.Remember(OneLine(text))
		}
		text = ""
		if err != nil {
			in.SyntaxError(err)
			continue
		}
		if err := statement(ctx, in, script, out); errors.Is(err, interp.ErrExit) {
			return nil
		}
	}
	return nil
}

// promptLine reads a line, or gives up when ctx ends. The reader then still waits for
// its line; the program ends soon.
func promptLine(ctx context.Context, r Reader, ask string) (string, error) {
	type read struct {
		line string
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := r.Prompt(ask)
		done <- read{line, err}
	}()
	select {
	case got := <-done:
		return got.line, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// statement runs what was typed; Ctrl-C ends it alone.
func statement(ctx context.Context, in *interp.Interp, s syntax.Script, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	err := in.Run(ctx, s)
	if ctx.Err() != nil {
		fmt.Fprintln(out, "\n  Interrupted; connections keep running")
	}
	return err
}
