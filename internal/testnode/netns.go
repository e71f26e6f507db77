package testnode

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network of its own, in which daemons and tools can run.
type Namespace struct {
	name string
	file *os.File // keeps the namespace open
}

// Wire is two namespaces joined by a pair of virtual interfaces, and the faults of the
// line between them. Traffic never leaves them.
type Wire struct {
	t    testing.TB
	A, B *Namespace
	a, b netip.Prefix // present addresses
}

// Side of a wire.
type Side int

// The sides.
const (
	SideA Side = iota
	SideB
)

const wireDevice = "wire" // name of the interface on either side

var wires atomic.Int64

// NewWire joins two fresh namespaces; A has 192.0.2.1, B 192.0.2.2 (documentation
// addresses, RFC 5737). The end of the test takes all away. It needs root, ip and nft.
func NewWire(t testing.TB) *Wire {
	t.Helper()
	for _, tool := range []string{"ip", "nft", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v; install it: bash ops/test-deps.sh", err)
		}
	}
	sweepNamespaces()
	n := wires.Add(1)
	w := &Wire{t: t, a: netip.MustParsePrefix("192.0.2.1/24"), b: netip.MustParsePrefix("192.0.2.2/24")}
	w.A, w.B = newNamespace(t, fmt.Sprintf("us-%d-%d-a", os.Getpid(), n)), newNamespace(t, fmt.Sprintf("us-%d-%d-b", os.Getpid(), n))
	w.A.Run(t, "ip", "link", "add", wireDevice, "type", "veth", "peer", "name", wireDevice, "netns", w.B.name)
	for side, addr := range []netip.Prefix{w.a, w.b} {
		ns := w.side(Side(side))
		ns.Run(t, "ip", "link", "set", "lo", "up")
		ns.Run(t, "ip", "addr", "add", addr.String(), "dev", wireDevice)
		ns.Run(t, "ip", "link", "set", wireDevice, "up")
		ns.Run(t, "nft", "add table inet fault; add chain inet fault in { type filter hook input priority 0; }; "+
			"add chain inet fault out { type filter hook output priority 0; }")
	}
	return w
}

// sweepNamespaces takes away what tests left that ended without their cleanup.
func sweepNamespaces() {
	names, _ := filepath.Glob("/run/netns/us-*-*-[ab]")
	for _, path := range names {
		name := filepath.Base(path)
		if _, err := os.Stat(filepath.Join("/proc", strings.Split(name, "-")[1])); os.IsNotExist(err) {
			_ = exec.Command("ip", "netns", "del", name).Run() // another test may be at it
		}
	}
}

func newNamespace(t testing.TB, name string) *Namespace {
	t.Helper()
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("add namespace %s: %v: %s", name, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("delete namespace %s: %v: %s", name, err, out)
		}
	})
	f, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return &Namespace{name: name, file: f}
}

func (w *Wire) side(s Side) *Namespace { return []*Namespace{w.A, w.B}[s] }

// Addr is the present address of a side.
func (w *Wire) Addr(s Side) string { return []netip.Prefix{w.a, w.b}[s].Addr().String() }

// Do calls f on a thread inside the namespace: sockets f opens and processes it starts
// belong there. f must not leave that to other goroutines. A nil Namespace is the
// caller's own.
func (n *Namespace) Do(f func() error) error {
	if n == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Run calls a tool inside the namespace.
func (n *Namespace) Run(t testing.TB, command ...string) {
	t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(command[0], command[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s: %v: %s", n.name, strings.Join(command, " "), err, out)
	}
}

// Heal makes the line good again.
func (w *Wire) Heal() {
	w.t.Helper()
	for _, ns := range []*Namespace{w.A, w.B} {
		ns.Run(w.t, "nft", "flush chain inet fault in; flush chain inet fault out")
		ns.Run(w.t, "ip", "link", "set", wireDevice, "up")
	}
}

// Drop loses everything that arrives at a side, or with of a hundred packets so many:
// the sender sees no error.
func (w *Wire) Drop(s Side, percent int) {
	w.t.Helper()
	which := ""
	if percent < 100 {
		which = fmt.Sprintf("numgen random mod 100 < %d", percent)
	}
	w.side(s).Run(w.t, "nft", fmt.Sprintf("add rule inet fault in iifname %s %s drop", wireDevice, which))
}

// Reset answers every TCP packet that arrives at a side as a machine does that knows
// nothing of the connection.
func (w *Wire) Reset(s Side) {
	w.t.Helper()
	w.side(s).Run(w.t, "nft", fmt.Sprintf("add rule inet fault in iifname %s meta l4proto tcp reject with tcp reset", wireDevice))
}

// Pull takes the carrier away on a side, as if the cable were pulled.
func (w *Wire) Pull(s Side) {
	w.t.Helper()
	w.side(s).Run(w.t, "ip", "link", "set", wireDevice, "down")
}

// Slow limits what both sides send, in kbit/s; 0 takes the limit away.
func (w *Wire) Slow(kbit int) {
	w.t.Helper()
	for _, ns := range []*Namespace{w.A, w.B} {
		if kbit == 0 {
			ns.Run(w.t, "tc", "qdisc", "del", "dev", wireDevice, "root")
			continue
		}
		ns.Run(w.t, "tc", "qdisc", "replace", "dev", wireDevice, "root", "tbf", "rate", fmt.Sprintf("%dkbit", kbit), "burst", "16kb", "latency", "100ms")
	}
}

// Readdress gives a side another address, the last byte of which is host, and takes the
// one it had. Connections are not told.
func (w *Wire) Readdress(s Side, host byte) {
	w.t.Helper()
	old := []*netip.Prefix{&w.a, &w.b}[s]
	fresh := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 24)
	w.side(s).Run(w.t, "ip", "addr", "del", old.String(), "dev", wireDevice)
	w.side(s).Run(w.t, "ip", "addr", "add", fresh.String(), "dev", wireDevice)
	*old = fresh
}

// HostPort joins a side's present address with the port of addr.
func (w *Wire) HostPort(s Side, addr string) string {
	w.t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		w.t.Fatal(err)
	}
	return net.JoinHostPort(w.Addr(s), port)
}
