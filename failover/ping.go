package failover

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Types of ICMP and ICMPv6 echo.
const (
	echoRequest, echoReply   = 8, 0
	echoRequest6, echoReply6 = 128, 129
	pingBytes                = 8 + 16 // header, token
)

// ping is an ICMP echo probe. A token of its own tells its answers from those to others,
// and from answers to a prober before it.
type ping struct {
	conn    *net.IPConn
	v6      bool
	token   [16]byte
	seq     uint16
	answers chan struct{}
	done    sync.WaitGroup
}

func newPing(ip netip.Addr) (*ping, error) {
	network := "ip4:icmp"
	if ip.Is6() {
		network = "ip6:ipv6-icmp"
	}
	conn, err := net.DialIP(network, nil, &net.IPAddr{IP: ip.AsSlice()})
	if err != nil {
		return nil, fmt.Errorf("ping %s: %w", ip, err)
	}
	p := &ping{conn: conn, v6: ip.Is6(), answers: make(chan struct{}, 1)}
	_, _ = rand.Read(p.token[:])
	p.done.Go(p.read)
	return p, nil
}

// Send asks once. That nobody is there is no error but no answer; an error says that this
// machine could not ask.
func (p *ping) Send() error {
	p.seq++
	b := make([]byte, pingBytes)
	b[0] = echoRequest
	if p.v6 {
		b[0] = echoRequest6
	}
	copy(b[4:6], p.token[:2])
	binary.BigEndian.PutUint16(b[6:], p.seq)
	copy(b[8:], p.token[:])
	if !p.v6 { // the kernel does it for ICMPv6
		binary.BigEndian.PutUint16(b[2:], onesSum(b))
	}
	return transmit(p.conn, b)
}

// sendPatience is how long a request may wait for room. A network card that sends nothing
// any more, though it has a carrier, leaves none, and would else be waited for.
const sendPatience = 20 * time.Millisecond

// transmit sends a request. What routers and kernels said of requests before (ICMP errors)
// comes up as the error of this one: it is sent again, and an error that stays is of now.
func transmit(conn net.Conn, b []byte) error {
	_ = conn.SetWriteDeadline(time.Now().Add(sendPatience))
	_, err := conn.Write(b)
	if err != nil {
		_, err = conn.Write(b)
	}
	return unable(err)
}

// unable is err, if it says that this machine could not ask; nil if the question is as good
// as asked. That a host, or the network where it is, cannot be reached (EHOSTUNREACH: nobody
// answers for the address on the segment, or a route says so; EHOSTDOWN; ECONNREFUSED: its
// kernel said so of a request before) is silence of the source, as a dead one causes it.
// All else is this machine's own: no route (ENETUNREACH), a card that is down (ENETDOWN,
// ENODEV, ENXIO), its own packet filter or a forbidding route (EPERM, EACCES), a sending
// address that is gone (EINVAL, EADDRNOTAVAIL), no IPv6 (EAFNOSUPPORT), no room or memory
// (EAGAIN, ENOBUFS, ENOMEM, EMFILE): nothing was asked, and a living source would be as
// silent.
func unable(err error) error {
	for _, silence := range []error{unix.EHOSTUNREACH, unix.EHOSTDOWN, unix.ECONNREFUSED} {
		if errors.Is(err, silence) {
			return nil
		}
	}
	return err
}

func (p *ping) Answers() <-chan struct{} { return p.answers }

func (p *ping) Close() {
	_ = p.conn.Close()
	p.done.Wait()
}

// read takes answers until the socket is closed.
func (p *ping) read() { takeAnswers(p.conn.ReadFromIP, p.answers, p.answer) }

// takeAnswers reads packets until the socket is closed and tells of those that are answers.
func takeAnswers[A any](read func([]byte) (int, A, error), answers chan<- struct{}, answer func([]byte) bool) {
	buf := make([]byte, 2048)
	for {
		n, _, err := read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && answer(buf[:n]) {
			notify(answers)
		}
	}
}

// notify leaves a value in a channel that has room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// answer reports whether b answers a request of this prober.
func (p *ping) answer(b []byte) bool {
	want := byte(echoReply)
	if p.v6 {
		want = echoReply6
	}
	return len(b) == pingBytes && b[0] == want && b[1] == 0 && [16]byte(b[8:24]) == p.token
}
