package node

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/failover"
)

// A source that was replaced. It learns so from its target, which refuses it (refuse), and
// by asking, at its start, whether somebody else answers for its addresses (F79a).

// restoreRequired reports whether the target refuses this connection because it stood in
// for this machine.
func (c *Connection) restoreRequired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := new(control.Error)
	return c.session == nil && errors.As(c.failure, &refused) && refused.Code == control.RestoreRequired
}

// lodger is the node as its leases see it.
type lodger struct{ standIn }

var _ failover.TenantHost = lodger{}

// aboutLease keeps the alert of a lease apart from others about that target.
func aboutLease(target string) event.About { return event.About{Target: target, Set: "lease"} }

func (h lodger) GivenUp(target string, addresses []string, why string) {
	h.n.events.Set(event.AddressesGivenUp, aboutLease(target), strings.Join(addresses, ", "), why)
}

func (h lodger) Back(target string) { h.n.events.Clear(aboutLease(target), event.AddressesGivenUp) }

func (h lodger) Trouble(target string, err error) {
	h.n.log.Warn("lease of own addresses", "target", target, "err", err)
}

// lookForDoubles is how often a source whose address somebody else answers for looks again.
const lookForDoubles = 15 * time.Second

// watchOwnAddresses looks whether the addresses of a machine that is source of others are
// its own alone. It ends when they are.
func (n *Node) watchOwnAddresses() {
	for n.isSource() {
		if !n.ownAddressesTaken() {
			return
		}
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(lookForDoubles):
		}
	}
}

// isSource reports whether this machine has a connection to another one.
func (n *Node) isSource() (found bool) {
	n.state.read(func(d *stateData) {
		for _, c := range d.Connections {
			address := c.Address
			if known := d.Machines[c.Target]; address == "" {
				address = known
			}
			found = found || address != "" && !isLoopback(address)
		}
	})
	return found
}

// ownAddressesTaken asks for all addresses of this machine.
func (n *Node) ownAddressesTaken() (taken bool) {
	kernel := failover.Kernel{}
	nics, err := kernel.NICs()
	if err != nil {
		n.log.Warn("own addresses not looked at", "err", err)
		return false
	}
	for _, nic := range nics {
		if mac, err := net.ParseMAC(nic.MAC); !nic.Up || err != nil || len(mac) != 6 {
			continue
		}
		for _, p := range nic.Addresses {
			taken = n.ownAddressTaken(nic.Name, p.Addr()) || taken
		}
	}
	return taken
}

func (n *Node) ownAddressTaken(nic string, ip netip.Addr) bool {
	if ip.IsLinkLocalUnicast() {
		return false
	}
	about := event.About{Dir: ip.String()}
	mac, answered, err := failover.Kernel{}.Probe(n.ctx, nic, ip)
	if err != nil || !answered {
		n.events.Clear(about, event.OwnAddressTaken)
		return false
	}
	n.events.Set(event.OwnAddressTaken, about, ip, mac)
	return true
}
