package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/applier"
	"understudy/control"
	"understudy/fileop"
	"understudy/internal/sametree"
	"understudy/internal/testfuse"
	"understudy/stream"
)

// long reports whether the long forms of tests are wanted (task long).
func long() bool { return os.Getenv("UNDERSTUDY_LONG") != "" }

// scaled is the count of a test's rounds: short in the test run, long as a task.
func scaled(short, longer int) int {
	if long() {
		return longer
	}
	return short
}

// pair is two nodes in this process, a directory and its replica.
type pair struct {
	t       testing.TB
	base    string
	dir     string // protected
	replica string
	source  *Node
	target  *Node
	id      int
	stops   []func()
	nodes   []*Node // all that were started
	stacked bool

	rounds, failures int // of sequences
}

// newPair starts both nodes with empty state. Stacked capture where root allows it and
// wanted; then a watchdog guards the mount.
func newPair(t testing.TB, stacked bool) *pair {
	t.Helper()
	base, err := os.MkdirTemp("", "understudy-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, base: base, dir: filepath.Join(base, "tree"), replica: filepath.Join(base, "replica"), stacked: stacked}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.target = p.start("jersey")
	p.source = p.start("indy")
	t.Cleanup(p.stop)
	return p
}

// start opens and runs a node whose data lies below the pair's base.
func (p *pair) start(name string) *Node { return p.startAt(name, "127.0.0.1:0") }

func (p *pair) startAt(name, listen string) *Node {
	return p.startWith(name, func(c *Config) { c.Listen = listen })
}

// startWith opens and runs a node with settings that set changes.
func (p *pair) startWith(name string, set func(*Config)) *Node {
	p.t.Helper()
	cfg := DefaultConfig()
	cfg.Name, cfg.Data, cfg.Listen = name, filepath.Join(p.base, name), "127.0.0.1:0"
	cfg.NetworkRetry = 100 * time.Millisecond
	set(&cfg)
	n := p.open(cfg)
	p.introduce(n)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-done:
		p.t.Fatalf("%s does not start: %v", name, err)
	}
	p.stops = append(p.stops, sync.OnceFunc(func() { // again at the end of a test that failed in between
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("%s stopped: %v", name, err)
		}
	}))
	return n
}

// open opens a node. A program that this process is about to start holds the lock of one
// that ended until it runs: that is waited for.
func (p *pair) open(cfg Config) *Node {
	p.t.Helper()
	var n *Node
	var err error
	waitFor(p.t, "the directory of "+cfg.Name, func() bool {
		n, err = Open(cfg, testLog(p.t).With("node", cfg.Name))
		return !errors.Is(err, stream.ErrInUse)
	})
	must(p.t, err)
	return n
}

// introduce pairs a node with all that were started before, unless it is a stranger.
func (p *pair) introduce(n *Node) {
	p.t.Helper()
	if n.Name() == "stranger" {
		return
	}
	for _, other := range p.nodes {
		if other.Name() == n.Name() { // an earlier run of it
			continue
		}
		if err := PairUp(n, other); err != nil {
			p.t.Fatal(err)
		}
	}
	p.nodes = append(p.nodes, n)
}

func (p *pair) stop() {
	for i := len(p.stops) - 1; i >= 0; i-- { // the source first
		p.stops[i]()
	}
	p.stops = nil
}

// mount captures the pair's directory in write order.
func (p *pair) mount() {
	p.t.Helper()
	limit := 15 * time.Minute
	if long() {
		limit = 6 * time.Hour
	}
	testfuse.Watchdog(p.t, p.dir, limit)
	p.t.Cleanup(p.stop) // before the watchdog's own end of the mount
	if _, err := p.source.Mount(context.Background(), p.dir); err != nil {
		p.t.Fatal(err)
	}
}

