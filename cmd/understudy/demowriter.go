package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// makeSample writes a small tree: some documents, a log, links.
func makeSample(dir string) error {
	for i := range 200 {
		sub := filepath.Join(dir, fmt.Sprintf("chapter-%02d", i%10))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		text := fmt.Sprintf("page %d\n%s", i, string(make([]byte, i*64)))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("page-%03d.txt", i)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink("chapter-00/page-000.txt", filepath.Join(dir, "start")); err != nil {
		return err
	}
	return os.Link(filepath.Join(dir, "chapter-01", "page-001.txt"), filepath.Join(dir, "second-name"))
}

// demoWriterCommand keeps changing a directory until it is interrupted.
func demoWriterCommand() *cobra.Command {
	return &cobra.Command{Use: "writer DIR", Hidden: true, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return keepChanging(cmd.Context(), args[0])
	}}
}

func keepChanging(ctx context.Context, dir string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := changeOnce(dir, i); err != nil {
			return fmt.Errorf("demo writer: %w", err)
		}
	}
}

// changeOnce appends to a log, saves a document the way editors do, and now and then
// moves a directory.
func changeOnce(dir string, i int) error {
	log, err := os.OpenFile(filepath.Join(dir, "activity.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(log, "%s change %d\n", time.Now().Format(time.RFC3339Nano), i)
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	doc := filepath.Join(dir, fmt.Sprintf("note-%d.txt", i%20))
	if err := os.WriteFile(doc+".tmp", fmt.Appendf(nil, "version %d\n", i), 0o644); err != nil {
		return err
	}
	if err := os.Rename(doc+".tmp", doc); err != nil {
		return err
	}
	if i%40 == 0 {
		a, b := filepath.Join(dir, "chapter-09"), filepath.Join(dir, "chapter-09-moved")
		if err := os.Rename(a, b); err != nil {
			return os.Rename(b, a)
		}
	}
	return nil
}

// ownGroup keeps a terminal's Ctrl-C from reaching the child: its parent ends it.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
