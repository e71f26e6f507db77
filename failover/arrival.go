package failover

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A socket on all addresses of a machine answers from the address that the route back
// suggests, which is the first of several on a card. Who asked another one takes that for
// a stranger's answer. So the address that was asked is noted with each request, and the
// answer sent from there.

// arrivals is a UDP socket that answers from the address that was asked.
type arrivals struct {
	*net.UDPConn
	buf, oob []byte
}

// request is what came in; its bytes are valid until the next one.
type request struct {
	msg   []byte
	from  netip.AddrPort
	asked []byte // control message that names the address it came to
}

// listenArrivals listens at address (host:port).
func listenArrivals(address string, longest int) (*arrivals, error) {
	at, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		return nil, err
	}
	if err := tellArrivals(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &arrivals{conn, make([]byte, longest), make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo)+unix.CmsgSpace(unix.SizeofInet6Pktinfo))}, nil
}

// tellArrivals has the kernel say with each packet which address it came to. A socket of
// IPv6 says so of IPv4 too.
func tellArrivals(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var err4, err6 error
	if err := raw.Control(func(fd uintptr) {
		err6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		err4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}); err != nil {
		return err
	}
	if err4 != nil && err6 != nil {
		return fmt.Errorf("ask for the addresses of packets: %w", err6)
	}
	return nil
}

func (a *arrivals) next() (r request, err error) {
	n, oobn, _, from, err := a.ReadMsgUDPAddrPort(a.buf, a.oob)
	if err != nil {
		return r, err
	}
	return request{a.buf[:n], from, arrivedAt(a.oob[:oobn])}, nil
}

// answer sends msg to whoever asked. What is lost is asked again.
func (a *arrivals) answer(r request, msg []byte) {
	_ = a.SetWriteDeadline(time.Now().Add(sendPatience))
	_, _, _ = a.WriteMsgUDPAddrPort(msg, r.asked, r.from)
}

// arrivedAt makes of what the kernel said of a packet what it wants to hear for its answer;
// nil: nothing is known.
func arrivedAt(oob []byte) []byte {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var v4 []byte
	for _, m := range list {
		switch {
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])}) // the card follows from the route
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			v4 = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
		}
	}
	return v4
}
