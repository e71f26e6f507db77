package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/internal/testnode"
)

// sniffer keeps what TCP carries past one interface, by flow, in the order it was seen.
// Nothing is lost on a virtual wire, and what is sent twice does no harm here.
type sniffer struct {
	fd   int
	done chan struct{}

	mu    sync.Mutex // guards what follows
	flows map[string][]byte
	total int
}

const (
	maxSniffed = 256 << 20 // bytes of a whole test
	frameMax   = 1 << 17   // a virtual interface hands on more than one segment at a time
)

// sniff listens on a device of a namespace until the end of the test.
func sniff(t *testing.T, ns *testnode.Namespace, device string) *sniffer {
	t.Helper()
	s := &sniffer{done: make(chan struct{}), flows: map[string][]byte{}}
	err := ns.Do(func() (err error) {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		ifi, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) // the statistics tell what is lost
		_ = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go s.run(stop)
	t.Cleanup(func() { close(stop); <-s.done; _ = unix.Close(s.fd) })
	return s
}

func (s *sniffer) run(stop <-chan struct{}) {
	defer close(s.done)
	buf := make([]byte, frameMax)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, _, err := unix.Recvfrom(s.fd, buf, 0)
		if err == nil {
			s.keep(buf[:n])
		} else if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// keep adds the payload of one Ethernet frame with TCP over IPv4.
func (s *sniffer) keep(f []byte) {
	const eth = 14
	if len(f) < eth+20 || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IP || f[eth+9] != unix.IPPROTO_TCP {
		return
	}
	ip := f[eth:]
	head := int(ip[0]&15) * 4
	if len(ip) < head+20 {
		return
	}
	tcp := ip[head:]
	off := int(tcp[12]>>4) * 4
	if len(tcp) <= off {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total += len(tcp) - off; s.total > maxSniffed {
		return
	}
	flow := string(ip[12:20]) + string(tcp[:4])
	s.flows[flow] = append(s.flows[flow], tcp[off:]...)
}

// has reports whether a flow carries a text, and how much all of them carry.
func (s *sniffer) has(text string) (found bool, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.flows {
		found = found || bytes.Contains(b, []byte(text))
	}
	return found, s.total
}

// lost is how many frames the kernel could not hand over.
func (s *sniffer) lost(t *testing.T) uint32 {
	t.Helper()
	st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		t.Fatal(err)
	}
	return st.Drops
}
