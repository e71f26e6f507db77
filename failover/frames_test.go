package failover

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
)

var (
	ownMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip4    = netip.MustParseAddr("192.0.2.7")
	ip6    = netip.MustParseAddr("2001:db8::7")
)

// An announcement is a claim, of its own address only; a probe claims nothing.
func TestFramesClaim(t *testing.T) {
	for _, f := range arpAnnounce(ownMAC, ip4) {
		if mac, ok := arpClaims(f, ip4); !ok || !bytes.Equal(mac, ownMAC) || len(f) != minFrame {
			t.Errorf("announcement % x claims for %v: %v", f, mac, ok)
		}
		if _, ok := arpClaims(f, netip.MustParseAddr("192.0.2.8")); ok {
			t.Error("it claims another address")
		}
	}
	if _, ok := arpClaims(arpProbe(ownMAC, ip4), ip4); ok {
		t.Error("an ARP probe claims the address")
	}
	f := ndAnnounce(ownMAC, ip6)
	if mac, ok := ndClaims(f, ip6); !ok || !bytes.Equal(mac, ownMAC) {
		t.Errorf("advertisement % x claims for %v: %v", f, mac, ok)
	}
	if _, ok := ndClaims(ndProbe(ownMAC, ip6), ip6); ok {
		t.Error("a neighbour solicitation claims the address")
	}
	if mac, ok := arpAsks(arpProbe(ownMAC, ip4), ip4); !ok || !bytes.Equal(mac, ownMAC) {
		t.Error("an ARP probe does not ask")
	}
	if mac, ok := ndAsks(ndProbe(ownMAC, ip6), ip6); !ok || !bytes.Equal(mac, ownMAC) {
		t.Error("a solicitation without an address does not ask")
	}
	if _, ok := ndAsks(ndSolicit(ownMAC, netip.MustParseAddr("2001:db8::8"), ip6), ip6); ok {
		t.Error("a neighbour that wants to send is about to take the address")
	}
	if sum := icmpv6Sum(ip6, allNodes, f[54:]); sum != 0 { // over a message with its checksum
		t.Errorf("checksum of the advertisement is off by %x", sum)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(arpProbe(ownMAC, ip4))
	f.Add(ndAnnounce(ownMAC, ip6))
	f.Fuzz(func(_ *testing.T, b []byte) {
		arpClaims(b, ip4)
		ndClaims(b, ip6)
		arpAsks(b, ip4)
		ndAsks(b, ip6)
		_, _, _, _, _, _ = decodeAsk(b, 96)
		_, _, _, _, _, _ = decodeAnswer(b, 96)
		(&ping{}).answer(b)
		(&beat{signed: 96}).answer(b)
	})
}
