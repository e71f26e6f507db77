package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"understudy/control"
	"understudy/internal/access"
	"understudy/internal/pamlogin"
)

// startPatience is how long a command waits for a daemon that is just being started.
const startPatience = 30 * time.Second

// patiently is DialLocal for commands that are called right after the daemon.
func patiently(ctx context.Context, dir string) (*control.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		c, err := control.DialLocal(ctx, dir)
		var e *control.Error
		if err == nil || !errors.As(err, &e) || e.Code != control.Unreachable {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func pairCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pair", Short: "make machines known to each other: invite, join, list, remove, rotate"}
	cmd.AddCommand(inviteCommand(), joinCommand(), peersCommand(), unpairCommand(), rotateCommand())
	return cmd
}

func inviteCommand() *cobra.Command {
	var valid time.Duration
	cmd := commandBy(patiently, "invite", "print a one-time code, by which another machine can pair with this one", cobra.NoArgs,
		func(ctx context.Context, c *control.Client, _ []string) error {
			var reply control.InviteReply
			if err := c.Call(ctx, "pair.invite", control.InviteRequest{ValidMS: valid.Milliseconds()}, &reply); err != nil {
				return err
			}
			fmt.Println(reply.Code)
			fmt.Fprintf(os.Stderr, "understudy: on the other machine, within %v, run: understudy pair join ADDRESS CODE\n", valid)
			return nil
		})
	cmd.Flags().DurationVar(&valid, "valid", access.DefaultValid, "how long the code can be used")
	return cmd
}

func joinCommand() *cobra.Command {
	var own string
	cmd := commandBy(patiently, "join HOST[:PORT] CODE", "pair with the machine that made a code; - reads the code from standard input", cobra.ExactArgs(2),
		func(ctx context.Context, c *control.Client, args []string) error {
			code := args[1]
			if code == "-" {
				line, err := bufio.NewReader(io.LimitReader(os.Stdin, 1024)).ReadString('\n')
				if err != nil && line == "" {
					return fmt.Errorf("read the code: %w", err)
				}
				code = strings.TrimSpace(line)
			}
			var peer control.PeerInfo
			if err := c.Call(ctx, "pair.join", control.JoinRequest{Address: args[0], Code: code, Own: own}, &peer); err != nil {
				return err
			}
			fmt.Printf("paired with %s at %s, key %s\n", peer.Name, peer.Address, short(peer.Keys))
			return nil
		})
	cmd.Flags().StringVar(&own, "address", "", "HOST:PORT by which the other machine reaches this one (default: worked out)")
	return cmd
}

// short shows keys as the logs do.
func short(keys []string) string {
	var out []string
	for _, k := range keys {
		out = append(out, k[:min(16, len(k))])
	}
	return strings.Join(out, " and ")
}

func printPeers(list control.PeerList) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "%s\tkey %s\n", list.Name, short([]string{list.Key}))
	if list.Rotating != "" {
		fmt.Fprintf(w, "\tchanges to %s\n", short([]string{list.Rotating}))
	}
	if len(list.Peers) > 0 {
		fmt.Fprintln(w, "\nPAIRED WITH\tADDRESS\tKEY\tSINCE\t")
	}
	for _, p := range list.Peers {
		note := ""
		if p.Waiting {
			note = "does not know the next key yet"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.Address, short(p.Keys), p.Paired, note)
	}
}

func peersCommand() *cobra.Command {
	return localCommand("list", "show the paired machines", cobra.NoArgs, func(ctx context.Context, c *control.Client, _ []string) error {
		var list control.PeerList
		if err := c.Call(ctx, "pair.list", struct{}{}, &list); err != nil {
			return err
		}
		printPeers(list)
		return nil
	})
}

func unpairCommand() *cobra.Command {
	return localCommand("remove NAME", "end the pairing with a machine; its sessions end at once", cobra.ExactArgs(1),
		func(ctx context.Context, c *control.Client, args []string) error {
			return c.Call(ctx, "pair.remove", control.NameRequest{Name: args[0]}, nil)
		})
}

func rotateCommand() *cobra.Command {
	var force bool
	cmd := localCommand("rotate", "change the key of this machine; paired machines are told first", cobra.NoArgs,
		func(ctx context.Context, c *control.Client, _ []string) error {
			var list control.PeerList
			if err := c.Call(ctx, "pair.rotate", control.RotateRequest{Force: force}, &list); err != nil {
				return err
			}
			printPeers(list)
			if list.Rotating != "" {
				fmt.Println("\nthe key changes by itself as soon as all of them know the next one")
			} else {
				fmt.Println("\nthe key is changed; key files made before name the old one: make them anew")
			}
			return nil
		})
	cmd.Flags().BoolVar(&force, "force", false, "do not wait for machines that cannot be told; they have to be paired again")
	return cmd
}

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "keys by which scripts log in: add, list, remove"}
	cmd.AddCommand(keyAddCommand(), keyListCommand(), keyRemoveCommand())
	return cmd
}

// pamHelperCommand is what the daemon runs to check a password. It talks over pipes.
func pamHelperCommand() *cobra.Command {
	return &cobra.Command{Use: "pam-helper", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return pamlogin.Helper(os.Stdin, os.Stdout)
	}}
}

// pamInstallCommand makes passwords work on this machine.
func pamInstallCommand() *cobra.Command {
	return &cobra.Command{Use: "pam-install", Short: "let users log in with their passwords: install the PAM service", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		file, err := pamlogin.Install()
		if errors.Is(err, pamlogin.ErrInstalled) {
			fmt.Println(file, err)
			return nil
		}
		if err == nil {
			fmt.Println("installed", file)
		}
		return err
	}}
}

// ownHelper is this program as the helper; none if it cannot be found.
func ownHelper() []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{self, "pam-helper"}
}
