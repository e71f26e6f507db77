package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// DefaultReplicas is how many servers of a cluster keep each queue: one may fail.
	DefaultReplicas = 3
	maxReplicas     = 5 // JetStream's own bound
	// clusterQueue is the limit of a queue that has none of its own: this machine does not
	// see the disks of a cluster.
	clusterQueue = 16 << 30
	// clusterPing and clusterPings find a server that went silent, within some seconds.
	clusterPing  = 2 * time.Second
	clusterPings = 2
)

// ClusterConfig names an external cluster that keeps the queues of this machine, in place
// of its own messaging server. The zero value: there is none. Peers, requests,
// heartbeats and mirror frames use the machine's own server all the same.
type ClusterConfig struct {
	URLs     []string // nats://host:port or tls://host:port, of one server or several
	Creds    string   // file of a user's credentials; "": none
	CA       string   // file of the certificates the servers are known by; "": the system's
	Replicas int      // servers that keep each queue; 0: 3
}

// clustered reports whether queues are kept elsewhere.
func (s *Server) clustered() bool { return len(s.cfg.Cluster.URLs) > 0 }

// clusterConnect opens a connection to the cluster. later: also if no server answers now;
// it is there once one does.
func (s *Server) clusterConnect(name string, later bool) (*nats.Conn, error) {
	c := &s.cfg.Cluster
	options := []nats.Option{nats.Name(s.cfg.Name + " " + name), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectBufSize(-1), nats.PingInterval(clusterPing), nats.MaxPingsOutstanding(clusterPings), nats.Timeout(clusterPing),
		nats.IgnoreAuthErrorAbort(), nats.RetryOnFailedConnect(later), nats.ErrorHandler(logConnError(s.log))}
	if c.Creds != "" {
		options = append(options, nats.UserCredentials(c.Creds))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	nc, err := nats.Connect(strings.Join(c.URLs, ","), options...)
	if errors.Is(err, nats.ErrAuthorization) {
		err = &RefusedError{"the cluster does not accept this user"}
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster at %s: %w", strings.Join(c.URLs, ", "), connError(err))
	}
	return s.keep(nc, "connect to the cluster")
}

// clusterName and clusterSubject keep machines apart that share a cluster.
func (s *Server) clusterName(stream string) string { return s.clusterPrefix() + stream }

func (s *Server) clusterPrefix() string { return "U=" + Token(s.cfg.Name) + "=" }

func (s *Server) clusterSubject(subject string) string {
	return "us." + Token(s.cfg.Name) + "." + subject
}

// connectStore opens the connection a queue is reached by.
func (s *Server) connectStore(name string) (*nats.Conn, error) {
	if s.clustered() {
		return s.clusterConnect(name, false)
	}
	return s.connect(name)
}

func (s *Server) replicas() int {
	switch {
	case !s.clustered():
		return 1
	case s.cfg.Cluster.Replicas == 0:
		return DefaultReplicas
	}
	return s.cfg.Cluster.Replicas
}

// Validate says what is wrong, or nothing.
func (c *ClusterConfig) Validate() error {
	if c.Replicas < 0 || c.Replicas > maxReplicas {
		return fmt.Errorf("%d replicas: 1 to %d are accepted", c.Replicas, maxReplicas)
	}
	for _, u := range c.URLs {
		scheme, host, ok := strings.Cut(u, "://")
		if !ok || host == "" || scheme != "nats" && scheme != "tls" {
			return fmt.Errorf("%q: nats://HOST:PORT or tls://HOST:PORT is accepted", u)
		}
	}
	if len(c.URLs) == 0 && (c.Creds != "" || c.CA != "" || c.Replicas != 0) {
		return fmt.Errorf("urls: name at least one server")
	}
	return nil
}

// storedIn lists this machine's queues in a store.
func (s *Server) storedIn(ctx context.Context, nc *nats.Conn, prefix string) ([]Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	var out []Stored
	l := js.ListStreams(ctx)
	for info := range l.Info() {
		name, ours := strings.CutPrefix(info.Config.Name, prefix)
		if !ours {
			continue
		}
		st, err := parseStream(name)
		if err != nil {
			continue // not ours
		}
		st.name, st.far, st.Frames, st.Bytes = info.Config.Name, nc == s.far, info.State.Msgs, info.State.Bytes
		out = append(out, st)
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("list queues: %w", storeError(err))
	}
	return out, nil
}
