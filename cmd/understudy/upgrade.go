package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"understudy/control"
	"understudy/node"
)

// upgradeWait is how long the new daemon may take to answer: it reads its queues.
const upgradeWait = 2 * time.Minute

func upgradeCommand() *cobra.Command {
	var program, data string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "replace the running daemon by a new program, or restart it",
		Long: `Replace the daemon on this machine by the program at its own path, or at --program.
The process keeps its number and its arguments. Applications that use captured
directories wait for a moment and see no error; connections go on where they were.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return upgrade(cmd.Context(), data, program) },
	}
	cmd.Flags().StringVar(&data, "data", node.DefaultConfig().Data, "data directory of the daemon")
	cmd.Flags().StringVar(&program, "program", "", "new program (default: the file the daemon was started from)")
	return cmd
}

// upgrade asks for it and waits until a daemon started later answers.
func upgrade(ctx context.Context, data, program string) error {
	if program != "" {
		abs, err := filepath.Abs(program)
		if err != nil {
			return err
		}
		program = abs
	}
	c, err := control.DialLocal(ctx, data)
	if err != nil {
		return err
	}
	defer c.Close()
	var before control.UpgradeReply
	if err := c.Call(ctx, "upgrade", control.UpgradeRequest{Program: program}, &before); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeWait)
	defer cancel()
	for {
		if v, err := runningVersion(ctx, data); err == nil && v.Started.After(before.Started) {
			fmt.Println("running:", v.Version)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the new daemon does not answer within %v: see its log", upgradeWait)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func runningVersion(ctx context.Context, data string) (v control.Version, err error) {
	c, err := control.DialLocal(ctx, data)
	if err != nil {
		return v, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return v, c.Call(ctx, "version", struct{}{}, &v)
}

// goOn makes the process the program that is to go on, if err says so. A program that
// cannot be run leaves it to the one that ran.
func goOn(err error) error {
	var r *node.Replaced
	if !errors.As(err, &r) {
		return err
	}
	args := append([]string{r.Program}, os.Args[1:]...)
	first := syscall.Exec(r.Program, args, os.Environ())
	fmt.Fprintln(os.Stderr, "understudy: error: run", r.Program+":", first)
	if err := syscall.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
		return fmt.Errorf("run this program again: %w", err)
	}
	return nil
}
