package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/sametree"
	"understudy/internal/testfuse"
	"understudy/internal/testnode"
	"understudy/node"
)

// storyLimit ends the mounts of a story that hangs; patience is how long one state is
// waited for on a busy machine.
const (
	storyLimit = 10 * time.Minute
	patience   = 2 * time.Minute
)

func TestMain(m *testing.M) {
	testnode.Child(func(ctx context.Context, raw []byte, ready func(string)) error {
		var cfg node.Config
		if err := json.Unmarshal(raw, &cfg); err != nil {
			return err
		}
		n, err := node.Open(cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err != nil {
			return err
		}
		go func() {
			<-n.Ready()
			ready(n.Addr())
		}()
		return n.Run(ctx)
	})
	os.Exit(m.Run())
}

// machine is one daemon, over its restarts.
type machine struct {
	t   *testing.T
	cfg node.Config
	d   *testnode.Daemon
	ctl *control.Client
}

// pair is a source whose directory is captured in write order, and a target.
type pair struct {
	t              *testing.T
	base           string
	dir, replica   string
	source, target *machine
	con            int
}

// newPair starts both, connected, with task commands switched on.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := unconnected(t)
	p.con = p.connect("tree", p.dir, p.replica)
	p.settle()
	return p
}

func unconnected(t *testing.T) *pair {
	t.Helper()
	testfuse.Need(t)
	t.Parallel()
	base, err := os.MkdirTemp("", "understudy-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	p := &pair{t: t, base: base, dir: filepath.Join(base, "tree"), replica: filepath.Join(base, "replica")}
	must(t, os.Mkdir(p.dir, 0o755))
	testfuse.Watchdog(t, p.dir, storyLimit)
	p.source, p.target = p.machine("indy"), p.machine("jersey")
	testnode.Pair(t, testnode.Home{Name: "indy", Data: p.source.cfg.Data}, testnode.Home{Name: "jersey", Data: p.target.cfg.Data})
	p.target.start()
	p.source.start()
	p.source.ask("mount", control.DirRequest{Dir: p.dir}, nil)
	return p
}

func (p *pair) machine(name string) *machine {
	m := &machine{t: p.t, cfg: node.DefaultConfig()}
	m.cfg.Name, m.cfg.Data, m.cfg.Listen = name, filepath.Join(p.base, name), testnode.Loopback()+":0"
	m.cfg.NetworkRetry, m.cfg.TaskCommands, m.cfg.Hold = 100*time.Millisecond, true, false
	must(p.t, os.Mkdir(m.cfg.Data, 0o700))
	p.t.Cleanup(m.close)
	return m
}

func (m *machine) start() {
	m.t.Helper()
	m.close()
	m.d = testnode.Start(m.t, m.cfg.Name, m.cfg)
	m.cfg.Listen = m.d.Addr() // the same after a restart
}

func (m *machine) close() {
	if m.ctl != nil {
		m.ctl.Close()
		m.ctl = nil
	}
}

func (m *machine) kill() {
	m.t.Helper()
	m.close()
	m.d.Kill()
}

// try calls a verb.
func (m *machine) try(verb string, req, reply any) error {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if m.ctl == nil {
		var err error
		if m.ctl, err = control.DialLocal(ctx, m.cfg.Data); err != nil {
			return err
		}
	}
	return m.ctl.Call(ctx, verb, req, reply)
}

func (m *machine) ask(verb string, req, reply any) {
	m.t.Helper()
	if err := m.try(verb, req, reply); err != nil {
		m.t.Fatalf("%s: %s: %v", m.cfg.Name, verb, err)
	}
}

func (m *machine) status() (st control.Status) {
	m.t.Helper()
	m.ask("status", struct{}{}, &st)
	return st
}

// happened counts the events with a number.
func (m *machine) happened(id int) (n int) {
	m.t.Helper()
	var list control.Events
	m.ask("events", control.EventsRequest{}, &list)
	for _, e := range list.Events {
		if e.ID == id {
			n++
		}
	}
	return n
}

func (p *pair) connect(set, from, to string) int {
	p.t.Helper()
	var reply control.ConnectReply
	p.source.ask("connect", control.ConnectRequest{Set: set, Rules: []string{from + " inc, rec"}, Target: "jersey", Address: p.target.d.Addr(),
		Map: map[string]string{from: to}, Capture: "stacked"}, &reply)
	return reply.ID
}

func (p *pair) settle() {
	p.t.Helper()
	p.source.ask("settle", control.SettleRequest{ID: p.con, TimeoutMS: patience.Milliseconds()}, nil)
}

func (p *pair) pause(pause bool) {
	p.t.Helper()
	p.target.ask("target", control.PauseRequest{Pause: pause}, nil)
}

// queue submits a task and returns its name.
func (p *pair) queue(req control.TaskRequest) string {
	p.t.Helper()
	req.Target = "jersey"
	var reply control.TaskReply
	p.source.ask("task", req, &reply)
	return reply.Task
}

// script makes an executable file.
func (p *pair) script(name, text string) *control.TaskProgram {
	p.t.Helper()
	path := filepath.Join(p.base, name)
	must(p.t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return &control.TaskProgram{Path: path}
}

// point is what a machine knows of a program of a task; its State is "" if nothing.
func (m *machine) point(task, point string) control.TaskPoint {
	m.t.Helper()
	var list control.TaskList
	m.ask("tasks", control.TasksRequest{Output: true}, &list)
	for _, info := range list.Tasks {
		for _, p := range info.Points {
			if info.Task == task && p.Point == point {
				return p
			}
		}
	}
	return control.TaskPoint{}
}

// ends waits until a program is over and returns what is known of it.
func (m *machine) ends(task, point string) (p control.TaskPoint) {
	m.t.Helper()
	waitFor(m.t, fmt.Sprintf("the end of %s of task %s", point, task), func() bool {
		p = m.point(task, point)
		return p.State != "" && p.State != "running"
	})
	return p
}

func (p *pair) file(name string) string { return filepath.Join(p.base, name) }

// lines of a file; none if it is not there.
func (p *pair) lines(name string) []string {
	raw, err := os.ReadFile(p.file(name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(raw)), "\n")
}

func (p *pair) write(name, text string) {
	p.t.Helper()
	must(p.t, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644))
}

func (p *pair) copy(from, to string) {
	p.t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		p.t.Fatalf("cp: %v: %s", err, out)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	diffs, err := sametree.Diff(a, b, sametree.Options{})
	must(t, err)
	if len(diffs) > 0 {
		t.Fatalf("%s and %s differ: %s", a, b, strings.Join(diffs[:min(len(diffs), 20)], "\n"))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}
