package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/control"
	"understudy/node"
)

// localCommand makes a command that talks to the daemon on this machine.
func localCommand(use, short string, args cobra.PositionalArgs, f func(ctx context.Context, c *control.Client, args []string) error) *cobra.Command {
	return commandBy(control.DialLocal, use, short, args, f)
}

// commandBy is localCommand with another way to the daemon.
func commandBy(dial func(ctx context.Context, dir string) (*control.Client, error), use, short string, args cobra.PositionalArgs,
	f func(ctx context.Context, c *control.Client, args []string) error) *cobra.Command {
	var data string
	cmd := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		c, err := dial(cmd.Context(), data)
		if err != nil {
			return err
		}
		defer c.Close()
		return f(cmd.Context(), c, args)
	}}
	cmd.Flags().StringVar(&data, "data", node.DefaultConfig().Data, "data directory of the daemon")
	return cmd
}

func mountCommand() *cobra.Command {
	return localCommand("mount DIR", "capture DIR in write order, by a stacked mount over it", cobra.ExactArgs(1),
		func(ctx context.Context, c *control.Client, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			var reply control.MountReply
			if err := c.Call(ctx, "mount", control.DirRequest{Dir: dir}, &reply); err != nil {
				return err
			}
			for _, p := range reply.Foreign {
				fmt.Fprintf(os.Stderr, "understudy: warning: process %d (%s) opened %s before the mount; restart it, what it writes there is not captured\n", p.PID, p.Command, p.Path)
			}
			fmt.Println("captured in write order:", dir)
			return nil
		})
}

func umountCommand() *cobra.Command {
	return localCommand("umount DIR", "end the stacked capture of DIR; its files stay", cobra.ExactArgs(1),
		func(ctx context.Context, c *control.Client, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			return c.Call(ctx, "umount", control.DirRequest{Dir: dir}, nil)
		})
}

func settleCommand() *cobra.Command {
	var timeout time.Duration
	number := func(_ *cobra.Command, args []string) error {
		if _, err := strconv.Atoi(args[0]); err != nil {
			return fmt.Errorf("%q is no connection number", args[0])
		}
		return nil
	}
	cmd := localCommand("settle CON_ID", "wait until everything captured before now is applied on the target", cobra.MatchAll(cobra.ExactArgs(1), number),
		func(ctx context.Context, c *control.Client, args []string) error {
			id, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			return c.Call(ctx, "settle", control.SettleRequest{ID: id, TimeoutMS: timeout.Milliseconds()}, nil)
		})
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	return cmd
}

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := localCommand("status", "show connections, replicas and captured directories", cobra.NoArgs,
		func(ctx context.Context, c *control.Client, _ []string) error {
			var st control.Status
			if err := c.Call(ctx, "status", struct{}{}, &st); err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(os.Stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(st)
			}
			printStatus(st)
			return nil
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func printStatus(st control.Status) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "%s, understudy %s\n", st.Name, st.Version)
	if len(st.Captures) > 0 {
		fmt.Fprintln(w, "\nCAPTURED\tBACKEND\tFIDELITY\tOPERATIONS")
		for _, c := range st.Captures {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", c.Dir, c.Backend, c.Fidelity, c.Ops)
		}
	}
	if len(st.Connections) > 0 {
		fmt.Fprintln(w, "\nCON\tSET\tTARGET\tTRANSMIT\tMIRROR\tQUEUED\tLAG\tTARGET STATE\tORDER")
		for _, c := range st.Connections {
			order := "kept"
			if !c.OrderKept {
				order = "not kept"
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%.0f ms\t%s\t%s\n", c.ID, c.Set, c.Target, c.Transmit, mirrorText(c), c.QueuedOps, c.LagMS, c.TargetState, order)
			if c.LastError != "" {
				fmt.Fprintf(w, "\t%s\n", c.LastError)
			}
		}
	}
	if len(st.Replicas) > 0 {
		fmt.Fprintln(w, "\nREPLICA OF\tSET\tSTATE\tUSABLE\tAPPLIED\tWHERE")
		for _, r := range st.Replicas {
			fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%d\t%v\n", r.Source, r.Set, r.State, r.Usable, r.AppliedOp, r.Paths)
		}
	}
	printAlerts(w, st.Alerts)
}

// printAlerts tells what holds now, and what to do about it.
func printAlerts(w io.Writer, list []control.Alert) {
	if len(list) > 0 {
		fmt.Fprintln(w, "\nALERT\tSINCE\tWHAT")
	}
	for _, a := range list {
		fmt.Fprintf(w, "%s %d\t%s\t%s\n", a.Severity, a.ID, a.Since.Local().Format("2006-01-02 15:04:05"), a.Text)
		if a.Action != "" {
			fmt.Fprintf(w, "\t\t  %s\n", a.Action)
		}
	}
}

func mirrorText(c control.Connection) string {
	if c.Mirror == "Mirroring" && c.MirrorPercent >= 0 {
		return fmt.Sprintf("%s %.0f%%", c.Mirror, c.MirrorPercent)
	}
	return c.Mirror
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
		fmt.Println("understudy", node.Version())
	}}
}
