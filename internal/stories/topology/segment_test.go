package topology

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/internal/testfuse"
	"understudy/internal/testnode"
	"understudy/node"
)

const patience = stories.Patience

var must, waitFor, equal, load = stories.Must, stories.WaitFor, stories.SameWhen, stories.Load

// settings make a child of this program a machine that is no daemon: somebody who was a
// peer once and now does harm, or one server of a messaging cluster.
type settings struct {
	Hostile *hostile
	Server  *clusterServer
}

func TestMain(m *testing.M) {
	stories.Main(m, func(ctx context.Context, raw []byte, ready func(string)) error {
		var s settings
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		if s.Hostile != nil {
			return s.Hostile.run(ctx, ready)
		}
		return s.Server.run(ctx, ready)
	})
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
	*stories.Machine
	name string
	dir  string // for trees and replicas
	addr string // where peers find it
}

// newSegment makes machines that know each other. They do not run yet.
func newSegment(t *testing.T, names ...string) *segment {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and mounts")
	}
	t.Parallel()
	s := &segment{t: t, base: stories.TempDir(t), bridge: testnode.NewBridge(t, len(names))}
	var machines []*stories.Machine
	for i, name := range names {
		h := &host{name: name, dir: filepath.Join(s.base, name), addr: s.bridge.Addr(i) + ":" + node.DefaultPort}
		h.Machine = stories.NewMachine(t, s.bridge.Hosts[i], name, h.path("daemon"))
		s.hosts, machines = append(s.hosts, h), append(machines, h.Machine)
	}
	stories.Introduce(t, machines...)
	return s
}

// start runs the daemons of the hosts, all if none is named.
func (s *segment) start(hosts ...*host) {
	s.t.Helper()
	if len(hosts) == 0 {
		hosts = s.hosts
	}
	for _, h := range hosts {
		h.Start()
	}
}

// path is a place on the machine.
func (h *host) path(parts ...string) string {
	return filepath.Join(append([]string{h.dir}, parts...)...)
}

// tree makes a directory on the machine, to be protected, and guards mounts there.
func (h *host) tree(name string) string {
	h.T.Helper()
	dir := h.path(name)
	must(h.T, os.MkdirAll(dir, 0o755))
	testfuse.Watchdog(h.T, dir, stories.Limit)
	h.T.Cleanup(h.end) // before the watchdog takes the mount away: the daemon would make it again
	return dir
}

// end kills a daemon that still runs.
func (h *host) end() {
	if h.D != nil {
		h.D.Kill()
	}
}

func (h *host) mount(dir string) {
	h.T.Helper()
	h.Ask("mount", control.DirRequest{Dir: dir}, nil)
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
	h.T.Helper()
	var reply control.ConnectReply
	h.Ask("connect", h.request(set, dir, target, place), &reply)
	return &joined{source: h, target: target, id: reply.ID, dir: dir, place: place}
}

// view is the source's view of the connection, whose number a restart may change.
func (j *joined) view() (c control.Connection) {
	j.source.T.Helper()
	waitFor(j.source.T, "the connection to "+j.target.name, func() bool {
		for _, c = range j.source.Status().Connections {
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
	t := j.source.T
	t.Helper()
	j.view()
	if err := j.source.Try("settle", control.SettleRequest{ID: j.id, TimeoutMS: patience.Milliseconds()}, nil); err != nil {
		t.Fatalf("%s: %s to %s does not settle: %v\nsource: %+v\ntarget: %+v", when, j.source.name, j.target.name, err,
			j.source.Status().Connections, j.target.Status().Replicas)
	}
	equal(t, when, j.dir, j.place)
}

// usable waits for the end of the first mirror of all replicas on a host.
func (h *host) usable(n int) {
	h.T.Helper()
	waitFor(h.T, "usable replicas on "+h.name, func() bool {
		st := h.Status()
		ok := 0
		for _, r := range st.Replicas {
			if r.Usable {
				ok++
			}
		}
		return ok == n
	})
}

func contains(s, part string) bool { return strings.Contains(s, part) }
