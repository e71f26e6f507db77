package fanotify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// watched runs a benchmark without a capture, beneath a stacked mount (all events are of
// this process and dropped), and captured.
func watched(b *testing.B, do func(b *testing.B, root string)) {
	for _, how := range []string{"alone", "bypass", "captured"} {
		b.Run(how, func(b *testing.B) {
			root := b.TempDir()
			if how != "alone" {
				c, _ := open(b, NewHub(nil), root, Config{Bypass: how == "bypass", RescanEvery: -1})
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- c.Run(ctx) }()
				defer func() { cancel(); <-done }()
			}
			var before, after unix.Rusage
			must(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
			b.ResetTimer()
			do(b, root)
			b.StopTimer()
			must(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkWrite writes 4 KiB at places of one file, reader's work included.
func BenchmarkWrite(b *testing.B) {
	watched(b, func(b *testing.B, root string) {
		f, err := os.Create(filepath.Join(root, "f"))
		must(b, err)
		defer f.Close()
		buf := make([]byte, 4096)
		for i := 0; b.Loop(); i++ {
			_, err := f.WriteAt(buf, int64(i%4096)*4096)
			must(b, err)
		}
	})
}

// BenchmarkCreate creates, writes, closes and removes a file.
func BenchmarkCreate(b *testing.B) {
	watched(b, func(b *testing.B, root string) {
		buf := make([]byte, 4096)
		for i := 0; b.Loop(); i++ {
			name := filepath.Join(root, fmt.Sprint("f", i))
			must(b, os.WriteFile(name, buf, 0o644))
			must(b, os.Remove(name))
		}
	})
}

// BenchmarkStart begins and ends a capture.
func BenchmarkStart(b *testing.B) {
	root := b.TempDir()
	for b.Loop() {
		c, _ := open(b, NewHub(nil), root, Config{})
		c.Close()
	}
}
