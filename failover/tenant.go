package failover

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/internal/atomicfile"
	"understudy/internal/bootid"
)

// maxTenancies bounds the targets whose leases a source keeps.
const maxTenancies = 64

// Seat is what a source's side of a lease asks of the kernel.
type Seat interface {
	NICs() ([]NIC, error)
	// Rivals asks on nic who else has ip, or, of takers, is about to take it.
	Rivals(ctx context.Context, nic string, ip netip.Addr, takers []string) (mac string, found, has bool, err error)
	// Routes of nic, in a form for Restore.
	Routes(nic string) (json.RawMessage, error)
	Remove(nic string, p netip.Prefix) error
	// Restore adds the address and what is missing of the routes.
	Restore(nic string, p netip.Prefix, routes json.RawMessage) error
	Announce(nic string, ip netip.Addr) (mac string, err error)
	Ping(ctx context.Context, ip netip.Addr) bool
	Prober(a Address) (Prober, error)
	// Mute has the kernel answer nobody who asks where this machine's IPv4 addresses are, or
	// answer again. What it changes it notes in dir, for a daemon that comes after this one.
	Mute(dir string, on bool) error
	// Changes gets a value when an address came or went, until ctx ends.
	Changes(ctx context.Context) <-chan struct{}
}

// TenantHost is the node of a source.
type TenantHost interface {
	Name() string
	GivenUp(target string, addresses []string, why string) // an alert, until
	Back(target string)
	Trouble(target string, err error)
	Keys
}

// Tenant is a source's side of all its leases. Its methods may be called by several
// goroutines at once.
type Tenant struct {
	dir    string
	host   TenantHost
	seat   Seat
	signed int

	mu     sync.Mutex // guards what follows
	ctx    context.Context
	wait   sync.WaitGroup
	leases map[string]*tenancy // by target
}

// tenancyRecord is a lease on disk.
type tenancyRecord struct {
	Version int    `json:"version"`
	Lease   Lease  `json:"lease"`
	Armed   bool   `json:"armed"` // a witness answered since the lease is known
	Boot    string `json:"boot"`
	Off     []Away `json:"off,omitempty"` // given up
	IsOff   bool   `json:"is_off,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Away is an address that was given up, and what is needed to have it back.
type Away struct {
	NIC    string          `json:"nic"`
	Prefix netip.Prefix    `json:"prefix"`
	Routes json.RawMessage `json:"routes,omitempty"`
}

// OpenTenant reads the leases of before.
func OpenTenant(dir string, host TenantHost, seat Seat, signed int) (*Tenant, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	t := &Tenant{dir: dir, host: host, seat: seat, signed: signed, leases: map[string]*tenancy{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("leases: %w", err)
	}
	for _, name := range names {
		r, err := readTenancy(name)
		if err != nil || len(t.leases) == maxTenancies {
			host.Trouble("", fmt.Errorf("lease %s: %w", name, errors.Join(err, ErrLease)))
			continue
		}
		t.leases[r.Lease.Target] = t.newTenancy(r)
	}
	return t, nil
}

func readTenancy(name string) (r tenancyRecord, err error) {
	raw, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err == nil {
		err = r.Lease.validate()
	}
	if err == nil && r.Version != recordVersion {
		err = fmt.Errorf("version %d, this program writes version %d", r.Version, recordVersion)
	}
	return r, err
}

func (t *Tenant) newTenancy(r tenancyRecord) *tenancy {
	l := &tenancy{t: t, rec: r, wake: make(chan struct{}, 1), seen: make(chan struct{}, 1)}
	_, _ = rand.Read(l.nonce[:])
	now := bootTime()
	l.term = term{limit: r.Lease.limit(), confirmed: now, witness: now}
	// After a restart of the machine nobody knows what happened meanwhile. Its addresses
	// are not taken away, for the system may be just about to set up routes with them;
	// nobody is told where they are until it has looked.
	if (r.Armed || r.IsOff) && r.Boot != bootid.Get() {
		l.mute, l.rec.IsOff, l.rec.Off, l.rec.Boot = true, false, nil, bootid.Get()
	}
	return l
}

// Run keeps the leases until ctx ends.
func (t *Tenant) Run(ctx context.Context) {
	t.mu.Lock()
	t.ctx = ctx
	t.hush()
	for _, l := range t.leases {
		t.start(l)
	}
	t.mu.Unlock()
	<-ctx.Done()
	t.mu.Lock()
	t.ctx = nil
	t.mu.Unlock()
	t.wait.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.seat.Mute(t.dir, false) // a daemon that is not there decides nothing
}

// hush mutes the machine while a lease wants that. t.mu is held.
func (t *Tenant) hush() {
	want := false
	for _, l := range t.leases {
		l.mu.Lock()
		want = want || l.mute
		l.mu.Unlock()
	}
	if err := t.seat.Mute(t.dir, want); err != nil {
		t.host.Trouble("", err)
	}
}

// start runs a tenancy. t.mu is held.
func (t *Tenant) start(l *tenancy) {
	ctx := t.ctx
	t.wait.Go(func() { l.run(ctx) })
}

// Answer takes what a target asks and says what to send back; nil: nothing. from is
// where it came from.
func (t *Tenant) Answer(b []byte, from netip.Addr) []byte {
	number, e, lease, msg, sig, err := decodeAsk(b, t.signed)
	if err != nil || !strings.EqualFold(lease.Source, t.host.Name()) || !t.host.Signed(lease.Target, msg, sig) {
		return nil
	}
	lease.Heard = from.Unmap()
	l := t.tenancy(lease)
	if l == nil {
		return nil
	}
	reply := encodeAnswer(number, l.hear(e, lease), l.state())
	return append(reply, t.host.Sign(reply)...)
}

// tenancy finds that of a target, or begins it.
func (t *Tenant) tenancy(lease Lease) *tenancy {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leases[lease.Target]
	if l == nil && t.ctx != nil && len(t.leases) < maxTenancies {
		lease.Taken = false // unproven yet
		l = t.newTenancy(tenancyRecord{Version: recordVersion, Lease: lease, Boot: bootid.Get()})
		t.leases[lease.Target] = l
		t.start(l)
	}
	return l
}

// end forgets a lease that is void.
func (t *Tenant) end(l *tenancy) {
	t.mu.Lock()
	delete(t.leases, l.rec.Lease.Target)
	t.hush()
	t.mu.Unlock()
	if err := os.Remove(t.path(l)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.host.Trouble(l.rec.Lease.Target, fmt.Errorf("forget lease: %w", err))
	}
}

func (t *Tenant) path(l *tenancy) string { return filepath.Join(t.dir, l.rec.Lease.Target+".json") }

// Release has back all addresses that were given up, whatever others say, and forgets the
// leases until targets renew them: for a person who knows that nobody stands in.
func (t *Tenant) Release() (targets []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, l := range t.leases {
		targets = append(targets, name)
		l.mu.Lock()
		l.release = true
		l.mu.Unlock()
		l.poke()
	}
	return targets
}

// write makes the record durable. l.mu is held.
func (l *tenancy) write() error {
	raw, err := json.MarshalIndent(&l.rec, "", "  ")
	if err == nil {
		err = atomicfile.Write(l.t.path(l), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write lease of %s: %w", l.rec.Lease.Target, err)
	}
	return nil
}

// bootTime is the time since the machine started, the time it slept included.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Duration(time.Now().UnixNano()) // no kernel since 2.6.39 says so
	}
	return time.Duration(ts.Nano())
}
