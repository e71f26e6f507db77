package failover

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// Frames of Ethernet by which addresses are asked for and announced: ARP (RFC 826, probes
// and announcements of RFC 5227) and neighbour discovery (RFC 4861, RFC 4862 5.4).

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	icmpv6NS = 135 // neighbour solicitation
	icmpv6NA = 136 // neighbour advertisement

	minFrame = 60 // Ethernet's, without the checksum
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
)

func etherHeader(dst, src net.HardwareAddr, kind uint16) []byte {
	b := make([]byte, 0, 96)
	b = append(append(b, dst[:6]...), src[:6]...)
	return binary.BigEndian.AppendUint16(b, kind)
}

func padded(b []byte) []byte {
	for len(b) < minFrame {
		b = append(b, 0)
	}
	return b
}

func arpFrame(op uint16, src net.HardwareAddr, sender netip.Addr, dst net.HardwareAddr, target netip.Addr) []byte {
	b := etherHeader(broadcast, src, etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4) // Ethernet, IPv4, lengths
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, src[:6]...), sender.AsSlice()...)
	b = append(append(b, dst[:6]...), target.AsSlice()...)
	return padded(b)
}

// arpProbe asks who has ip without saying that anybody has (RFC 5227 2.1.1).
func arpProbe(src net.HardwareAddr, ip netip.Addr) []byte {
	return arpFrame(arpRequest, src, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), ip)
}

// arpAnnounce are both forms of "ip is at src": some hosts heed the one, some the other.
func arpAnnounce(src net.HardwareAddr, ip netip.Addr) [][]byte {
	return [][]byte{arpFrame(arpRequest, src, ip, make(net.HardwareAddr, 6), ip), arpFrame(arpReply, src, ip, broadcast, ip)}
}

// arpClaims reports who claims ip in an ARP frame.
func arpClaims(frame []byte, ip netip.Addr) (net.HardwareAddr, bool) {
	if len(frame) < 42 || binary.BigEndian.Uint16(frame[12:]) != etherARP || !bytes.Equal(frame[14:20], []byte{0, 1, 8, 0, 6, 4}) {
		return nil, false
	}
	sender, _ := netip.AddrFromSlice(frame[28:32])
	return net.HardwareAddr(bytes.Clone(frame[22:28])), sender == ip
}

// arpAsks reports who asks for ip in an ARP probe, as one does before taking it.
func arpAsks(frame []byte, ip netip.Addr) (net.HardwareAddr, bool) {
	if len(frame) < 42 || binary.BigEndian.Uint16(frame[12:]) != etherARP || !bytes.Equal(frame[14:22], []byte{0, 1, 8, 0, 6, 4, 0, arpRequest}) {
		return nil, false
	}
	sender, _ := netip.AddrFromSlice(frame[28:32])
	wanted, _ := netip.AddrFromSlice(frame[38:42])
	return net.HardwareAddr(bytes.Clone(frame[22:28])), sender.IsUnspecified() && wanted == ip
}

// multicastMAC is where Ethernet carries an IPv6 multicast (RFC 2464 7).
func multicastMAC(ip netip.Addr) net.HardwareAddr {
	b := ip.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// solicitedNode is the multicast address at which the owner of ip is asked.
func solicitedNode(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// icmpv6Frame wraps an ICMPv6 message of type kind.
func icmpv6Frame(src net.HardwareAddr, from, to netip.Addr, kind byte, body []byte) []byte {
	msg := append([]byte{kind, 0, 0, 0}, body...)
	binary.BigEndian.PutUint16(msg[2:], icmpv6Sum(from, to, msg))
	b := etherHeader(multicastMAC(to), src, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(msg)))
	b = append(b, 58, 255) // ICMPv6; neighbour discovery wants hop limit 255
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return append(b, msg...)
}

// icmpv6Sum is the checksum over the pseudo header and msg (RFC 4443 2.3).
func icmpv6Sum(from, to netip.Addr, msg []byte) uint16 {
	pseudo := append(append([]byte{}, from.AsSlice()...), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(msg)))
	pseudo = append(pseudo, 0, 0, 0, 58)
	return onesSum(append(pseudo, msg...))
}

func onesSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ndProbe asks who has ip (RFC 4862 5.4.2): the owner answers to all nodes.
func ndProbe(src net.HardwareAddr, ip netip.Addr) []byte {
	return icmpv6Frame(src, netip.IPv6Unspecified(), solicitedNode(ip), icmpv6NS, append(make([]byte, 4), ip.AsSlice()...))
}

// ndSolicit asks where ip is, as a neighbour at from does that wants to send (RFC 4861 4.3).
func ndSolicit(src net.HardwareAddr, from, ip netip.Addr) []byte {
	body := append(make([]byte, 4), ip.AsSlice()...)
	if !from.IsUnspecified() {
		body = append(append(body, 1, 1), src[:6]...) // source link-layer address
	}
	return icmpv6Frame(src, from, solicitedNode(ip), icmpv6NS, body)
}

// ndAnnounce says, unasked, that ip is at src, with the override flag (RFC 4861 7.2.6).
func ndAnnounce(src net.HardwareAddr, ip netip.Addr) []byte {
	body := append([]byte{0x20, 0, 0, 0}, ip.AsSlice()...)
	body = append(append(body, 2, 1), src[:6]...) // target link-layer address
	return icmpv6Frame(src, ip, allNodes, icmpv6NA, body)
}

// ndClaims reports who claims ip in a neighbour advertisement.
func ndClaims(frame []byte, ip netip.Addr) (net.HardwareAddr, bool) {
	if len(frame) < 14+40+24 || binary.BigEndian.Uint16(frame[12:]) != etherIPv6 || frame[20] != 58 || frame[21] != 255 || frame[54] != icmpv6NA {
		return nil, false
	}
	target, _ := netip.AddrFromSlice(frame[62:78])
	return net.HardwareAddr(bytes.Clone(frame[6:12])), target == ip
}

// ndAsks reports who asks for ip in a neighbour solicitation without an address of its
// own, as one does before taking it.
func ndAsks(frame []byte, ip netip.Addr) (net.HardwareAddr, bool) {
	if len(frame) < 14+40+24 || binary.BigEndian.Uint16(frame[12:]) != etherIPv6 || frame[20] != 58 || frame[21] != 255 || frame[54] != icmpv6NS {
		return nil, false
	}
	from, _ := netip.AddrFromSlice(frame[22:38])
	target, _ := netip.AddrFromSlice(frame[62:78])
	return net.HardwareAddr(bytes.Clone(frame[6:12])), from.IsUnspecified() && target == ip
}
