package restore

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/exercise"
	"understudy/internal/sametree"
	"understudy/internal/testnode"
	"understudy/node"
	"understudy/repset"
)

const patience = 2 * time.Minute // for one state, on a busy machine

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

// rounds is how often something is tried: in the normal run, and in the long one.
func rounds(short, long int) int {
	if os.Getenv("UNDERSTUDY_LONG") != "" {
		return long
	}
	return short
}

// machine is one daemon, over its restarts.
type machine struct {
	t   *testing.T
	cfg node.Config
	d   *testnode.Daemon
	ctl *control.Client
}

// pair is a source that is captured by hints, and a target.
type pair struct {
	t              *testing.T
	base           string
	dir, replica   string
	source, target *machine
	con            int
}

func newPair(t *testing.T) *pair {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: files of other owners")
	}
	t.Parallel()
	base := testnode.Memory(t)
	p := &pair{t: t, base: base, dir: filepath.Join(base, "tree"), replica: filepath.Join(base, "replica")}
	must(t, os.Mkdir(p.dir, 0o755))
	p.source, p.target = p.machine("indy"), p.machine("jersey")
	testnode.Pair(t, testnode.Home{Name: "indy", Data: p.source.cfg.Data}, testnode.Home{Name: "jersey", Data: p.target.cfg.Data})
	p.target.start()
	p.source.start()
	return p
}

func (p *pair) machine(name string) *machine {
	m := &machine{t: p.t, cfg: node.DefaultConfig()}
	m.cfg.Name, m.cfg.Data, m.cfg.Listen = name, filepath.Join(p.base, name), testnode.Loopback()+":0"
	m.cfg.NetworkRetry, m.cfg.TargetRetry, m.cfg.Hold = 100*time.Millisecond, 100*time.Millisecond, false
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

// again kills the daemon and starts it.
func (m *machine) again() {
	m.t.Helper()
	m.close()
	m.d.Kill()
	m.start()
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

func (p *pair) connect(req control.ConnectRequest) {
	p.t.Helper()
	var reply control.ConnectReply
	req.Set, req.Target, req.Address, req.Capture = "tree", "jersey", p.target.d.Addr(), "inotify"
	if req.Map == nil {
		req.Map = map[string]string{p.dir: p.replica}
	}
	p.source.ask("connect", req, &reply)
	p.con = reply.ID
}

// settle waits until the source's one connection is settled.
func (p *pair) settle() {
	p.t.Helper()
	var st control.Status
	p.source.ask("status", struct{}{}, &st)
	for _, c := range st.Connections {
		if c.Set == "tree" {
			p.con = c.ID
		}
	}
	p.source.ask("settle", control.SettleRequest{ID: p.con, TimeoutMS: patience.Milliseconds()}, nil)
}

// replicated has a set saved, a whole replica, the target's copy of the set, and no
// connection any more.
func (p *pair) replicated() {
	p.t.Helper()
	p.source.ask("repset.save", repset.Set{Name: "tree", Rules: rules(p.t, p.dir+" inc, rec")}, nil)
	p.connect(control.ConnectRequest{})
	p.settle()
	p.waitFor("the copy of the set", func() bool {
		var list control.BackupList
		p.target.ask("repset.backups", control.NameRequest{Name: "indy"}, &list)
		return len(list.Backups) == 1
	})
	p.source.ask("disconnect", control.IDRequest{ID: p.con}, nil)
}

// restore begins a restoration.
func (p *pair) restore(req control.RestoreRequest) int {
	p.t.Helper()
	var rep control.Restore
	req.Action, req.Set, req.Address = "start", "tree", p.source.d.Addr()
	p.target.ask("restore", req, &rep)
	return rep.ID
}

// over waits for the end of a restoration. One that ended before its machine was killed is
// not remembered.
func (p *pair) over(id int) (rep control.Restore) {
	p.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		err := p.target.try("restore", control.RestoreRequest{Action: "status", ID: id, WaitMS: 10_000}, &rep)
		if err != nil && strings.Contains(err.Error(), "no restoration") {
			return control.Restore{State: "done"}
		}
		must(p.t, err)
		if rep.State != "restoring" {
			return rep
		}
	}
	var a, b control.Status
	p.target.ask("status", struct{}{}, &a)
	p.source.ask("status", struct{}{}, &b)
	p.t.Fatalf("the restoration does not end: %+v\nfrom: %+v\nto: %+v", rep, a.Connections, b.Replicas)
	return rep
}

func (p *pair) waitFor(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("no %s within %v", what, patience)
		}
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
