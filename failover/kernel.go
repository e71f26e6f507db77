package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kernel is the network of this machine. It needs root. Its methods may be called by
// several goroutines at once.
type Kernel struct{}

var _ Network = Kernel{}

// NICs lists the network cards in the kernel's order.
func (Kernel) NICs() ([]NIC, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network cards: %w", err)
	}
	slices.SortFunc(links, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	var out []NIC
	for _, l := range links {
		at := l.Attrs()
		if at.Flags&net.FlagLoopback != 0 {
			continue
		}
		n := NIC{Number: len(out) + 1, Name: at.Name, MAC: at.HardwareAddr.String(), Up: hasCarrier(at)}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", at.Name, err)
		}
		for _, a := range addrs {
			if p, ok := prefixOf(a.IPNet); ok {
				n.Addresses = append(n.Addresses, p)
			}
		}
		out = append(out, n)
	}
	return out, nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), ok
}

func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Add gives nic the address. IPv6's own duplicate detection is left out: the takeover has
// looked, and it would keep the address unusable for a second.
func (Kernel) Add(nic string, p netip.Prefix) error {
	l, err := netlink.LinkByName(nic)
	if err != nil {
		return fmt.Errorf("add %s to %s: %w", p, nic, err)
	}
	a := &netlink.Addr{IPNet: netOf(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s to %s: %w", p, nic, err)
	}
	return nil
}

// Remove takes the address away. When the first address of a network goes, the kernel
// takes the others of that network and their routes with it, unless promote_secondaries
// is set (F41): they are put back.
func (Kernel) Remove(nic string, p netip.Prefix) error {
	l, err := netlink.LinkByName(nic)
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", p, nic, err)
	}
	family := netlink.FAMILY_V4
	if p.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	addrs, err1 := netlink.AddrList(l, family)
	routes, err2 := netlink.RouteList(l, family)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("remove %s from %s: %w", p, nic, err)
	}
	err = netlink.AddrDel(l, &netlink.Addr{IPNet: netOf(p)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove %s from %s: %w", p, nic, err)
	}
	if err := putBack(l, family, p, addrs, routes); err != nil {
		return fmt.Errorf("put back what went with %s on %s: %w", p, nic, err)
	}
	return nil
}

// putBack adds what is missing of the addresses and routes of before, but for p's own.
func putBack(l netlink.Link, family int, p netip.Prefix, addrs []netlink.Addr, routes []netlink.Route) error {
	now, err := netlink.AddrList(l, family)
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range addrs {
		own, _ := prefixOf(a.IPNet)
		if own == p || slices.ContainsFunc(now, func(b netlink.Addr) bool { return a.IPNet.String() == b.IPNet.String() }) {
			continue
		}
		again := netlink.Addr{IPNet: a.IPNet, Label: a.Label, Scope: a.Scope, Broadcast: a.Broadcast, ValidLft: a.ValidLft, PreferedLft: a.PreferedLft}
		if a.ValidLft < 0 || uint32(a.ValidLft) == 0xffffffff {
			again.ValidLft, again.PreferedLft = 0, 0
		}
		if err := netlink.AddrAdd(l, &again); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("address %s: %w", a.IPNet, err))
		}
	}
	have, err := netlink.RouteList(l, family)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, r := range routes {
		src, _ := netip.AddrFromSlice(r.Src)
		if src.Unmap() == p.Addr() || r.Dst != nil && r.Dst.String() == netOf(p.Masked()).String() && r.Protocol == unix.RTPROT_KERNEL ||
			slices.ContainsFunc(have, func(h netlink.Route) bool { return h.Equal(r) }) {
			continue
		}
		if err := netlink.RouteAdd(&r); err != nil && !errors.Is(err, unix.EEXIST) {
			errs = append(errs, fmt.Errorf("route %s: %w", r, err))
		}
	}
	return errors.Join(errs...)
}

// Carrier reports whether the card by which ip is reached has one. An error says that there
// is no such card.
func (Kernel) Carrier(ip netip.Addr) (nic string, up bool, err error) {
	routes, err := netlink.RouteGet(ip.AsSlice())
	if err != nil || len(routes) == 0 {
		return "", false, fmt.Errorf("route to %s: %w", ip, err)
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return "", false, fmt.Errorf("route to %s: %w", ip, err)
	}
	return l.Attrs().Name, hasCarrier(l.Attrs()), nil
}

func hasCarrier(at *netlink.LinkAttrs) bool {
	return at.RawFlags&unix.IFF_UP != 0 && at.RawFlags&unix.IFF_LOWER_UP != 0
}

// Ping asks three times within a second.
func (k Kernel) Ping(ctx context.Context, ip netip.Addr) bool {
	p, err := newPing(ip)
	if err != nil {
		return false
	}
	defer p.Close()
	for range 3 {
		_ = p.Send() // no answer says the same
		select {
		case <-p.Answers():
			return true
		case <-ctx.Done():
			return false
		case <-time.After(330 * time.Millisecond):
		}
	}
	return false
}

// Prober opens the probe that an address asks for.
func (Kernel) Prober(a Address) (Prober, error) {
	switch a.Probe {
	case ProbePing:
		p, err := newPing(a.IP())
		if err != nil {
			return nil, err
		}
		return p, nil
	case ProbeService:
		return nil, errors.New("service probe: no keys") // Manager makes it
	}
	return nil, fmt.Errorf("probe %q is not known", a.Probe)
}
