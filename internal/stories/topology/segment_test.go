package topology

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
	"understudy/internal/testfuse"
	"understudy/internal/testnode"
	"understudy/node"
)

// storyLimit ends the mounts of a story that hangs; patience is how long one state is
// waited for. Eight times what a busy machine was seen to need.
const (
	storyLimit = 10 * time.Minute
	patience   = 2 * time.Minute
)

// settings make a child of this program one machine: a daemon, or somebody who was a peer
// once and now does harm, or one server of a messaging cluster.
type settings struct {
	Node    *node.Config
	Hostile *hostile
	Server  *clusterServer
}

func TestMain(m *testing.M) {
	exercise.Child()
	testnode.Child(run)
	os.Exit(m.Run())
}

func run(ctx context.Context, raw []byte, ready func(string)) error {
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	switch {
	case s.Hostile != nil:
		return s.Hostile.run(ctx, ready)
	case s.Server != nil:
		return s.Server.run(ctx, ready)
	}
	n, err := node.Open(*s.Node, log)
	if err != nil {
		return err
	}
	go func() {
		<-n.Ready()
		ready(n.Addr())
	}()
	return n.Run(ctx)
}

// segment is a switch and the machines on it.
type segment struct {
	t      *testing.T
	base   string
	bridge *testnode.Bridge
	hosts  []*host
}

// host is one machine, over restarts of its daemon.
type host struct {
	t    *testing.T
	name string
	dir  string // for trees and replicas
	addr string // where peers find it
	ns   *testnode.Namespace
	cfg  node.Config
	d    *testnode.Daemon
	ctl  *control.Client
}

// newSegment makes machines that know each other. They do not run yet.
func newSegment(t *testing.T, names ...string) *segment {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and mounts")
	}
	t.Parallel()
	base, err := os.MkdirTemp("", "understudy-test-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	must(t, os.Chmod(base, 0o755))
	s := &segment{t: t, base: base, bridge: testnode.NewBridge(t, len(names))}
	var homes []testnode.Home
	for i, name := range names {
		h := &host{t: t, name: name, dir: filepath.Join(base, name), ns: s.bridge.Hosts[i], addr: s.bridge.Addr(i) + ":" + node.DefaultPort}
		h.cfg = node.DefaultConfig()
		h.cfg.Name, h.cfg.Data, h.cfg.Listen = name, filepath.Join(h.dir, "daemon"), "0.0.0.0:"+node.DefaultPort
		h.cfg.NetworkRetry = 100 * time.Millisecond
		must(t, os.MkdirAll(h.cfg.Data, 0o700))
		s.hosts, homes = append(s.hosts, h), append(homes, testnode.Home{Name: name, Data: h.cfg.Data})
		t.Cleanup(h.closeControl)
	}
	testnode.Pair(t, homes...)
	return s
}

// start runs the daemons of the hosts, all if none is named.
func (s *segment) start(hosts ...*host) {
	s.t.Helper()
	if len(hosts) == 0 {
		hosts = s.hosts
	}
	for _, h := range hosts {
		h.start()
	}
}

func (h *host) start() {
	h.t.Helper()
	h.closeControl()
	h.d = testnode.StartIn(h.t, h.ns, h.name, settings{Node: &h.cfg})
}

func (h *host) closeControl() {
	if h.ctl != nil {
		h.ctl.Close()
		h.ctl = nil
	}
}

// restart stops the daemon in good order and starts it again.
func (h *host) restart() {
	h.t.Helper()
	h.closeControl()
	h.d.Stop()
	h.start()
}

// kill ends the daemon with SIGKILL.
func (h *host) kill() {
	h.t.Helper()
	h.closeControl()
	h.d.Kill()
}

// path is a place on the machine.
func (h *host) path(parts ...string) string {
	return filepath.Join(append([]string{h.dir}, parts...)...)
}

// tree makes a directory on the machine, to be protected, and guards mounts there.
func (h *host) tree(name string) string {
	h.t.Helper()
	dir := h.path(name)
	must(h.t, os.MkdirAll(dir, 0o755))
	testfuse.Watchdog(h.t, dir, storyLimit)
	h.t.Cleanup(h.end) // before the watchdog takes the mount away: the daemon would make it again
	return dir
}

