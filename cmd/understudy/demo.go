package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"understudy/control"
	"understudy/node"
)

func demoCommand() *cobra.Command {
	var keep string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo [DIR]",
		Short: "two nodes on this machine protect DIR, or a sample tree",
		Long: `Run a source and a target in one process. DIR (or a small sample tree that keeps
changing) is mirrored to a replica beside it, and every change follows. Ctrl-C ends
the demo: the replica stays, DIR is as it was.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d := &demo{replica: keep, log: slog.New(slog.DiscardHandler)}
			if verbose {
				d.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			}
			if len(args) == 1 {
				d.dir = args[0]
			}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&keep, "replica", "", "where the replica goes (default: a new directory below "+os.TempDir()+")")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "print the nodes' log")
	cmd.AddCommand(demoWriterCommand())
	return cmd
}

// demo is one run of the demonstration.
type demo struct {
	dir     string // protected; "" = a sample tree
	replica string
	work    string // everything the demo makes for itself
	log     *slog.Logger
	source  *node.Node
	target  *node.Node
	id      int
}

func (d *demo) run(ctx context.Context) (err error) {
	if err := d.prepare(); err != nil {
		return err
	}
	stopped := make(chan error, 2)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var started int
	defer func() {
		stop()
		for range started {
			err = errors.Join(err, <-stopped)
		}
		d.farewell()
	}()
	for _, n := range []*node.Node{d.target, d.source} {
		started++
		go func() { stopped <- n.Run(running) }()
	}
	for _, n := range []*node.Node{d.target, d.source} {
		select {
		case <-n.Ready():
		case err := <-stopped:
			stopped <- nil // counted again at the end
			return fmt.Errorf("a node does not start: %w", err)
		}
	}
	if err := d.protect(ctx); err != nil {
		return err
	}
	if d.dir == filepath.Join(d.work, "sample") {
		writer, err := startWriter(d.dir)
		if err != nil {
			return err
		}
		defer stopWriter(writer)
	}
	return d.watch(ctx, stopped)
}

// prepare makes the directories and both nodes.
func (d *demo) prepare() (err error) {
	if d.work, err = os.MkdirTemp("", "understudy-demo-"); err != nil {
		return err
	}
	if d.dir == "" {
		d.dir = filepath.Join(d.work, "sample")
		if err := makeSample(d.dir); err != nil {
			return err
		}
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	if d.dir, err = filepath.EvalSymlinks(d.dir); err != nil {
		return fmt.Errorf("protect %s: %w", d.dir, err)
	}
	if d.replica == "" {
		d.replica = filepath.Join(d.work, "replica")
	}
	if d.replica, err = filepath.Abs(d.replica); err != nil {
		return err
	}
	if d.target, err = d.open("target"); err != nil {
		return err
	}
	d.source, err = d.open("source")
	return err
}

func (d *demo) open(name string) (*node.Node, error) {
	cfg := node.DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, filepath.Join(d.work, name), "127.0.0.1:0"
	cfg.Secret = filepath.Base(d.work) // made by this run, known to this process alone
	return node.Open(cfg, d.log.With("node", name))
}

// protect mounts the capture where that is possible, and connects.
func (d *demo) protect(ctx context.Context) error {
	req := control.ConnectRequest{Set: "demo", Rules: []string{fmt.Sprintf("%q inc, rec", d.dir)}, Target: "target",
		Address: d.target.Addr(), Map: map[string]string{d.dir: d.replica}, Capture: "inotify"}
	reply, err := d.source.Mount(ctx, d.dir)
	switch {
	case err == nil:
		req.Capture = "stacked"
		fmt.Printf("capture: stacked, fidelity write order: the replica is a past moment of the source at every instant\n")
		for _, p := range reply.Foreign {
			fmt.Printf("note: process %d (%s) has %s open from before; what it writes through that descriptor is not captured\n", p.PID, p.Command, p.Path)
		}
	default:
		fmt.Printf("capture: inotify, fidelity hints: the replica follows, order not kept\n  because stacked capture is not possible here: %v\n", err)
	}
	d.id, err = d.source.Connect(ctx, req)
	if err != nil {
		return err
	}
	fmt.Printf("protecting %s\nreplica at %s\nCtrl-C ends the demo\n\n", d.dir, d.replica)
	return nil
}

// watch prints the progress line until ctx ends or a node stops.
func (d *demo) watch(ctx context.Context, stopped chan error) error {
	terminal := isTerminal(os.Stdout)
	every := time.Second
	if terminal {
		every = 200 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.line(terminal)
			if terminal {
				fmt.Println()
			}
			return d.settle()
		case err := <-stopped:
			stopped <- nil // counted again by run
			return fmt.Errorf("a node stopped: %w", err)
		case <-tick.C:
			d.line(terminal)
		}
	}
}

// settle lets the replica catch up, for a moment at most.
func (d *demo) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.source.Settle(ctx, d.id); err != nil {
		fmt.Println("the replica had not caught up when the demo ended:", err)
	}
	return nil
}

func (d *demo) line(terminal bool) {
	for _, c := range d.source.Status().Connections {
		if c.ID != d.id {
			continue
		}
		text := fmt.Sprintf("mirror %s %d files %s | captured %d applied %d operations | queue %d ops %s | lag %.1f ms | target %s",
			mirrorText(c), c.MirrorFiles, size(c.MirrorBytes), c.CapturedOp, c.AppliedOp, c.QueuedOps, size(c.QueuedBytes), c.LagMS, c.TargetState)
		if c.LastError != "" {
			text += " | " + c.LastError
		}
		if terminal {
			fmt.Printf("\r\033[K%s", text)
		} else {
			fmt.Println(text)
		}
	}
}

// farewell removes what the demo made for itself, but for the replica and the sample.
func (d *demo) farewell() {
	for _, name := range []string{"source", "target"} {
		if err := os.RemoveAll(filepath.Join(d.work, name)); err != nil {
			fmt.Fprintln(os.Stderr, "understudy: warning: clean up:", err)
		}
	}
	_ = os.Remove(d.work) // only if nothing of the user's is in it
	if _, err := os.Stat(d.replica); err == nil {
		fmt.Println("the replica stays at", d.replica)
	}
}

func size(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[u])
}

func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// startWriter starts a process of its own that keeps changing dir: a process that
// serves a mount must not use it.
func startWriter(dir string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "demo", "writer", dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = ownGroup()
	return cmd, cmd.Start()
}

func stopWriter(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait() // how the writer ended does not matter
}
