package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// captureRow runs the benchmarks of capture/stacked, which measure capture and
// go-fuse's loopback in turn, and takes over their figures.
func captureRow(ctx context.Context, b *bench) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkCapture$", "-benchtime", "1x", "-timeout", "25m", "./capture/stacked")
	cmd.Dir = b.module
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } // its watchdogs end the mounts
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test -bench: %w: %s", err, out)
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		f, ok := parseBenchmark(line)
		if !ok {
			continue
		}
		found++
		b.table.add(figure{name: "capture " + f.name, value: f.captured, unit: "/s", reference: "loopback " + short(f.reference) + " /s",
			ratio: f.captured / f.reference, bound: bound{must: 0.9, atLeast: true, onRatio: true}})
	}
	if found == 0 {
		return errors.New("the benchmarks of capture/stacked printed no figures")
	}
	return nil
}

type captureFigure struct {
	name                string
	captured, reference float64
}

var benchmarkName = regexp.MustCompile(`^BenchmarkCapture/(\S+?)(-\d+)?\s`)

// parseBenchmark reads a line of go test -bench: the name, the count, then figures with
// their units.
func parseBenchmark(line string) (f captureFigure, ok bool) {
	m := benchmarkName.FindStringSubmatch(line)
	if m == nil {
		return f, false
	}
	f.name = m[1]
	fields := strings.Fields(line)
	for i := 2; i+1 < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return f, false
		}
		switch fields[i+1] {
		case "captured/s":
			f.captured = v
		case "reference/s":
			f.reference = v
		}
	}
	return f, f.captured > 0 && f.reference > 0
}
