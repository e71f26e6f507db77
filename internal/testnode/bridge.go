package testnode

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Bridge is a segment: hosts in namespaces of their own, each joined to one switch by a
// cable. Traffic never leaves it. Host i has 192.0.2.(i+1)/24 and 2001:db8::(i+1)/64
// (documentation addresses, RFC 5737 and RFC 3849) on its card "wire".
type Bridge struct {
	t     testing.TB
	hub   *Namespace
	Hosts []*Namespace
}

// NewBridge makes a segment of n hosts. The end of the test takes it away.
func NewBridge(t testing.TB, n int) *Bridge {
	t.Helper()
	sweepNamespaces()
	at := wires.Add(1)
	name := func(what string) string { return fmt.Sprintf("us-%d-%d%s-a", os.Getpid(), at, what) }
	b := &Bridge{t: t, hub: newNamespace(t, name("hub"))}
	b.hub.Run(t, "ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
	b.hub.Run(t, "ip", "link", "set", "switch", "up")
	for i := range n {
		h := newNamespace(t, name(fmt.Sprint("h", i)))
		b.Hosts = append(b.Hosts, h)
		h.Run(t, "ip", "link", "add", wireDevice, "type", "veth", "peer", "name", port(i), "netns", b.hub.name)
		b.hub.Run(t, "ip", "link", "set", port(i), "master", "switch", "up")
		b.hub.Run(t, "nft", fmt.Sprintf("add table bridge p%d; add chain bridge p%d cut { type filter hook forward priority 0; }", i, i))
		h.Run(t, "ip", "link", "set", "lo", "up")
		h.Run(t, "ip", "link", "set", wireDevice, "up")
		h.Run(t, "ip", "addr", "add", b.Addr(i)+"/24", "dev", wireDevice)
		h.Run(t, "ip", "addr", "add", b.Addr6(i)+"/64", "dev", wireDevice, "nodad")
		h.Run(t, "sysctl", "-qw", "net.ipv4.conf."+wireDevice+".arp_accept=0", "net.ipv4.conf.all.promote_secondaries=0")
	}
	return b
}

func port(i int) string { return fmt.Sprint("port", i) }

// Card is the name of a host's network card.
func (b *Bridge) Card() string { return wireDevice }

// Addr is a host's own IPv4 address.
func (b *Bridge) Addr(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }

// Addr6 is its IPv6 address.
func (b *Bridge) Addr6(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }

// Die takes a host off the segment as a power cut does: its card loses its carrier.
func (b *Bridge) Die(i int) {
	b.t.Helper()
	b.Hosts[i].Run(b.t, "ip", "link", "set", wireDevice, "down")
}

// Revive undoes Die. Addresses of IPv6, which went with the link, come back.
func (b *Bridge) Revive(i int) {
	b.t.Helper()
	b.Hosts[i].Run(b.t, "ip", "link", "set", wireDevice, "up")
	b.Hosts[i].Run(b.t, "ip", "addr", "replace", b.Addr6(i)+"/64", "dev", wireDevice, "nodad")
}

// Cut has the switch drop what comes from a host and what goes to it: neither side sees
// its carrier go. Mend undoes it.
func (b *Bridge) Cut(i int) {
	b.t.Helper()
	b.hub.Run(b.t, "nft", fmt.Sprintf("add rule bridge p%d cut iifname %s drop; add rule bridge p%d cut oifname %s drop", i, port(i), i, port(i)))
}

// CutFor is a Cut that the kernel undoes after d, however busy the machine is.
func (b *Bridge) CutFor(i int, d time.Duration) {
	b.t.Helper()
	b.hub.Run(b.t, "nft", fmt.Sprintf("add set bridge p%[1]d gone { type ifname; flags timeout; }; flush set bridge p%[1]d gone; "+
		"add rule bridge p%[1]d cut iifname @gone drop; add rule bridge p%[1]d cut oifname @gone drop; "+
		"add element bridge p%[1]d gone { %[2]s timeout %[3]dms }", i, port(i), d.Milliseconds()))
}

// Lose has the switch drop so many of a hundred packets from a host and to it.
func (b *Bridge) Lose(i, percent int) {
	b.t.Helper()
	for _, dir := range []string{"iifname", "oifname"} {
		b.hub.Run(b.t, "nft", fmt.Sprintf("add rule bridge p%d cut %s %s numgen random mod 100 < %d drop", i, dir, port(i), percent))
	}
}

// Slow limits what goes to a host, in kbit/s; 0 takes the limit away.
func (b *Bridge) Slow(i, kbit int) {
	b.t.Helper()
	if kbit == 0 {
		b.hub.Run(b.t, "tc", "qdisc", "del", "dev", port(i), "root")
		return
	}
	b.hub.Run(b.t, "tc", "qdisc", "replace", "dev", port(i), "root", "tbf", "rate", fmt.Sprintf("%dkbit", kbit), "burst", "32kb", "latency", "100ms")
}

// Mend makes a host's cable good again.
func (b *Bridge) Mend(i int) {
	b.t.Helper()
	b.hub.Run(b.t, "nft", fmt.Sprintf("flush chain bridge p%d cut", i))
}

// Output calls a tool inside the namespace and returns what it prints.
func (n *Namespace) Output(t testing.TB, command ...string) string {
	t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(command[0], command[1:]...).Output()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s: %v", n.name, strings.Join(command, " "), err)
	}
	return string(out)
}
