package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// machineRow prints what the machine can do, to judge the rest by.
func machineRow(ctx context.Context, b *bench) error {
	from, to := filepath.Join(b.dir, "from"), filepath.Join(b.dir, "to")
	if err := makeFile(from, b.scale.mirrorBytes); err != nil {
		return err
	}
	var copies, fsyncs, creates []float64
	for round := range b.scale.rounds {
		begin := time.Now()
		if out, err := exec.CommandContext(ctx, "cp", "--reflink=never", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
		copies = append(copies, float64(b.scale.mirrorBytes)/(1<<20)/time.Since(begin).Seconds())
		if err := os.Remove(to); err != nil {
			return err
		}
		rate, err := fsyncRate(to)
		if err != nil {
			return err
		}
		fsyncs = append(fsyncs, rate)
		var r burstResult
		if err := child(ctx, "burst", burstArgs{Dir: filepath.Join(b.dir, fmt.Sprint("new", round)), Files: b.scale.burst}, &r); err != nil {
			return err
		}
		creates = append(creates, float64(b.scale.burst)/r.Writer)
	}
	b.table.add(figure{name: "machine: cp of a cached file", value: median(copies), unit: "MiB/s"})
	b.table.add(figure{name: "machine: 4 KiB append with fdatasync", value: median(fsyncs), unit: "/s"})
	b.table.add(figure{name: "machine: 4 KiB files created", value: median(creates), unit: "/s"})
	return nil
}

// fsyncRate appends 4 KiB with fdatasync for a second.
func fsyncRate(path string) (float64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer os.Remove(path)
	defer f.Close()
	buf := make([]byte, 4096)
	begin := time.Now()
	n := 0
	for time.Since(begin) < time.Second {
		if _, err := f.Write(buf); err != nil {
			return 0, err
		}
		if err := fdatasync(f); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