// connect joins the directory to the replica; rules default to everything.
func (p *pair) connect(rules ...string) {
	p.t.Helper()
	if len(rules) == 0 {
		rules = []string{p.dir + " inc, rec"}
	}
	req := control.ConnectRequest{Set: "tree", Rules: rules, Target: "jersey", Address: p.target.Addr(),
		Map: map[string]string{p.dir: p.replica}, Capture: "inotify"}
	if p.stacked {
		req.Capture = "stacked"
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if p.id, err = p.source.Connect(ctx, req); err != nil {
		p.t.Fatal(err)
	}
}

// protected is a pair that is mounted and connected.
func protected(t testing.TB) *pair {
	t.Helper()
	p := newPair(t, true)
	p.mount()
	p.connect()
	return p
}

func (p *pair) settle() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := p.source.Settle(ctx, p.id); err != nil {
		p.t.Fatalf("settle: %v\n%s", err, p.where())
	}
}

// same fails the test unless source and replica are equal in everything.
func (p *pair) same() {
	p.t.Helper()
	same(p.t, p.dir, p.replica)
	if p.t.Failed() {
		p.t.Fatal(p.where())
	}
}

// compareEnv makes the test program compare two trees and end: a process does not look
// into a mount that it serves itself.
const compareEnv = "UNDERSTUDY_COMPARE"

func compareChild() {
	a, b, ok := strings.Cut(os.Getenv(compareEnv), "\x1f")
	if !ok {
		return
	}
	diffs, err := sametree.Diff(a, b, sametree.Options{})
	if err != nil {
		fmt.Println("comparing:", err)
	}
	for _, d := range first(diffs, 30) {
		fmt.Println(d)
	}
	os.Exit(0)
}

// same compares two trees in a process of its own.
func same(t testing.TB, a, b string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), compareEnv+"="+a+"\x1f"+b)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%s and %s differ: %v\n%s", a, b, err, out)
	}
}

func first(list []string, n int) []string { return list[:min(n, len(list))] }

// where tells the state of both halves.
func (p *pair) where() string {
	return fmt.Sprintf("source: %+v\ntarget: %+v", p.source.Status().Connections, p.target.Status().Replicas)
}

// applier is the target's half of the connection.
func (p *pair) applier() *applier.Applier {
	p.t.Helper()
	p.target.mu.Lock()
	defer p.target.mu.Unlock()
	for _, r := range p.target.replicas {
		return r.app
	}
	p.t.Fatal("the target has no replica")
	return nil
}

// captured is the number of the last captured operation.
func (p *pair) captured() fileop.Seq {
	p.t.Helper()
	s, err := p.source.live(p.id)
	if err != nil {
		p.t.Fatal(err)
	}
	seq, _ := s.journal.Last()
	return seq
}

// freeze stops the applier after an operation that is still to come, at most ahead
// operations from now, and returns its number. Writers must be at work.
func (p *pair) freeze(rng *rand.Rand, ahead int) fileop.Seq {
	p.t.Helper()
	at := p.captured() + 1 + fileop.Seq(rng.IntN(ahead))
	a := p.applier()
	a.StopAfter(at)
	p.rest(a)
	if got := a.Position().Applied; got < at {
		p.t.Fatalf("frozen after %d, want %d", got, at)
	}
	return a.Position().Applied
}

// rest waits until the applier has stopped where it was told to.
func (p *pair) rest(a *applier.Applier) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := a.WaitStopped(ctx); err != nil {
		p.t.Fatalf("the applier does not stop: %v\n%s", err, p.where())
	}
}

func (p *pair) thaw() { p.applier().Resume() }

// waitFor waits for a state, not for a time.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// testLog prints a node's warnings with the test.
func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("UNDERSTUDY_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

func needRoot(t testing.TB) {
	t.Helper()
	if err := stackedPossible(); err != nil {
		t.Skipf("stacked capture: %v", err)
	}
}

// restartTarget stops the target cleanly and starts it on the same address.
func (p *pair) restartTarget() {
	p.t.Helper()
	addr := p.target.Addr()
	p.stops[0]()
	p.target = p.startAt("jersey", addr)
	p.stops[0], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
}

// restartSource stops the source cleanly, calls between, and starts it again.
func (p *pair) restartSource(between func()) {
	p.t.Helper()
	p.stops[1]()
	between()
	p.source = p.startAt("indy", "127.0.0.1:0")
	p.stops[1], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
	waitFor(p.t, "the connection", func() bool { return len(p.source.Status().Connections) == 1 })
	p.id = p.source.Status().Connections[0].ID
}
