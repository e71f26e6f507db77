// Command understudy runs a node, shows it at work, and steers the one on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"understudy/capture/holder"
	"understudy/control"
)

// Exit codes, promised in docs/shell.md.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitRefused = 3 // the node answered, and said no
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "holder" { // before anything that takes memory
		os.Exit(holder.Main(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:]))
}

// run is main without the exit, so that a test can call it.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") { // cobra has no type for it
		err = usageError{fmt.Errorf("%w; see: understudy help", err)}
	}
	return report(err)
}

// strictUsage makes mistakes in flags and arguments usage errors, for cmd and all below.
func strictUsage(cmd *cobra.Command) {
	see := fmt.Sprintf("see: %s --help", cmd.CommandPath())
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w; %s", err, see)}
			}
			return nil
		}
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{fmt.Errorf("%w; %s", err, see)} })
	for _, c := range cmd.Commands() {
		strictUsage(c)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "understudy",
		Short:         "keeps a second machine ready to go on stage",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(daemonCommand(), demoCommand(), mountCommand(), umountCommand(), statusCommand(), eventsCommand(), settleCommand(), leaseCommand(), upgradeCommand(), versionCommand())
	root.AddCommand(pairCommand(), keyCommand(), pamInstallCommand(), pamHelperCommand())
	strictUsage(root)
	return root
}

// report prints an error the way operators read it: what went wrong, then what to do.
func report(err error) int {
	if err == nil {
		return exitOK
	}
	var ce *control.Error
	if errors.As(err, &ce) {
		fmt.Fprintf(os.Stderr, "understudy: error: %s\n", ce.Msg)
		if ce.Hint != "" {
			fmt.Fprintf(os.Stderr, "understudy: hint: %s\n", ce.Hint)
		}
		if ce.Code == control.Unreachable || ce.Code == control.Internal {
			return exitFailed
		}
		return exitRefused
	}
	fmt.Fprintln(os.Stderr, "understudy: error:", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }
