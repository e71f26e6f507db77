package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	scriptLimit  = 10 * time.Minute
	maxOutput    = 16 << 10 // bytes of a script's output that are kept
	scriptOutput = 2 << 10  // that are shown
)

// limited keeps the end of what is written to it.
type limited struct{ b bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	l.b.Write(b)
	if over := l.b.Len() - maxOutput; over > 0 {
		l.b.Next(over)
	}
	return len(b), nil
}

// RunScript runs a script to its end, or to its limit, then with everything it started.
// The output is its end, on one line.
func RunScript(ctx context.Context, s Script, env []string) (output string, err error) {
	limit := time.Duration(s.LimitMS) * time.Millisecond
	if limit <= 0 {
		limit = scriptLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it ran longer than %v and was ended", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, s.Path, s.Args...)
	cmd.Env, cmd.Dir = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}, env...), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // of pipes that grandchildren keep
	out := new(limited)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well; what it left runs on
		err = nil
	}
	output = strings.Join(strings.Fields(out.b.String()), " ")
	if over := len(output) - scriptOutput; over > 0 {
		output = output[over:]
	}
	if err != nil {
		return output, fmt.Errorf("script %s: %w", s.Path, err)
	}
	return output, nil
}
