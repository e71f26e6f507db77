package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Loads are what applications and observers do, each in a process of its own. Their
// result is JSON on standard output.
var loads = map[string]func(args []byte) (any, error){
	"latency": decoded(latencyLoad),
	"burst":   decoded(burstLoad),
	"rename":  decoded(renameLoad),
	"random":  decoded(randomLoad),
	"many":    decoded(manyLoad),
}

// decoded gives a load its arguments.
func decoded[T any](f func(T) (any, error)) func([]byte) (any, error) {
	return func(raw []byte) (any, error) {
		var args T
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, err
		}
		return f(args)
	}
}

// runLoad is main of a child.
func runLoad(name string, args []string) int {
	f := loads[name]
	if f == nil || len(args) != 1 {
		fmt.Fprintf(os.Stderr, "bench load %s: not known\n", name)
		return 2
	}
	out, err := f([]byte(args[0]))
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench load %s: %v\n", name, err)
		return 1
	}
	return 0
}

// child runs a load. When ctx ends it is killed; if it hangs in a mount, that is cut
// off by whoever ended ctx.
func child(ctx context.Context, name string, args, result any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "load", name, string(raw))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("load %s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return json.Unmarshal(out, result)
}

func readJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// pollGap is between two looks at the replica: short beside a millisecond, and little
// of a core, which the daemons need.
const pollGap = 100 * time.Microsecond

// until looks again and again whether ok, for at most a time.
func until(most time.Duration, ok func() bool) error {
	end := time.Now().Add(most)
	for !ok() {
		if time.Now().After(end) {
			return fmt.Errorf("not visible within %v", most)
		}
		nap(pollGap)
	}
	return nil
}

// nap sleeps in the kernel; time.Sleep is rounded up to a millisecond where the
// scheduler waits in epoll.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // cut short by a signal: the caller looks again
}

// fileSize is -1 for a name that does not exist.
func fileSize(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return -1
	}
	return st.Size
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }
