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
	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/node"
	"understudy/repset"
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
	sample  bool   // dir is the demo's own
	size    control.Size
	log     *slog.Logger
	source  *node.Node
	target  *node.Node
	id      int
}

func (d *demo) run(ctx context.Context) (err error) {
	if err := d.prepare(); err != nil {
		return errors.Join(err, d.giveUp())
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
	if err := d.show(ctx, stopped); err != nil {
		return err
	}
	return d.settle()
}

// show lets the sample tree change, if it is one, and shows progress until ctx ends.
func (d *demo) show(ctx context.Context, stopped chan error) error {
	if d.sample {
		writer, err := startWriter(d.dir)
		if err != nil {
			return err
		}
		defer stopWriter(writer) // before the replica catches up
	}
	return d.watch(ctx, stopped)
}

// prepare checks the directories, and makes the demo's own and both nodes.
func (d *demo) prepare() (err error) {
	d.sample = d.dir == ""
	if !d.sample {
		if d.dir, err = protectable(d.dir); err != nil {
			return err
		}
	}
	if d.work, err = os.MkdirTemp("", "understudy-demo-"); err != nil {
		return err
	}
	if d.sample {
		d.dir = filepath.Join(d.work, "sample")
		if err := makeSample(d.dir); err != nil {
			return fmt.Errorf("make a sample tree: %w", err)
		}
	}
	if d.replica == "" {
		d.replica = filepath.Join(d.work, "replica")
	}
	if d.replica, err = filepath.Abs(d.replica); err != nil {
		return err
	}
	if err := d.apart(); err != nil {
		return err
	}
	if d.target, err = d.open("target"); err != nil {
		return err
	}
	if d.source, err = d.open("source"); err != nil {
		return err
	}
	return node.PairUp(d.source, d.target)
}

// protectable is dir without symbolic links.
func protectable(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return "", usageError{fmt.Errorf("protect %s: %w; name a directory that exists, or none for a sample tree", dir, err)}
	}
	if abs == "/" {
		return "", usageError{errors.New("protect /: the root of the file system cannot be captured; name a directory in it")}
	}
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		return "", usageError{fmt.Errorf("protect %s: not a directory", dir)}
	}
	return abs, nil
}

// apart refuses a replica inside what it is a replica of, and the reverse.
func (d *demo) apart() error {
	work, replica := realParent(d.work), realParent(d.replica)
	switch {
	case !d.sample && repset.Within(d.dir, work):
		return usageError{fmt.Errorf("protect %s: the demo's own files at %s would lie inside; set TMPDIR to a directory outside of it", d.dir, d.work)}
	case repset.Within(d.dir, replica) || repset.Within(replica, d.dir):
		return usageError{fmt.Errorf("protect %s: the replica %s overlaps it, so every change would make another one; give --replica another place", d.dir, d.replica)}
	}
	return nil
}

// realParent is path, which may not exist, without symbolic links before its last part.
func realParent(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

// giveUp removes what prepare made.
func (d *demo) giveUp() error {
	var err error
	for _, n := range []*node.Node{d.source, d.target} {
		if n != nil {
			err = errors.Join(err, n.Close())
		}
	}
	if d.work != "" {
		err = errors.Join(err, os.RemoveAll(d.work))
	}
	return err
}

func (d *demo) open(name string) (*node.Node, error) {
	cfg := node.DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, filepath.Join(d.work, name), "127.0.0.1:0"
	return node.Open(cfg, d.log.With("node", name))
}

// protect measures, mounts the capture where that is possible, and connects.
func (d *demo) protect(ctx context.Context) (err error) {
	rules := []string{fmt.Sprintf("%q inc, rec", d.dir)}
	if d.size, err = d.source.Calculate(ctx, control.CalculateRequest{Rules: rules}); err != nil {
		return err
	}
	fmt.Printf("protecting  %s (%d files, %s)\nreplica at  %s\n", d.dir, d.size.Files, size(d.size.Bytes), d.replica)
	req := control.ConnectRequest{Set: "demo", Rules: rules, Target: "target",
		Address: d.target.Addr(), Map: map[string]string{d.dir: d.replica}, Capture: "inotify"}
	reply, err := d.source.Mount(ctx, d.dir)
	switch {
	case err == nil:
		req.Capture = "stacked"
		fmt.Println("capture     stacked, fidelity write order: once mirrored, the replica is at every instant a past moment of the source")
		for _, p := range reply.Foreign {
			fmt.Printf("note: process %d (%s) has %s open from before; what it writes through that descriptor is not captured\n", p.PID, p.Command, p.Path)
		}
	default:
		fmt.Printf("capture     inotify, fidelity hints: the replica follows, but the order of changes is not kept\n            because stacked capture is not possible here: %v\n", err)
	}
	if d.id, err = d.source.Connect(ctx, req); err != nil {
		return err
	}
	fmt.Print("Ctrl-C ends the demo\n\n")
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
			return nil
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
		return nil
	}
	fmt.Println("the replica has everything")
	return nil
}

func (d *demo) line(terminal bool) {
	for _, c := range d.source.Status().Connections {
		if c.ID != d.id {
			continue
		}
		text := d.progress(c)
		if terminal {
			fmt.Printf("\r\033[K%s", cut(text, columns(os.Stdout)))
		} else {
			fmt.Println(text)
		}
	}
}

// progress is the line that shows a connection at work.
func (d *demo) progress(c control.Connection) string {
	text := fmt.Sprintf("mirror %3.0f%%, %d files, %s | operations %d captured, %d applied | queue %d, %s | lag %.1f ms | target %s",
		d.percent(c), c.MirrorFiles, size(c.MirrorBytes), c.CapturedOp, c.AppliedOp, c.QueuedOps, size(c.QueuedBytes), c.LagMS, c.TargetState)
	if c.Mirror != "Idle" && c.Mirror != "Mirroring" {
		text += " | mirror " + c.Mirror
	}
	if c.LastError != "" {
		text += " | " + c.LastError
	}
	return text
}

// percent is how far the mirror is, by the size measured at the start: the set may
// have grown since.
func (d *demo) percent(c control.Connection) float64 {
	switch {
	case c.MirrorPercent >= 0:
		return c.MirrorPercent
	case d.size.Bytes > 0:
		return min(99, 100*float64(c.MirrorBytes)/float64(d.size.Bytes))
	case d.size.Files > 0:
		return min(99, 100*float64(c.MirrorFiles)/float64(d.size.Files))
	}
	return 0
}

// cut shortens a line to the width of the terminal: one that wraps cannot be written over.
func cut(text string, width int) string {
	if width > 0 && len(text) >= width {
		return text[:width-1]
	}
	return text
}

func columns(f *os.File) int {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(ws.Col)
}

// farewell removes what the demo made for itself, but for the replica and the sample.
func (d *demo) farewell() {
	for _, name := range []string{"source", "target"} {
		if err := os.RemoveAll(filepath.Join(d.work, name)); err != nil {
			fmt.Fprintln(os.Stderr, "understudy: warning: clean up:", err)
		}
	}
	if d.id == 0 && d.sample { // nothing came of it
		_ = os.RemoveAll(d.dir) // as below: what remains is no harm
	}
	_ = os.Remove(d.work) // only if nothing of the user's is in it
	if _, err := os.Stat(d.replica); err == nil && d.id != 0 {
		fmt.Printf("the replica stays at %s; remove it with: rm -r %s\n", d.replica, d.leftover())
	}
}

// leftover is the directory that holds what stays and is the demo's.
func (d *demo) leftover() string {
	if repset.Within(d.work, d.replica) {
		return d.work
	}
	return d.replica
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
