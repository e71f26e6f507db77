package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/access"
)

// Replaced, returned by Run, says that Program is to take this process's place: the
// node has left what is held to it. Applications wait until it serves.
type Replaced struct{ Program string }

func (r *Replaced) Error() string { return "another program goes on: " + r.Program }

// answerTime is how long the answer to the request has to leave before the node stops.
const answerTime = 100 * time.Millisecond

// shutdown stops the node as SIGTERM does.
func (n *Node) shutdown(ctx context.Context, _ nothing) (any, error) {
	n.log.Info("daemon is told to stop", "by", access.CallerOf(ctx).String())
	time.AfterFunc(answerTime, func() { n.shutOnce.Do(func() { close(n.shutDown) }) })
	return nothing{}, nil
}

// replace stops the node in favour of a program, "" for the file this one was started
// from.
func (n *Node) replace(program string) error {
	if n.holder == nil {
		return control.Errorf(control.Refused, "set hold: true, or stop and start the daemon",
			"upgrade: nothing outlives this daemon, applications would be interrupted")
	}
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		program = self
	}
	st, err := os.Stat(program)
	if err == nil && (!filepath.IsAbs(program) || !st.Mode().IsRegular() || unix.Access(program, unix.X_OK) != nil) {
		err = fmt.Errorf("%s is not the absolute path of a program", program)
	}
	if err != nil {
		return control.Errorf(control.BadRequest, "give the new program by its absolute path", "upgrade: %v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leaving.Swap(true) {
		return control.Errorf(control.Refused, "", "upgrade: this daemon is leaving already")
	}
	n.successor = program
	n.log.Info("another program is going to go on", "path", program)
	time.AfterFunc(answerTime, func() { close(n.replaced) })
	return nil
}
