package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Duplicate address probes: how many, and how far apart. An answer on the same segment
// comes within milliseconds; RFC 5227 waits seconds for bridges that just came up, which
// a takeover cannot.
const (
	dupProbes   = 3
	dupInterval = 200 * time.Millisecond
)

// segment is a socket for frames on one network card.
type segment struct {
	fd    int
	index int
	mac   net.HardwareAddr
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// openSegment opens a socket that gets ARP, or neighbour advertisements.
func openSegment(nic string, v6 bool) (*segment, error) {
	l, err := net.InterfaceByName(nic)
	if err != nil {
		return nil, fmt.Errorf("network card %s: %w", nic, err)
	}
	if len(l.HardwareAddr) != 6 {
		return nil, fmt.Errorf("network card %s: no Ethernet", nic)
	}
	kind := uint16(etherARP)
	if v6 {
		kind = etherIPv6
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // 0: nothing before the filter stands
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s := &segment{fd: fd, index: l.Index, mac: l.HardwareAddr}
	if v6 {
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, neighboursOnly())
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(kind), Ifindex: l.Index})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("packet socket on %s: %w", nic, err)
	}
	return s, nil
}

// neighboursOnly is a classic filter that lets ICMPv6 of types 135 and 136 pass, so that
// other traffic cannot fill the socket.
func neighboursOnly() *unix.SockFprog {
	ins := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 20},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 58, Jf: 4},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 54},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: icmpv6NA, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: icmpv6NS, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(ins)), Filter: &ins[0]}
}

func (s *segment) close() { _ = unix.Close(s.fd) }

func (s *segment) send(frame []byte) error {
	to := &unix.SockaddrLinklayer{Ifindex: s.index, Halen: 6}
	copy(to.Addr[:], frame[:6])
	return unix.Sendto(s.fd, frame, 0, to)
}

// listen gives frames of others to see until it says enough, or limit has passed.
func (s *segment) listen(ctx context.Context, limit time.Duration, see func(frame []byte) (enough bool)) error {
	end := time.Now().Add(limit)
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(min(left, 100*time.Millisecond).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("listen: %w", err)
		}
		for {
			n, from, err := unix.Recvfrom(s.fd, buf, 0)
			if err != nil {
				break // nothing more, or the card went down: then nobody answers
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if see(buf[:n]) {
				return nil
			}
		}
	}
	return context.Cause(ctx)
}

// Probe asks the segment of nic who has ip.
func (Kernel) Probe(ctx context.Context, nic string, ip netip.Addr) (mac string, answered bool, err error) {
	claims := arpClaims
	if ip.Is6() {
		claims = ndClaims
	}
	return probeSegment(ctx, nic, ip, claims)
}

// Rivals is Probe, but one of takers that asks for ip without having it is found too: it is
// about to take it (RFC 5227 2.1.1, RFC 4862 5.4.3). Then has is false.
func (Kernel) Rivals(ctx context.Context, nic string, ip netip.Addr, takers []string) (mac string, found, has bool, err error) {
	claims, asks := arpClaims, arpAsks
	if ip.Is6() {
		claims, asks = ndClaims, ndAsks
	}
	mac, found, err = probeSegment(ctx, nic, ip, func(f []byte, ip netip.Addr) (net.HardwareAddr, bool) {
		if mac, ok := claims(f, ip); ok {
			has = true
			return mac, true
		}
		mac, ok := asks(f, ip)
		return mac, ok && slices.Contains(takers, mac.String())
	})
	return mac, found, has && found, err
}

func probeSegment(ctx context.Context, nic string, ip netip.Addr, claims func([]byte, netip.Addr) (net.HardwareAddr, bool)) (mac string, answered bool, err error) {
	s, err := openSegment(nic, ip.Is6())
	if err != nil {
		return "", false, fmt.Errorf("probe %s: %w", ip, err)
	}
	defer s.close()
	frame := arpProbe
	if ip.Is6() {
		frame = ndProbe
	}
	for range dupProbes {
		if err := s.send(frame(s.mac, ip)); err != nil {
			return "", false, fmt.Errorf("probe %s on %s: %w", ip, nic, err)
		}
		err := s.listen(ctx, dupInterval, func(f []byte) bool {
			who, ok := claims(f, ip)
			if ok && who.String() != s.mac.String() {
				mac, answered = who.String(), true
			}
			return answered
		})
		if err != nil || answered {
			return mac, answered, err
		}
	}
	return "", false, nil
}

// ownersWait is how long Owners listens.
const ownersWait = 100 * time.Millisecond

// Owners asks once and lists all who answer for ip within a tenth of a second.
func (Kernel) Owners(ctx context.Context, nic string, ip netip.Addr) (macs []string, err error) {
	s, err := openSegment(nic, ip.Is6())
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", ip, err)
	}
	defer s.close()
	frame, claims := arpProbe(s.mac, ip), arpClaims
	if ip.Is6() { // asked as by a neighbour: a probe would hinder one who is just taking it
		frame, claims = ndSolicit(s.mac, ownAddress(nic), ip), ndClaims
	}
	if err := s.send(frame); err != nil {
		return nil, fmt.Errorf("ask for %s on %s: %w", ip, nic, err)
	}
	err = s.listen(ctx, ownersWait, func(f []byte) bool {
		if mac, ok := claims(f, ip); ok && mac.String() != s.mac.String() && !slices.Contains(macs, mac.String()) {
			macs = append(macs, mac.String())
		}
		return false
	})
	return macs, err
}

// ownAddress is an IPv6 address of a card; :: if it has none.
func ownAddress(nic string) netip.Addr {
	if l, err := net.InterfaceByName(nic); err == nil {
		addrs, _ := l.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() {
				return p.Addr()
			}
		}
	}
	return netip.IPv6Unspecified()
}

// Announce tells the segment of nic that ip is here.
func (Kernel) Announce(nic string, ip netip.Addr) (mac string, err error) {
	s, err := openSegment(nic, ip.Is6())
	if err != nil {
		return "", fmt.Errorf("announce %s: %w", ip, err)
	}
	defer s.close()
	frames := [][]byte{}
	if ip.Is6() {
		frames = append(frames, ndAnnounce(s.mac, ip))
	} else {
		frames = arpAnnounce(s.mac, ip)
	}
	for _, f := range frames {
		if err := s.send(f); err != nil {
			return "", fmt.Errorf("announce %s on %s: %w", ip, nic, err)
		}
	}
	return s.mac.String(), nil
}
