package failover

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"understudy/control"
	"understudy/internal/stories"
	"understudy/internal/testnode"
)

// Hosts of a stage, on one segment.
const (
	hostSource = iota
	hostTarget
	hostClient
	hostWitness
)

// stage is a source, a target, a client and a witness on one segment, the first two with
// their daemons.
type stage struct {
	t      testing.TB
	b      *testnode.Bridge
	base   string
	source *machine
	target *machine
}

func newStage(t testing.TB) *stage { t.Helper(); return newStageWith(t, "") }

// newStageWith breaks a mechanism of the source.
func newStageWith(t testing.TB, plant string) *stage {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	base := testnode.Memory(t)
	s := &stage{t: t, b: testnode.NewBridge(t, 4), base: base}
	s.source, s.target = newMachine(t, base, "indy", s.b.Hosts[hostSource]), newMachine(t, base, "jersey", s.b.Hosts[hostTarget])
	s.source.Plant = plant
	stories.Introduce(t, s.source, s.target)
	s.target.Start()
	s.source.Start()
	return s
}

// address is a watched address of the source that is taken over.
func (s *stage) address(ip string, interval time.Duration, missed int, probe string) control.MonitorAddress {
	return control.MonitorAddress{Address: ip, Watch: true, Take: true, IntervalMS: interval.Milliseconds(), Missed: missed, Probe: probe}
}

// monitor makes and starts the target's monitor of the source.
func (s *stage) monitor(change func(*control.MonitorConfig), addresses ...control.MonitorAddress) {
	s.t.Helper()
	m := control.MonitorConfig{Source: "indy", Automatic: true, Addresses: addresses}
	if change != nil {
		change(&m)
	}
	s.target.Ask("monitor.save", m, nil)
	s.target.Ask("monitor.start", control.MonitorRequest{Source: "indy"}, nil)
}

func (s *stage) sees() (st control.MonitorStatus) {
	s.t.Helper()
	s.target.Ask("monitor.get", control.MonitorRequest{Source: "indy"}, &st)
	return st
}

func (s *stage) await(state string) {
	s.t.Helper()
	waitFor(s.t, "the monitor to be "+state, func() bool { return s.sees().State == state })
}

// watching waits until all watched addresses answered.
func (s *stage) watching() {
	s.t.Helper()
	waitFor(s.t, "the source to be watched", func() bool {
		st := s.sees()
		return len(st.Watched) > 0 && !slices.ContainsFunc(st.Watched, func(a control.WatchedAddressStatus) bool { return !a.Heard }) && st.State == "online"
	})
}

// addresses lists those of a host's card, without the link-local ones.
func (s *stage) addresses(host int) (list []string) {
	s.t.Helper()
	must(s.t, s.b.Hosts[host].Do(func() error {
		card, err := net.InterfaceByName(s.b.Card())
		if err != nil {
			return err
		}
		addrs, err := card.Addrs()
		for _, a := range addrs {
			if ip, _, _ := net.ParseCIDR(a.String()); !ip.IsLinkLocalUnicast() {
				list = append(list, a.String())
			}
		}
		return err
	}))
	slices.Sort(list)
	return list
}

func (s *stage) has(host int, ip string) bool {
	return slices.ContainsFunc(s.addresses(host), func(a string) bool { return strings.HasPrefix(a, ip+"/") })
}

// serve answers HTTP on a host with the host's name.
func (s *stage) serve(host int, name string) {
	s.t.Helper()
	var ln net.Listener
	must(s.t, s.b.Hosts[host].Do(func() (err error) {
		ln, err = net.Listen("tcp", ":8080")
		return err
	}))
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })}
	go func() { _ = srv.Serve(ln) }()
	s.t.Cleanup(func() { _ = srv.Close() })
}

// client asks an address for ever, from a host of its own, as a browser does that tries
// again.
type client struct {
	get  *http.Client
	url  string
	last atomic.Int64 // when the source answered last
	next atomic.Int64 // when the target answered first
}

func (s *stage) client(ip string) *client {
	ns := s.b.Hosts[hostClient]
	c := &client{url: "http://" + net.JoinHostPort(ip, "8080"), get: &http.Client{Timeout: 300 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (conn net.Conn, err error) {
			err = ns.Do(func() error { conn, err = net.DialTimeout(network, addr, 300*time.Millisecond); return err })
			return conn, err
		}}}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.ask()
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
	return c
}

func (c *client) ask() {
	r, err := c.get.Get(c.url)
	if err != nil {
		return
	}
	defer r.Body.Close()
	name, _ := io.ReadAll(r.Body)
	switch now := time.Now().UnixNano(); string(name) {
	case "indy":
		c.last.Store(now)
	case "jersey":
		c.next.CompareAndSwap(0, now)
	}
}

// gap is the time between the last answer of the source and the first of the target.
func (s *stage) gap(c *client) time.Duration {
	s.t.Helper()
	waitFor(s.t, "the target to answer the client", func() bool { return c.next.Load() != 0 })
	return time.Duration(c.next.Load() - c.last.Load())
}

// TestClientContinuesAtTheTarget: a client asks the source's address; the source dies; the
// target takes the address over and answers the client, IPv4 and IPv6, within the time to
// fail and 1.5 s.
func TestClientContinuesAtTheTarget(t *testing.T) {
	for _, c := range []struct {
		name     string
		interval time.Duration
		missed   int
		probe    string
		limit    time.Duration
	}{
		{"default timing, ping", time.Second, 4, "ping", 5500 * time.Millisecond},
		{"fast timing, service", 200 * time.Millisecond, 5, "service", 2500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			s.serve(hostSource, "indy")
			s.serve(hostTarget, "jersey")
			v4, v6 := s.client(s.b.Addr(hostSource)), s.client(s.b.Addr6(hostSource))
			before := s.addresses(hostTarget)
			s.monitor(nil, s.address(s.b.Addr(hostSource), c.interval, c.missed, c.probe), s.address(s.b.Addr6(hostSource), c.interval, c.missed, c.probe))
			s.watching()
			waitFor(t, "the source to answer clients", func() bool { return v4.last.Load() != 0 && v6.last.Load() != 0 })
			s.b.Die(hostSource)
			gap4, gap6 := s.gap(v4), s.gap(v6)
			t.Logf("from the source's last answer to the target's first: IPv4 %v, IPv6 %v", gap4.Round(time.Millisecond), gap6.Round(time.Millisecond))
			if worst := max(gap4, gap6); worst > c.limit {
				t.Errorf("it took %v, at most %v is promised", worst, c.limit)
			}
			s.await("failed over")
			if st := s.sees(); len(st.Errors) > 0 || len(st.Taken) != 2 {
				t.Errorf("taken over %v with errors %q", st.Taken, st.Errors)
			}
			s.target.Ask("failback", control.FailbackRequest{Source: "indy", Stop: true}, nil)
			if now := s.addresses(hostTarget); !slices.Equal(before, now) {
				t.Errorf("after failback the target has %v, had %v", now, before)
			}
		})
	}
}

// scriptFile writes an executable script.
func (s *stage) scriptFile(name, body string) string {
	s.t.Helper()
	path := filepath.Join(s.base, name)
	must(s.t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755))
	return path
}