// end kills a daemon that still runs.
func (h *host) end() {
	if h.d != nil {
		h.d.Kill()
	}
}

// ask calls a verb of the daemon over the loopback device of its namespace.
func (h *host) ask(verb string, req, reply any) error {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if h.ctl == nil {
		err := h.ns.Do(func() (err error) {
			local, err := control.ReadLocal(h.cfg.Data)
			if err == nil {
				h.ctl, err = control.Dial(ctx, "127.0.0.1:"+node.DefaultPort, h.name, local.Login())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return h.ctl.Call(ctx, verb, req, reply)
}

func (h *host) mustAsk(verb string, req, reply any) {
	h.t.Helper()
	if err := h.ask(verb, req, reply); err != nil {
		h.t.Fatalf("%s: %s: %v", h.name, verb, err)
	}
}

func (h *host) status() (st control.Status) {
	h.t.Helper()
	h.mustAsk("status", struct{}{}, &st)
	return st
}

func (h *host) mount(dir string) {
	h.t.Helper()
	h.mustAsk("mount", control.DirRequest{Dir: dir}, nil)
}

// request is what a connection of dir to the place on target asks for.
func (h *host) request(set, dir string, target *host, place string) control.ConnectRequest {
	return control.ConnectRequest{Set: set, Rules: []string{dir + " inc, rec"}, Target: target.name, Address: target.addr,
		Map: map[string]string{dir: place}}
}

// joined is a connection and the trees at its ends.
type joined struct {
	source, target *host
	id             int
	dir, place     string
}

// connect joins a directory to a place on a target.
func (h *host) connect(set, dir string, target *host, place string) *joined {
	h.t.Helper()
	var reply control.ConnectReply
	h.mustAsk("connect", h.request(set, dir, target, place), &reply)
	return &joined{source: h, target: target, id: reply.ID, dir: dir, place: place}
}

// view is the source's view of the connection, whose number a restart may change.
func (j *joined) view() (c control.Connection) {
	j.source.t.Helper()
	waitFor(j.source.t, "the connection to "+j.target.name, func() bool {
		for _, c = range j.source.status().Connections {
			if c.ID == j.id || c.Target == j.target.name {
				return true
			}
		}
		return false
	})
	j.id = c.ID
	return c
}

// settled waits until both ends are equal.
func (j *joined) settled(when string) {
	t := j.source.t
	t.Helper()
	j.view()
	if err := j.source.ask("settle", control.SettleRequest{ID: j.id, TimeoutMS: patience.Milliseconds()}, nil); err != nil {
		t.Fatalf("%s: %s to %s does not settle: %v\nsource: %+v\ntarget: %+v", when, j.source.name, j.target.name, err,
			j.source.status().Connections, j.target.status().Replicas)
	}
	equal(t, when, j.dir, j.place)
}

// equal fails unless two trees are. This process serves no mount, so it may look into all.
func equal(t *testing.T, when, a, b string) {
	t.Helper()
	diffs, err := sametree.Diff(a, b, sametree.Options{})
	if err != nil || len(diffs) > 0 {
		t.Fatalf("%s: %s and %s differ in %d places: %v\n%s", when, a, b, len(diffs), err, strings.Join(diffs[:min(len(diffs), 20)], "\n"))
	}
}

// usable waits for the end of the first mirror of all replicas on a host.
func (h *host) usable(n int) {
	h.t.Helper()
	waitFor(h.t, "usable replicas on "+h.name, func() bool {
		st := h.status()
		ok := 0
		for _, r := range st.Replicas {
			if r.Usable {
				ok++
			}
		}
		return ok == n
	})
}

// load changes what is in dir until the returned function ends it.
func load(t *testing.T, dir string, seed int64, perSecond int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := exercise.Job{Kind: "rate", Dir: dir, Seed: seed, Ops: perSecond}.RunChild(ctx)
		done <- err
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("load on %s, seed %d: an application saw an error: %v", dir, seed, err)
		}
	}
}

// waitFor waits for a state, not for a time.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contains(s, part string) bool { return strings.Contains(s, part) }
