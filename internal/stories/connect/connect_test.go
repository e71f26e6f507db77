// Package connect tells what becomes of the flags of CONNECT when the source is started
// again.
package connect

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/control"
	"understudy/node"
)

const patience = 2 * time.Minute

// machine is a node of this process that can be started again.
type machine struct {
	t      *testing.T
	cfg    node.Config
	n      *node.Node
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, name string) *machine {
	m := &machine{t: t, cfg: node.DefaultConfig()}
	m.cfg.Name, m.cfg.Data, m.cfg.Listen = name, filepath.Join(t.TempDir(), name), "127.0.0.1:0"
	m.run()
	t.Cleanup(m.stop)
	return m
}

func (m *machine) run() {
	m.t.Helper()
	n, err := node.Open(m.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		m.t.Fatal(err)
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	m.n, m.done = n, make(chan error, 1)
	go func() { m.done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-m.done:
		m.t.Fatal(err)
	case <-time.After(patience):
		m.t.Fatal(m.cfg.Name, "does not start")
	}
}

func (m *machine) stop() {
	m.cancel()
	if err := <-m.done; err != nil {
		m.t.Error(m.cfg.Name, "stopped:", err)
	}
}

func (m *machine) again() {
	m.t.Helper()
	m.stop()
	m.run()
}

func (m *machine) con() control.Connection {
	m.t.Helper()
	st := m.n.Status()
	if len(st.Connections) != 1 {
		m.t.Fatalf("%d connections", len(st.Connections))
	}
	return st.Connections[0]
}

// until waits for a state of the one connection.
func (m *machine) until(what string, ok func(control.Connection) bool) control.Connection {
	m.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		c := m.con()
		if ok(c) {
			return c
		}
		if time.Now().After(end) {
			m.t.Fatalf("%s: %+v", what, c)
		}
	}
}

func pair(t *testing.T) (indy, jersey *machine, tree, copied string) {
	jersey = start(t, "jersey")
	indy = start(t, "indy") // stopped first: it says goodbye
	if err := node.PairUp(indy.n, jersey.n); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tree, copied = filepath.Join(dir, "tree"), filepath.Join(dir, "copied")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, tree, "one")
	return indy, jersey, tree, copied
}

func write(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
		t.Fatal(err)
	}
}

func there(t *testing.T, dir, name string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

func connect(t *testing.T, indy, jersey *machine, tree, copied string, flags control.ConnectRequest) int {
	t.Helper()
	flags.Set, flags.Rules, flags.Target = "tree", []string{`"` + tree + `" inc, rec`}, "jersey"
	flags.Address, flags.Map = jersey.n.Addr(), map[string]string{tree: copied}
	id, err := indy.n.Connect(t.Context(), flags)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func settle(t *testing.T, m *machine, id int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := m.n.Settle(ctx, id); err != nil {
		t.Fatal(err)
	}
}

// TestNoMirrorOutlivesRestart: nothing is sent until a mirror is started, whoever is
// started again meanwhile.
func TestNoMirrorOutlivesRestart(t *testing.T) {
	t.Parallel()
	indy, jersey, tree, copied := pair(t)
	connect(t, indy, jersey, tree, copied, control.ConnectRequest{Mirror: "none"})
	indy.again()
	c := indy.until("not pending", func(c control.Connection) bool { return c.Replication == "Pending" })
	var ce *control.Error
	if err := indy.n.Settle(t.Context(), c.ID); !errors.As(err, &ce) || ce.Code != control.Refused || !strings.HasPrefix(ce.Hint, "mirror start ") {
		t.Fatalf("settle of a pending connection: %v", err)
	}
	if there(t, copied, "one") {
		t.Fatal("mirrored, though nobody started a mirror")
	}
	if err := indy.n.Mirror(t.Context(), control.MirrorRequest{ID: c.ID, Action: "start"}); err != nil {
		t.Fatal(err)
	}
	settle(t, indy, c.ID)
	indy.again()
	settle(t, indy, indy.con().ID) // no longer pending
	if !there(t, copied, "one") {
		t.Fatal("not mirrored")
	}
}

// TestMirrorOnlyOutlivesRestart: replication stops where the mirror ended, and stays
// stopped until it is started by hand. Orphans are gone by then.
func TestMirrorOnlyOutlivesRestart(t *testing.T) {
	t.Parallel()
	indy, jersey, tree, copied := pair(t)
	if err := os.Mkdir(copied, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, copied, "orphan")
	id := connect(t, indy, jersey, tree, copied, control.ConnectRequest{Mirror: "diff", Adopt: true, NoReplication: true, Orphans: true})
	settle(t, indy, id)
	if !there(t, copied, "one") || there(t, copied, "orphan") {
		t.Fatal("not mirrored, or an orphan is left")
	}
	indy.again()
	c := indy.until("replicates", func(c control.Connection) bool { return c.Replication == "Stopped" && c.Mirror == "Idle" })
	write(t, tree, "two")
	if err := indy.n.Mirror(t.Context(), control.MirrorRequest{ID: c.ID, Action: "start", Mode: "diff"}); err != nil {
		t.Fatal(err)
	}
	indy.until("goes on replicating", func(c control.Connection) bool {
		return c.Replication == "Stopped" && c.Mirror == "Idle" && c.Mirrors > 0
	})
	if !there(t, copied, "two") {
		t.Fatal("the second mirror did not come")
	}
}
