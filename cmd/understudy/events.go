package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"understudy/control"
)

// followWait is how long one request of --follow waits for something to happen.
const followWait = 20 * time.Second

func eventsCommand() *cobra.Command {
	var req control.EventsRequest
	var asJSON, follow bool
	cmd := localCommand("events", "show what happened on this machine; docs/operate/events.md says what to do", cobra.NoArgs,
		func(ctx context.Context, c *control.Client, _ []string) error {
			return showEvents(ctx, c, req, follow, eventPrinter(os.Stdout, asJSON))
		})
	cmd.Flags().Uint64Var(&req.Since, "since", 0, "only what came after this number")
	cmd.Flags().IntVar(&req.Limit, "limit", 50, "at most so many")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens next, until interrupted")
	return cmd
}

// showEvents prints what happened, then follows if wanted.
func showEvents(ctx context.Context, c *control.Client, req control.EventsRequest, follow bool, show func(control.Event) error) error {
	for {
		var reply control.Events
		began := time.Now()
		if err := c.Call(ctx, "events", req, &reply); err != nil {
			if follow && errors.Is(ctx.Err(), context.Canceled) {
				return nil
			}
			return err
		}
		for _, e := range reply.Events {
			if err := show(e); err != nil {
				return err
			}
			req.Since = e.Seq
		}
		if reply.Damaged > 0 && req.WaitMS == 0 {
			fmt.Fprintf(os.Stderr, "understudy: warning: %d rows of the event journal are damaged\n", reply.Damaged)
		}
		if !follow {
			return nil
		}
		req.WaitMS, req.Limit = followWait.Milliseconds(), 0
		if req.Since == 0 {
			req.Since = reply.Last
		}
		if len(reply.Events) == 0 && time.Since(began) < time.Second { // too many follow: ask now and then
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	}
}

// eventPrinter writes one row for each event, or one JSON object.
func eventPrinter(w io.Writer, asJSON bool) func(control.Event) error {
	if asJSON {
		enc := json.NewEncoder(w)
		return func(e control.Event) error { return enc.Encode(e) }
	}
	return func(e control.Event) error {
		where := strings.TrimSpace(e.Set + " " + e.Source)
		if where != "" {
			where = " [" + where + "]"
		}
		again := ""
		if e.Repeated > 0 {
			again = fmt.Sprintf(" (repeated %d times)", e.Repeated)
		}
		_, err := fmt.Fprintf(w, "%d %s %-7s %d%s %s%s\n", e.Seq, e.Time.Local().Format("2006-01-02 15:04:05.000"), e.Severity, e.ID, where, e.Text, again)
		return err
	}
}
