package tasks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/node"
)

const patience = stories.Patience

func TestMain(m *testing.M) { stories.Main(m, nil) }

var must, same, waitFor = stories.Must, stories.Same, stories.WaitFor

// machine is one daemon of a pair.
type machine = stories.Machine

// pair runs programs of task commands on both machines.
type pair struct{ *stories.Pair }

// newPair is one that is connected.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := unconnected(t)
	p.Connect(control.ConnectRequest{Rules: p.All()})
	p.Settle()
	return p
}

func unconnected(t *testing.T) *pair {
	t.Helper()
	t.Parallel()
	return &pair{stories.StackedPair(t, func(cfg *node.Config) { cfg.TaskCommands, cfg.Hold = true, false })}
}

func (p *pair) pause(pause bool) {
	p.T.Helper()
	p.Target.Ask("target", control.PauseRequest{Pause: pause}, nil)
}

// queue submits a task and returns its name.
func (p *pair) queue(req control.TaskRequest) string {
	p.T.Helper()
	req.Target = "jersey"
	var reply control.TaskReply
	p.Source.Ask("task", req, &reply)
	return reply.Task
}

// script makes an executable file.
func (p *pair) script(name, text string) *control.TaskProgram {
	p.T.Helper()
	path := filepath.Join(p.Base, name)
	must(p.T, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return &control.TaskProgram{Path: path}
}

// pointOf is what a machine knows of a program of a task; its State is "" if nothing.
func pointOf(m *machine, task, point string) control.TaskPoint {
	m.T.Helper()
	var list control.TaskList
	m.Ask("tasks", control.TasksRequest{Output: true}, &list)
	for _, info := range list.Tasks {
		for _, p := range info.Points {
			if info.Task == task && p.Point == point {
				return p
			}
		}
	}
	return control.TaskPoint{}
}

// endOf waits until a program is over and returns what is known of it.
func endOf(m *machine, task, point string) (p control.TaskPoint) {
	m.T.Helper()
	waitFor(m.T, fmt.Sprintf("the end of %s of task %s", point, task), func() bool {
		p = pointOf(m, task, point)
		return p.State != "" && p.State != "running"
	})
	return p
}

func (p *pair) file(name string) string { return filepath.Join(p.Base, name) }

// lines of a file; none if it is not there.
func (p *pair) lines(name string) []string {
	raw, err := os.ReadFile(p.file(name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
