package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"understudy/dtclsh/console"
	"understudy/dtclsh/interp"
	"understudy/dtclsh/tui"
)

// textClient runs the full screen.
func textClient(ctx context.Context, o options, d *dialer, in io.Reader, out, errOut io.Writer) (int, error) {
	if !isTerminal(in) || !isTerminal(out) {
		return 0, errUsage{errors.New("-t needs a terminal; -c and -f do not")}
	}
	logFile := ""
	if history := console.HistoryFile(os.Getenv); history != "" {
		logFile = filepath.Join(filepath.Dir(history), "dtclsh_client.log")
	}
	screen := tui.New(tui.Config{In: in.(*os.File), Out: out.(*os.File), Env: os.Environ(), LogFile: logFile, Dial: d.dial})
	d.ask = func(_ context.Context, question string) (string, error) { return screen.Ask(question, true) }
	d.line = func(_ context.Context, question string) (string, error) { return screen.Ask(question, false) }
	sh := interp.New(interp.Config{Dial: d.dial, Login: d.login, Forget: d.forget, Out: screen.Answers(), Err: screen.Troubles(), StopOnError: o.stop,
		Strict: o.strict, Interactive: true, Color: os.Getenv("NO_COLOR") == "", Getenv: os.Getenv, Progress: screen.Progress})
	defer sh.Close()
	if err := screen.Run(ctx, sh); err != nil {
		return interp.ExitFailed, fmt.Errorf("text client: %w", err)
	}
	for _, name := range sh.Unsaved() {
		fmt.Fprintf(errOut, "Warning: replication set %s was not saved\n", name)
	}
	if status, given := sh.ExitStatus(); given {
		return int(status), nil
	}
	return interp.ExitOK, nil
}
