package topology

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/internal/testnode"
	"understudy/node"
)

// clusterServer is one of the messaging servers of a cluster, as an operator runs them.
type clusterServer struct {
	Name  string
	Dir   string
	Addr  string   // of its namespace
	Peers []string // addresses of all
}

// Ports of the messaging servers: the usual ones.
const (
	natsPort  = 4222
	routePort = 6222
)

func (c *clusterServer) run(ctx context.Context, ready func(string)) error {
	o := &server.Options{ServerName: c.Name, Host: c.Addr, Port: natsPort, JetStream: true, StoreDir: c.Dir, SyncAlways: true,
		MaxPayload: 2 << 20, NoSigs: true, NoLog: true, Cluster: server.ClusterOpts{Name: "queues", Host: c.Addr, Port: routePort}}
	for _, p := range c.Peers {
		if p != c.Addr {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("%s:%d", p, routePort)})
		}
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return err
	}
	ns.Start()
	if !ns.ReadyForConnections(patience) {
		return errors.New("messaging server is not ready")
	}
	ready(c.Addr)
	<-ctx.Done()
	ns.Shutdown()
	ns.WaitForShutdown()
	return nil
}

// natsCluster is three messaging servers on hosts of a segment.
type natsCluster struct {
	t     *testing.T
	s     *segment
	hosts []*host
}

func (c *natsCluster) start(i int) {
	c.t.Helper()
	h := c.hosts[i]
	one := clusterServer{Name: h.name, Dir: h.path("jetstream"), Addr: c.addr(h)}
	for _, p := range c.hosts {
		one.Peers = append(one.Peers, c.addr(p))
	}
	h.D = testnode.StartIn(c.t, h.NS, h.name, settings{Server: &one})
}

func (c *natsCluster) addr(h *host) string { return h.addr[:len(h.addr)-len(node.DefaultPort)-1] }

// TestNATSClusterStory: source and target keep their queues on a cluster of three
// messaging servers. One after another is killed under load and comes back: nothing is
// lost, the application sees nothing, and the session goes on in its epoch.
func TestNATSClusterStory(t *testing.T) {
	s := newSegment(t, "source", "target", "n1", "n2", "n3")
	source, target := s.hosts[0], s.hosts[1]
	c := &natsCluster{t: t, s: s, hosts: s.hosts[2:]}
	for i, h := range c.hosts {
		c.start(i)
		for _, of := range []*host{source, target} {
			of.Cfg.NATS.URLs = append(of.Cfg.NATS.URLs, fmt.Sprintf("nats://%s:%d", c.addr(h), natsPort))
		}
	}
	s.start(source, target)
	dir := source.tree("data")
	source.mount(dir)
	var j *joined
	waitFor(t, "the cluster to have a leader", func() bool {
		return source.Try("connect", source.request("data", dir, target, target.path("replica")), nil) == nil
	})
	j = &joined{source: source, target: target, dir: dir, place: target.path("replica")}
	target.usable(1)
	j.settled("before")
	before := j.view()
	rounds := stories.Scaled(2, len(c.hosts))
	stop := load(t, dir, 41, 200)
	for i, h := range c.hosts[:rounds] {
		h.D.Kill()
		at := j.view().CapturedOp
		began := time.Now()
		var now control.Connection
		waitFor(t, "changes to arrive with a server less", func() bool {
			if now = j.view(); time.Since(began) > patience {
				t.Fatalf("at %d: %+v\n%+v", at, now, target.Status().Replicas)
			}
			return now.AppliedOp > at
		})
		t.Logf("%s killed: changes arrived again after %v", h.name, time.Since(began))
		c.start(i)
		waitFor(t, h.name+" to have caught up", func() bool { return j.view().AppliedOp > at+100 })
	}
	stop()
	j.settled("after servers were killed")
	if now := j.view(); now.Epoch != before.Epoch || now.Mirrors != before.Mirrors {
		t.Errorf("epoch %s was %s, %d mirrors were %d: %s", now.Epoch, before.Epoch, now.Mirrors, before.Mirrors, now.LastError)
	}
	queuesElsewhere(t, source, target)
}

// queuesElsewhere looks for queues on the disks of the machines.
func queuesElsewhere(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		found := 0
		err := filepath.WalkDir(h.Cfg.Data, func(path string, d os.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".blk" {
				found++
			}
			return nil
		})
		if err != nil || found > 0 {
			t.Errorf("%s keeps %d blocks of queues: %v", h.name, found, err)
		}
	}
}
