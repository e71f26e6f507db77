package holder

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Main is the program "understudy holder": args are --data, --hold-grace and
// --watchdog, as a client gives them. It returns the exit code. A program that is to be
// a holder calls it before anything else.
func Main(args []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "understudy holder: error:", err)
		return 1
	}
	var cfg Config
	flags := flag.NewFlagSet("understudy holder", flag.ContinueOnError)
	flags.StringVar(&cfg.Dir, "data", "", "data directory of the daemon")
	flags.DurationVar(&cfg.Grace, "hold-grace", DefaultGrace, "how long applications wait for a daemon to come back")
	flags.DurationVar(&cfg.Watchdog, "watchdog", DefaultWatchdog, "after how long a daemon that hangs is killed")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if cfg.Dir == "" || cfg.Grace <= 0 || cfg.Watchdog <= 0 {
		return fail(fmt.Errorf("give --data, and times above 0; it is started by the daemon"))
	}
	debug.SetGCPercent(20) // it makes little garbage and is to be small
	debug.SetMemoryLimit(64 << 20)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := Serve(ctx, cfg); err != nil {
		return fail(err)
	}
	return 0
}
