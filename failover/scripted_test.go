package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a network of a test: what happens to requests is said by address.
type scripted struct {
	mu      sync.Mutex
	send    map[string]func() error // nil error: it is answered, unless dead
	dead    map[string]bool
	stall   time.Duration // the machine stalls so long before it looks for answers
	witness bool          // one answers
	down    bool          // no card has a carrier
	rivals  []string      // addresses that others answer for
	here    []netip.Prefix
}

func (n *scripted) NICs() ([]NIC, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	have := append([]netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}, n.here...)
	return []NIC{{Number: 1, Name: "wire", MAC: "02:00:00:00:00:02", Up: !n.down, Addresses: have}}, nil
}
func (n *scripted) Carrier(netip.Addr) (string, bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return "wire", !n.down, nil
}
func (n *scripted) Probe(_ context.Context, _ string, ip netip.Addr) (string, bool, error) {
	time.Sleep(dupProbes * dupInterval)
	n.mu.Lock()
	defer n.mu.Unlock()
	return "02:00:00:00:00:01", slices.Contains(n.rivals, ip.String()), nil
}
func (n *scripted) Add(_ string, p netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.here = append(n.here, p)
	return nil
}
func (n *scripted) Remove(string, netip.Prefix) error           { return nil }
func (n *scripted) Announce(string, netip.Addr) (string, error) { return "", nil }
func (n *scripted) Ping(context.Context, netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.witness
}
func (n *scripted) Prober(a Address) (Prober, error) {
	return &asker{n: n, ip: a.IP().String(), answers: make(chan struct{}, 1)}, nil
}

func (n *scripted) but(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *scripted) set(ip string, dead bool, send func() error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead[ip], n.send[ip] = dead, send
}

type asker struct {
	n       *scripted
	ip      string
	answers chan struct{}
}

func (p *asker) Send() error {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	if f := p.n.send[p.ip]; f != nil {
		if err := f(); err != nil {
			return unable(err)
		}
	}
	if !p.n.dead[p.ip] {
		notify(p.answers)
	}
	return nil
}

func (p *asker) Answers() <-chan struct{} {
	p.n.mu.Lock()
	stall := p.n.stall
	p.n.mu.Unlock()
	time.Sleep(stall)
	return p.answers
}

func (p *asker) Close() {}

// told is a node of a test: it keeps what it is told.
type told struct {
	plainKeys
	mu     sync.Mutex
	alerts map[Kind]string
}

func (h *told) Name() string                                                { return "jersey" }
func (h *told) Usable(string) error                                         { return nil }
func (h *told) Seal(context.Context, string, bool) (json.RawMessage, error) { return nil, nil }
func (h *told) Unseal(string)                                               {}
func (h *told) Tell(Kind, string, ...any)                                   {}
func (h *told) Alert(k Kind, _ string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alerts[k] = fmt.Sprint(args...)
}
func (h *told) Cured(_ string, kinds ...Kind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.alerts, func(k Kind, _ string) bool { return slices.Contains(kinds, k) })
}
func (h *told) alert(k Kind) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alerts[k]
}

// watching runs f beside a monitor of addresses that is at work, in a bubble in which time
// passes at once.
func watching(t *testing.T, change func(*Monitor), f func(t *testing.T, s *sentry, n *scripted, h *told), ips ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &scripted{send: map[string]func() error{}, dead: map[string]bool{}}
		h := &told{alerts: map[Kind]string{}}
		mon := Monitor{Source: "indy", Automatic: true}
		for _, ip := range ips {
			mon.Addresses = append(mon.Addresses, Address{Address: ip, Watch: true, Take: true, IntervalMS: 1000, Missed: 4})
		}
		if change != nil {
			change(&mon)
		}
		mon.Complete()
		m := &Manager{dir: t.TempDir(), host: h, net: n, sentries: map[string]*sentry{}}
		s := m.newSentry(record{Version: recordVersion, Monitor: mon, Started: true})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		m.sentries["indy"] = s
		go func() {
			defer close(done)
			for ctx.Err() == nil && !takingOver(s) {
				s.watch(ctx)
				for ctx.Err() == nil && !s.current().Started {
					time.Sleep(100 * time.Millisecond)
				}
			}
		}()
		defer func() { cancel(); <-done }()
		time.Sleep(2 * time.Second)
		if st := s.status(); st.State != "online" {
			t.Fatalf("at first: %s: %s", st.State, st.Line)
		}
		f(t, s, n, h)
	})
}

// takingOver reports whether the takeover began.
func takingOver(s *sentry) bool { return s.current().Phase == FailingOver }
