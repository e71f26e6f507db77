package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// rows in the order they run and are printed. The time bounds each; one that is cut off
// says so and the next begins.
var rows = []struct {
	name string
	help string
	most time.Duration
	run  func(ctx context.Context, b *bench) error
}{
	{"machine", "limits of the machine: copy, create, fsync", 5 * time.Minute, machineRow},
	{"latency", "one small change until visible, in a small and a large tree", 20 * time.Minute, latencyRow},
	{"burst", "many small files at once, against the writer and lsyncd", 20 * time.Minute, burstRow},
	{"rename", "a directory of many files renamed", 10 * time.Minute, renameRow},
	{"random", "random writes with fsync into one large file", 10 * time.Minute, randomRow},
	{"large", "initial mirror of one large file, against rsync", 15 * time.Minute, largeRow},
	{"small", "initial mirror of many small files, against rsync", 15 * time.Minute, smallRow},
	{"verify", "verification by content and by attributes, against rsync -nc and rsync -n", 20 * time.Minute, verifyRow},
	{"blocks", "difference mirror of a large file with scattered changes, against rsync --inplace", 15 * time.Minute, blocksRow},
	{"limited", "one small change while a mirror drains over the same limited link", 10 * time.Minute, limitedRow},
	{"many", "many connections on one target, against one", 15 * time.Minute, manyRow},
	{"replay", "rebuilding the past of a replica, against applying from the queue", 15 * time.Minute, replayRow},
	{"tls", "a paired link against plain loopback, and what TLS alone costs", 10 * time.Minute, tlsRow},
	{"capture", "capture against a plain pass-through mount", 30 * time.Minute, captureRow},
}

// bench is one run.
type bench struct {
	scale   scale
	work    string // everything is made below it; ops/bench.sh removes it
	dir     string // of the present row, below work
	program string // understudy
	module  string // root of the module, for the tests of capture
	profile string // directory for CPU profiles of the daemons; "" = none
	table   table
	serial  int // of pairs, for names of directories
}

// scale says how much is done.
type scale struct {
	rounds               int
	samples              int // of each operation in each round of the latency row
	smallTree, largeTree int // files
	burst                int // files
	fileSize             int64
	writeRate, writeSecs int
	mirrorBytes          int64
	mirrorFiles          int
	lsyncdSamples        int
	connections          int // on one target, of the row many
}

var (
	fullScale = scale{rounds: 3, samples: 200, smallTree: 100, largeTree: 50000, burst: 10000, fileSize: 1 << 30,
		writeRate: 500, writeSecs: 20, mirrorBytes: 2 << 30, mirrorFiles: 50000, lsyncdSamples: 20, connections: 32}
	// shortScale only shows that everything works; its figures mean little.
	shortScale = scale{rounds: 1, samples: 30, smallTree: 100, largeTree: 3000, burst: 1000, fileSize: 64 << 20,
		writeRate: 500, writeSecs: 3, mirrorBytes: 256 << 20, mirrorFiles: 3000, lsyncdSamples: 5, connections: 4}
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "load" {
		os.Exit(runLoad(os.Args[2], os.Args[3:]))
	}
	os.Exit(run())
}

func run() int {
	b := &bench{scale: fullScale}
	short := flag.Bool("short", false, "a minute's trial: fewer rounds, smaller trees")
	rounds := flag.Int("rounds", 0, "rounds of each row (default 3, with -short 1)")
	flag.StringVar(&b.work, "work", "", "directory for trees, replicas and queues (must not hold anything else)")
	flag.StringVar(&b.program, "understudy", "bin/understudy", "the program measured")
	flag.StringVar(&b.module, "module", ".", "root of the module")
	flag.StringVar(&b.profile, "profile", "", "directory for CPU profiles of the daemons")
	flag.Usage = usage
	flag.Parse()
	if *short {
		b.scale = shortScale
	}
	if *rounds > 0 {
		b.scale.rounds = *rounds
	}
	if err := b.prepare(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok := b.runRows(ctx, flag.Args(), *short)
	b.table.print(os.Stdout)
	if !ok {
		return 1
	}
	return 0
}

func usage() {
	out := flag.CommandLine.Output()
	fmt.Fprintln(out, "usage: bench -work DIR [options] [ROW ...]; rows:")
	for _, r := range rows {
		fmt.Fprintf(out, "  %-8s %s\n", r.name, r.help)
	}
	flag.PrintDefaults()
}

func (b *bench) prepare(chosen []string) (err error) {
	for _, name := range chosen {
		if !knownRow(name) {
			return fmt.Errorf("no row %q; bench -help lists them", name)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: it mounts")
	}
	if b.work == "" {
		return errors.New("-work: give a directory")
	}
	for _, p := range []*string{&b.work, &b.program, &b.module} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if b.work, err = filepath.EvalSymlinks(b.work); err != nil {
		return err
	}
	if b.profile != "" {
		if b.profile, err = filepath.Abs(b.profile); err != nil {
			return err
		}
		if err := os.MkdirAll(b.profile, 0o755); err != nil {
			return err
		}
	}
	if _, err := os.Stat(b.program); err != nil {
		return fmt.Errorf("%w; build it: task build", err)
	}
	return ensureFusectl()
}

func knownRow(name string) bool {
	for _, r := range rows {
		if r.name == name {
			return true
		}
	}
	return false
}

// runRows runs the chosen rows (all if none; capture is no part of a short run unless
// it is asked for) and reports whether each came to its end.
func (b *bench) runRows(ctx context.Context, chosen []string, short bool) bool {
	ok := true
	b.table.load = append(b.table.load, loadAverage())
	for _, r := range rows {
		if len(chosen) > 0 && !slices.Contains(chosen, r.name) || len(chosen) == 0 && short && r.name == "capture" {
			continue
		}
		if ctx.Err() != nil {
			return false
		}
		fmt.Fprintf(os.Stderr, "bench: %s: %s\n", r.name, r.help)
		if err := b.runRow(ctx, r.name, r.most, r.run); err != nil {
			ok = false
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", r.name, err)
			b.table.failed(r.name, err)
		}
		b.table.load = append(b.table.load, loadAverage())
	}
	return ok
}

// runRow runs one row in a directory of its own. What hangs in a mount when the time
// is over is freed by cutting off the mounts.
//
// The directory stays to the end of the run: for 60 to 360 s ext4 does not use a deleted
// inode again but steps over it, one by one, at every creation near it. After the
// removal of 50,000 files creating one took 200 microseconds of CPU instead of 20.
func (b *bench) runRow(ctx context.Context, name string, most time.Duration, f func(context.Context, *bench) error) error {
	b.dir = filepath.Join(b.work, name)
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("not finished within %v", most))
	defer cancel()
	unhook := context.AfterFunc(ctx, func() { endMountsBelow(b.work) })
	defer unhook()
	err := f(ctx, b)
	endMountsBelow(b.work)
	if cause := context.Cause(ctx); err != nil && cause != nil && !strings.Contains(err.Error(), cause.Error()) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
