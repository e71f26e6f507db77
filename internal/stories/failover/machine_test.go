package failover

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/bootid"
	"understudy/internal/failpoint"
	"understudy/internal/testnode"
	"understudy/node"
)

// A daemon of this test program is a child that runs one node.
func TestMain(m *testing.M) {
	testnode.Child(run)
	os.Exit(m.Run())
}

// settings of a daemon.
type settings struct {
	Node node.Config
	Arm  string // failpoints
	Boot string // file that stands for the kernel's name of this boot; "": the kernel's
}

func run(ctx context.Context, raw []byte, ready func(string)) error {
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if err := failpoint.Arm(s.Arm); err != nil {
		return err
	}
	if s.Boot != "" {
		bootid.Path = s.Boot
	}
	if failpoint.Armed() { // it may end before it is ready
		ready(s.Node.Listen)
		ready = func(string) {}
	}
	n, err := node.Open(s.Node, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	go func() {
		<-n.Ready()
		ready(n.Addr())
	}()
	return n.Run(ctx)
}

// machine is a daemon with its data directory and address, over restarts.
type machine struct {
	t   testing.TB
	cfg node.Config
	d   *testnode.Daemon
	ctl *control.Client
	ns  *testnode.Namespace

	plant string // armed at every start
	boot  string // file with the name of its boot
}

func newMachine(t testing.TB, base, name string, ns *testnode.Namespace) *machine {
	cfg := node.DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, filepath.Join(base, name), "0.0.0.0:6320"
	cfg.NetworkRetry = 100 * time.Millisecond
	m := &machine{t: t, cfg: cfg, ns: ns, boot: filepath.Join(base, name+".boot")}
	m.reboot()
	return m
}

// reboot gives the machine's boot another name: its daemon, started next, takes it that
// the machine restarted.
func (m *machine) reboot() {
	must(m.t, os.WriteFile(m.boot, []byte(time.Now().Format(time.RFC3339Nano)), 0o600))
}

func (m *machine) start() { m.t.Helper(); m.startArmed("") }

// startArmed starts the daemon so that it ends with SIGKILL at a point; it counts as ready
// at once then.
func (m *machine) startArmed(what string) {
	m.t.Helper()
	m.closeControl()
	if m.plant != "" {
		what = m.plant + "," + what
	}
	m.d = testnode.StartIn(m.t, m.ns, m.cfg.Name, settings{Node: m.cfg, Arm: what, Boot: m.boot})
	if what != "" {
		waitFor(m.t, m.cfg.Name+" to answer", func() bool { return m.ask("status", struct{}{}, nil) == nil })
	}
}

func (m *machine) closeControl() {
	if m.ctl != nil {
		m.ctl.Close()
		m.ctl = nil
	}
}

func (m *machine) kill() { m.t.Helper(); m.closeControl(); m.d.Kill() }

// ask calls a verb of the daemon, over the loopback device of its namespace.
func (m *machine) ask(verb string, req, reply any) error {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if m.ctl == nil {
		err := m.ns.Do(func() error {
			local, err := control.ReadLocal(m.cfg.Data)
			if err == nil {
				m.ctl, err = control.Dial(ctx, "127.0.0.1:6320", m.cfg.Name, local.Login())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return m.ctl.Call(ctx, verb, req, reply)
}

func (m *machine) mustAsk(verb string, req, reply any) {
	m.t.Helper()
	if err := m.ask(verb, req, reply); err != nil {
		m.t.Fatalf("%s: %s: %v\n%s", m.cfg.Name, verb, err, m.d.Log())
	}
}

func (m *machine) status() (st control.Status) {
	m.t.Helper()
	m.mustAsk("status", struct{}{}, &st)
	return st
}

// waitFor waits for a state, two minutes at most: the machine may be busy.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited two minutes for %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// long reports whether the long forms are wanted; scaled chooses between both.
func long() bool { return os.Getenv("UNDERSTUDY_LONG") != "" }

func scaled(short, whole int) int {
	if long() {
		return whole
	}
	return short
}
