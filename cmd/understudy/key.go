package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"understudy/control"
)

func keyAddCommand() *cobra.Command {
	var level, file string
	cmd := localCommand("add NAME", "make a key by which a script logs in: dtclsh --key FILE", cobra.ExactArgs(1),
		func(ctx context.Context, c *control.Client, args []string) (err error) {
			out := os.Stdout
			if file != "" { // before the key exists: a file that cannot be written makes none
				if out, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); errors.Is(err, fs.ErrExist) {
					return usageError{fmt.Errorf("%s exists; choose another file", file)}
				} else if err != nil {
					return err
				}
				defer func() {
					if err = errors.Join(err, out.Close()); err != nil {
						_ = os.Remove(file)
					}
				}()
			}
			var reply control.KeyReply
			if err := c.Call(ctx, "key.add", control.KeyRequest{Name: args[0], Level: level}, &reply); err != nil {
				return err
			}
			enc := json.NewEncoder(out)
			enc.SetIndent("", "  ")
			return enc.Encode(reply.File)
		})
	cmd.Flags().StringVar(&level, "level", "monitor", "monitor or admin")
	cmd.Flags().StringVar(&file, "file", "", "write the key to this new file, mode 0600 (default: standard output)")
	return cmd
}

func keyListCommand() *cobra.Command {
	return localCommand("list", "show the keys", cobra.NoArgs, func(ctx context.Context, c *control.Client, _ []string) error {
		var list control.KeyList
		if err := c.Call(ctx, "key.list", struct{}{}, &list); err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		defer w.Flush()
		fmt.Fprintln(w, "KEY\tLEVEL\tMADE")
		for _, k := range list.Keys {
			fmt.Fprintf(w, "%s\t%s\t%s\n", k.Name, k.Level, k.Made)
		}
		return nil
	})
}

func keyRemoveCommand() *cobra.Command {
	return localCommand("remove NAME", "remove a key; its sessions end at once", cobra.ExactArgs(1),
		func(ctx context.Context, c *control.Client, args []string) error {
			return c.Call(ctx, "key.remove", control.NameRequest{Name: args[0]}, nil)
		})
}
