package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"understudy/control"
)

// leaseCommand shows the addresses that a source gave up, and has them back.
func leaseCommand() *cobra.Command {
	ask := func(action string) func(context.Context, *control.Client, []string) error {
		return func(ctx context.Context, c *control.Client, _ []string) error {
			var reply control.LeaseReply
			if err := c.Call(ctx, "lease", control.LeaseRequest{Action: action}, &reply); err != nil {
				return err
			}
			for _, line := range reply.GivenUp {
				fmt.Println(line)
			}
			return nil
		}
	}
	cmd := localCommand("lease", "show the addresses that this machine gave up for a target; docs/operate/failover.md", cobra.NoArgs, ask("list"))
	cmd.AddCommand(localCommand("release", "have them back at once: only when no target stands in for this machine", cobra.NoArgs, ask("release")))
	return cmd
}
