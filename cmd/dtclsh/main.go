// Command dtclsh is the shell operators steer nodes with: at a prompt, with a script,
// or with the commands of one call.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"understudy/dtclsh/console"
	"understudy/dtclsh/interp"
	"understudy/dtclsh/syntax"
)

func main() {
	leaveNoCore()
	os.Exit(run(ownArgs(), os.Stdin, os.Stdout, os.Stderr))
}

// options of the program.
type options struct {
	data, server       string
	user, passwordFile string
	keyFile, trust     string
	script, commands   string
	json, stop, strict bool
	interactive, check bool
	fullScreen         bool
}

// errUsage marks errors of the options and of scripts that do not parse.
type errUsage struct{ error }

// run is main without the exit.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	code := interp.ExitOK
	cmd := rootCommand(func(o options) error {
		var err error
		code, err = session(ctx, o, in, out, errOut)
		return err
	})
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errOut)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(errOut, "dtclsh: error: %v\n", err)
		if errors.As(err, &errUsage{}) {
			return interp.ExitUsage
		}
		return interp.ExitFailed
	}
	return code
}

func rootCommand(do func(options) error) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "dtclsh",
		Short: "steer Understudy: at a prompt, or by a script",
		Long: `Steer Understudy in DTCL. With -c or -f, or with input that is no terminal, the
commands are a script; else they are read at a prompt. "help" lists commands.
docs/shell.md promises exit codes and JSON fields.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUsage{fmt.Errorf("%q: commands stand behind -c, in one argument", args[0])}
			}
			return nil
		},
		SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.script != "" && o.commands != "" {
				return errUsage{errors.New("-f and -c: give one of them")}
			}
			if (o.server != "" || o.keyFile != "") && cmd.Flags().Changed("data") {
				return errUsage{errors.New("--data and -s or --key: give one of them")}
			}
			if o.keyFile != "" && o.user != "" {
				return errUsage{errors.New("--key and -u: give one of them")}
			}
			if o.fullScreen && (o.script != "" || o.commands != "" || o.json || o.interactive) {
				return errUsage{errors.New("-t goes with none of -c, -f, -i, --json")}
			}
			return do(o)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return errUsage{err} })
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "/var/lib/understudy", "data directory of the daemon on this machine")
	f.StringVarP(&o.server, "server", "s", "", "HOST[:PORT] of another machine's daemon")
	f.StringVarP(&o.user, "user", "u", "", "log in as this user of that machine")
	f.StringVar(&o.passwordFile, "password-file", "", "file whose first line is the password (/dev/fd/N for a descriptor)")
	f.StringVar(&o.keyFile, "key", "", "log in with the key in this file, made by: understudy key add")
	f.StringVar(&o.trust, "trust", "", "key of that machine, as understudy pair list shows it there; it is remembered")
	f.StringVarP(&o.script, "file", "f", "", "run a script; - is the standard input")
	f.StringVarP(&o.commands, "command", "c", "", "run these commands")
	f.BoolVar(&o.json, "json", false, "every answer one JSON object or array")
	f.BoolVar(&o.stop, "stop-on-error", false, "a failing statement ends the script")
	f.BoolVar(&o.strict, "strict", false, "unknown options of commands are errors")
	f.BoolVarP(&o.interactive, "interactive", "i", false, "prompt, even if the input is no terminal; the prompt is bare")
	f.BoolVarP(&o.fullScreen, "text-client", "t", false, "full screen: connections, messages and a command line")
	f.BoolVar(&o.check, "check", false, "parse the script, run nothing")
	return cmd
}

// session runs the script or the prompt.
func session(ctx context.Context, o options, in io.Reader, out, errOut io.Writer) (int, error) {
	prompt := o.interactive || o.script == "" && o.commands == "" && isTerminal(in)
	asking, answered := signal.NotifyContext(ctx, os.Interrupt)
	d, err := newDialer(asking, o)
	answered()
	if err != nil {
		return 0, errUsage{err}
	}
	if o.fullScreen {
		return textClient(ctx, o, d, in, out, errOut)
	}
	screen := isTerminal(out)
	cfg := interp.Config{Dial: d.dial, Login: d.login, Forget: d.forget, Out: out, Err: errOut, JSON: o.json, StopOnError: o.stop, Strict: o.strict,
		Interactive: prompt, Color: screen && !o.json && os.Getenv("NO_COLOR") == "", Getenv: os.Getenv}
	if prompt && screen {
		cfg.Progress = console.Progress(out.(*os.File))
	}
	sh := interp.New(cfg)
	defer sh.Close()
	if prompt {
		err := atPrompt(ctx, sh, in, out, !o.interactive)
		if status, given := sh.ExitStatus(); given {
			return int(status), err
		}
		return interp.ExitOK, err
	}
	text, err := scriptText(o, in)
	if err != nil {
		return 0, errUsage{err}
	}
	script, err := syntax.Parse(text)
	if err != nil {
		sh.SyntaxError(err)
		return interp.ExitUsage, nil
	}
	if o.check {
		return interp.ExitOK, nil
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	return sh.ExitCode(sh.Run(ctx, script)), nil
}

// scriptText is what -c, -f or the standard input holds.
func scriptText(o options, in io.Reader) (string, error) {
	if o.commands != "" {
		return o.commands, nil
	}
	if o.script != "" && o.script != "-" {
		f, err := os.Open(o.script)
		if err != nil {
			return "", fmt.Errorf("script: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, syntax.MaxScript+1))
	if err != nil {
		return "", fmt.Errorf("read the script: %w", err)
	}
	return string(raw), nil
}

func atPrompt(ctx context.Context, sh *interp.Interp, in io.Reader, out io.Writer, named bool) error {
	var r console.Reader
	if isTerminal(in) && isTerminal(out) {
		r = console.NewTerminal(console.HistoryFile(os.Getenv), console.NewCompleter(sh).Complete)
	} else {
		r = console.NewPlain(in, out)
	}
	err := console.Run(ctx, sh, r, out, named)
	return errors.Join(err, r.Close())
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
