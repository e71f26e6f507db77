package failover

import (
	"context"
	"net/netip"
)

// NIC is a network card of this machine.
type NIC struct {
	Number    int    // in the kernel's order, from 1, without the loopback device
	Name      string // as ip(8) prints it
	MAC       string
	Up        bool // it has a carrier
	Addresses []netip.Prefix
}

// Network is what a takeover asks of the kernel. Kernel is the one there is; tests have
// others.
type Network interface {
	// NICs lists the network cards.
	NICs() ([]NIC, error)
	// Probe asks on nic who else has ip. It takes 600 ms when nobody answers.
	Probe(ctx context.Context, nic string, ip netip.Addr) (mac string, answered bool, err error)
	// Add gives nic the address; one that it has already is no error.
	Add(nic string, p netip.Prefix) error
	// Remove takes the address from nic and puts back what the kernel took with it. One
	// that is not there is no error.
	Remove(nic string, p netip.Prefix) error
	// Announce tells the network once that nic has ip, and returns the card's address.
	Announce(nic string, ip netip.Addr) (mac string, err error)
	// Carrier reports whether the card by which ip is reached has one.
	Carrier(ip netip.Addr) (nic string, up bool, err error)
	// Ping reports whether ip answers within a second.
	Ping(ctx context.Context, ip netip.Addr) bool
	// Prober opens a probe of one address.
	Prober(a Address) (Prober, error)
}

// Prober asks one address whether it lives. Send is called by one goroutine and does not
// wait; its error says that this machine could not ask.
type Prober interface {
	Send() error
	// Answers gets a value when an answer to a request of this prober came.
	Answers() <-chan struct{}
	Close()
}

// place finds the card and the prefix for an address: the card that was chosen, else the
// one in whose network the address is, else the first.
func place(nics []NIC, a Address) (nic NIC, p netip.Prefix, ok bool) {
	ip := a.IP()
	var found bool
	bits := a.Bits()
	for _, n := range nics {
		if a.NIC != "" && a.NIC != n.Name {
			continue
		}
		for _, have := range n.Addresses {
			if have.Addr() == ip || !have.Masked().Contains(ip) || found && a.NIC == "" {
				continue
			}
			nic, found = n, true
			if bits < 0 {
				bits = have.Bits()
			}
		}
		if !found && (a.NIC != "" || !ok) {
			nic, ok = n, true // for want of a better one
		}
	}
	if bits < 0 {
		bits = ip.BitLen()
	}
	return nic, netip.PrefixFrom(ip, bits), ok || found
}
