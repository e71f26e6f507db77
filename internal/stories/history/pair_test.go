package history

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
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
	settling   = 90 * time.Second
)

func TestMain(m *testing.M) {
	exercise.Child()
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

// newPair starts both, connected, with history on.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := unconnected(t)
	p.con = p.connect("tree", p.dir, p.replica)
	p.settle()
	p.keeps()
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
	m.cfg.NetworkRetry, m.cfg.History, m.cfg.Hold = 100*time.Millisecond, "72h", false
	m.cfg.QueueFree = 64 << 20
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

func (p *pair) connect(set, from, to string) int {
	p.t.Helper()
	var reply control.ConnectReply
	p.source.ask("connect", control.ConnectRequest{Set: set, Rules: []string{from + " inc, rec"}, Target: "jersey", Address: p.target.d.Addr(),
		Map: map[string]string{from: to}, Capture: "stacked"}, &reply)
	return reply.ID
}

func (p *pair) settle() {
	p.t.Helper()
	if err := p.source.try("settle", control.SettleRequest{ID: p.con, TimeoutMS: settling.Milliseconds()}, nil); err != nil {
		p.target.d.Stacks()
		p.t.Fatalf("settle: %v", err)
	}
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

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// history is what the target keeps of the pair.
func (p *pair) history() (h control.History) {
	p.t.Helper()
	var list control.HistoryList
	p.target.ask("history", control.HistoryRequest{}, &list)
	if len(list.Histories) > 0 {
		h = list.Histories[0]
	}
	return h
}

// keeps waits until the target keeps what it applies.
func (p *pair) keeps() {
	p.t.Helper()
	waitFor(p.t, "history that is kept", func() bool { return p.history().Active })
}

// mark puts a label behind what was done so far.
func (p *pair) mark(label string) (m control.Mark) {
	p.t.Helper()
	p.source.ask("mark", control.MarkRequest{ID: p.con, Label: label}, &m)
	return m
}

// replay rebuilds a moment and returns the directory.
func (p *pair) replay(req control.ReplayRequest) (string, control.Replay) {
	p.t.Helper()
	dir, err := os.MkdirTemp(p.base, "rebuilt-")
	must(p.t, err)
	req.To = dir
	rep := p.replayed(req)
	if rep.State != "done" {
		p.t.Fatalf("replay %+v: %s: %s", req, rep.State, rep.Error)
	}
	return dir, rep
}

func (p *pair) replayed(req control.ReplayRequest) (rep control.Replay) {
	p.t.Helper()
	req.Action = "start"
	p.target.ask("replay", req, &rep)
	for end := time.Now().Add(patience); rep.State == "copying" || rep.State == "applying"; {
		if time.Now().After(end) {
			p.target.d.Stacks()
			p.t.Fatalf("replay does not end: %+v\n%s", rep, p.target.d.Log())
		}
		p.target.ask("replay", control.ReplayRequest{Action: "status", ID: rep.ID, WaitMS: 1000}, &rep)
	}
	return rep
}

// snapshot copies the source's tree.
func (p *pair) snapshot(name string) string {
	p.t.Helper()
	to := filepath.Join(p.base, "was-"+name)
	p.copy(p.dir, to)
	return to
}

func osMkdir(path string) error      { return os.Mkdir(path, 0o755) }
func osRename(from, to string) error { return os.Rename(from, to) }

func (p *pair) write(name, text string) {
	p.t.Helper()
	must(p.t, os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644))
}

// restart stops and starts a daemon in good order.
func (m *machine) restart() {
	m.t.Helper()
	m.close()
	m.d.Stop()
	m.start()
}
