// Package testnode runs daemons as child processes of a test program, so that they can
// be killed at any instant: with no deferred call run and nothing flushed that the
// kernel does not have.
//
// The child is the test program itself. Its TestMain calls Child first, with what a
// daemon does; the package knows nothing of nodes but that they get settings and say
// when they are ready, and at which address.
package testnode

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childEnv holds the settings of a child, as JSON.
const childEnv = "UNDERSTUDY_DAEMON"

// startTimeout is how long a daemon may take until it is ready, stopTimeout until it
// has ended after it was told to, answerTimeout until it answers a question.
const (
	startTimeout  = time.Minute
	stopTimeout   = time.Minute
	answerTimeout = time.Minute
)

// Main is what a daemon does: it calls ready with its address once it works, and
// returns when ctx ends.
type Main func(ctx context.Context, settings []byte, ready func(addr string)) error

// Child runs main and ends the process, if Start made this process; else it returns at
// once. The process also ends, without ceremony, when its parent does.
func Child(main Main) {
	settings := os.Getenv(childEnv)
	if settings == "" {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go obey(os.Stdin)
	err := main(ctx, []byte(settings), func(addr string) { fmt.Println("ready", addr) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "daemon ended:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// obey answers the parent's questions until the parent is gone.
func obey(in io.Reader) {
	for s := bufio.NewScanner(in); s.Scan(); {
		switch s.Text() {
		case "goroutines":
			fmt.Println("goroutines", runtime.NumGoroutine())
		case "stacks":
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) // for people only
			fmt.Println("stacks")
		}
	}
	os.Exit(2)
}

// Daemon is a running child. Its methods are called by one goroutine.
type Daemon struct {
	t     testing.TB
	name  string
	addr  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // what it prints, by lines
	ended chan error  // what Wait said, once
	log   *tail
}

// Start runs a daemon with these settings and waits until it is ready. It is killed at
// the end of the test, if it still runs then; what it logged is shown if the test failed.
func Start(t testing.TB, name string, settings any) *Daemon {
	t.Helper()
	return StartIn(t, nil, name, settings)
}

// StartIn is Start in a network namespace, nil is the caller's own, with what env adds to
// the environment.
func StartIn(t testing.TB, ns *Namespace, name string, settings any, env ...string) *Daemon {
	t.Helper()
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{t: t, name: name, lines: make(chan string, 16), ended: make(chan error, 1), log: new(tail)}
	d.cmd = exec.Command(os.Args[0])
	d.cmd.Env = append(append(os.Environ(), childEnv+"="+string(raw)), env...)
	d.cmd.Dir, d.cmd.Stderr = "/", d.log
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(d.cmd.Start); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			d.lines <- s.Text()
		}
		close(d.lines)
		d.ended <- d.cmd.Wait()
	}()
	t.Cleanup(d.cleanup)
	d.addr = d.answer("ready", startTimeout)
	return d
}

func (d *Daemon) cleanup() {
	if d.cmd.ProcessState == nil && len(d.ended) == 0 {
		d.Kill()
	}
	if d.t.Failed() {
		d.t.Logf("%s (process %d) logged:\n%s", d.name, d.PID(), d.log)
	}
}

// answer waits for a line that begins with word and returns what follows it.
func (d *Daemon) answer(word string, limit time.Duration) string {
	d.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				d.t.Fatalf("%s ended before it said %q:\n%s", d.name, word, d.log)
			}
			if rest, found := strings.CutPrefix(line, word); found {
				return strings.TrimSpace(rest)
			}
		case <-timer.C:
			_, _ = io.WriteString(d.in, "stacks\n")
			d.t.Fatalf("%s did not say %q within %v:\n%s", d.name, word, limit, d.log)
		}
	}
}

// Addr is where it listens.
func (d *Daemon) Addr() string { return d.addr }

// PID of the process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Log is the end of what it logged.
func (d *Daemon) Log() string { return d.log.String() }

// Kill ends the process with SIGKILL and waits until the kernel has taken it away.
func (d *Daemon) Kill() {
	d.t.Helper()
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatalf("kill %s: %v", d.name, err)
	}
	d.reap()
}

// Stop tells the daemon to stop and waits until it has; it must end without an error.
func (d *Daemon) Stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Errorf("stop %s: %v", d.name, err)
	}
	if err := d.reap(); err != nil {
		d.t.Errorf("%s stopped: %v", d.name, err)
	}
}

func (d *Daemon) reap() error {
	d.t.Helper()
	go func() {
		for range d.lines { // nobody waits for answers any more
		}
	}()
	select {
	case err := <-d.ended:
		d.ended <- err // for cleanup
		return err
	case <-time.After(stopTimeout):
		_, _ = io.WriteString(d.in, "stacks\n")
		_ = d.cmd.Process.Signal(syscall.SIGQUIT)
		d.t.Fatalf("%s does not end:\n%s", d.name, d.log)
		return nil
	}
}

// Goroutines counts those of the daemon.
func (d *Daemon) Goroutines() int {
	d.t.Helper()
	_, _ = io.WriteString(d.in, "goroutines\n") // a dead one does not answer
	n, err := strconv.Atoi(d.answer("goroutines", answerTimeout))
	if err != nil {
		d.t.Fatalf("%s counts goroutines: %v", d.name, err)
	}
	return n
}

// Stacks has the daemon log its goroutines.
func (d *Daemon) Stacks() {
	d.t.Helper()
	_, _ = io.WriteString(d.in, "stacks\n")
	d.answer("stacks", answerTimeout)
}

// Descriptors counts the open descriptors of the daemon that are no files, or files
// below data. The others are files of the trees, of which it keeps a bounded cache.
func (d *Daemon) Descriptors(data string) (n int) {
	d.t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(d.PID()), "fd")
	names, err := os.ReadDir(dir)
	if err != nil {
		d.t.Fatalf("descriptors of %s: %v", d.name, err)
	}
	for _, name := range names {
		to, err := os.Readlink(filepath.Join(dir, name.Name()))
		if err == nil && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, data+"/")) {
			n++
		}
	}
	return n
}

// maxTail bounds what is kept of a daemon's log.
const maxTail = 256 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	if over := l.buf.Len() - maxTail; over > 0 {
		l.buf.Next(over)
	}
	return len(b), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
