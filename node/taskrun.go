package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
)

// Running the program of a task.

const (
	maxTaskOutput = 64 << 10 // bytes of what one program prints that are kept
	maxAside      = 16       // programs that nobody waits for, at a time
	taskIDEnv     = "UNDERSTUDY_TASK_ID"
	// taskShell starts the program by a name and arguments given to it; nothing of them is
	// looked at. A daemon must not execute a file itself that may lie below a mount it
	// serves: the thread that forks cannot be stopped until the kernel has read the file.
	taskShell = `exec "$0" "$@"`
)

// errTaskTime ends a program that ran too long.
var errTaskTime = errors.New("it ran longer than its time and was ended")

// keptOutput is a file with the beginning of what is written to it.
type keptOutput struct {
	f    *os.File
	left int
	over int64
}

func (k *keptOutput) Write(b []byte) (int, error) {
	n := min(len(b), k.left)
	k.left -= n
	k.over += int64(len(b) - n)
	if _, err := k.f.Write(b[:n]); err != nil { // a full disk does not stop the program
		k.over += int64(n)
	}
	return len(b), nil
}

func (k *keptOutput) close() {
	if k.over > 0 {
		_, _ = fmt.Fprintf(k.f, "\n[%d bytes more were not kept]\n", k.over)
	}
	_ = k.f.Close()
}

// runProgram runs p to its end, or kills it and all of its process group when ctx ends or
// limit (0 or less: none) is over. It fills in what came of it.
func runProgram(ctx context.Context, p *control.TaskPoint, env []string, limit time.Duration) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errTaskTime)
		defer cancel()
	}
	// The kernel ends the program with the thread that started it: with the daemon.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", taskShell, p.Path}, p.Args...)...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // of pipes that grandchildren keep
	f, err := os.OpenFile(p.File, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		out := &keptOutput{f: f, left: maxTaskOutput}
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Run()
		out.close()
	}
	judge(p, err, context.Cause(ctx))
}

// judge says what came of a program that ended with err; cause is why it was ended.
func judge(p *control.TaskPoint, err, cause error) {
	p.Ended, p.Exit = time.Now(), -1
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		p.Exit = exit.ExitCode() // -1 of a signal
	}
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // what it left runs on
		p.State, p.Exit = taskSucceeded, 0
	case errors.Is(cause, errTaskTime):
		p.State, p.Err = taskTimedOut, errTaskTime.Error()
	case cause != nil:
		p.State, p.Err = taskInterrupted, "ended: "+cause.Error()
	default:
		p.State, p.Err = taskFailed, err.Error()
	}
	if p.Exit == 126 || p.Exit == 127 { // of the shell, or its own
		p.Err += ": the program is not there or cannot be executed"
	}
}

// startedByTask reports whether a process has the environment of a task's programs.
func startedByTask(pid, name string) bool {
	env, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	return err == nil && strings.Contains("\x00"+string(env), "\x00"+taskIDEnv+"="+name+"\x00")
}

// endLeftovers kills what programs of an interrupted task left behind, so that nothing
// works on the replica while it changes again.
func endLeftovers(name string) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range procs {
		pid := filepath.Base(dir)
		if !startedByTask(pid, name) {
			continue
		}
		fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // holds the number
		if err != nil {
			continue
		}
		if startedByTask(pid, name) {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ended meanwhile
		}
		unix.Close(fd)
	}
}
