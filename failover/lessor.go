package failover

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// lessor is the target's side of a lease: it renews the source's, in every phase.
type lessor struct {
	s    *sentry
	conn *net.UDPConn

	mu     sync.Mutex // guards what follows
	number uint64     // of the last ask
	echo   echo
	state  byte
	at     time.Time // when the source answered last
	macs   map[netip.Addr]string
	looked time.Time // when the network cards were looked at
}

// Bounds of the time between two renewals, which is a twentieth of the time to fail, and
// how often the network cards are looked at.
const (
	minRenewal = 40 * time.Millisecond
	maxRenewal = time.Second
	cardsEvery = 5 * time.Second
)

// lend renews the source's lease until ctx ends. Nothing of a takeover depends on it.
func (s *sentry) lend(ctx context.Context) {
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		s.m.host.Tell(StepFailed, s.source, s.source, "lease", err)
		return
	}
	l := &lessor{s: s, conn: conn, macs: map[netip.Addr]string{}}
	s.mu.Lock()
	s.lessor = l
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var wait sync.WaitGroup
	wait.Go(l.read)
	defer wait.Wait()
	defer conn.Close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.gone:
			r := s.current()
			r.Started, r.Phase = false, Watching
			for range 3 {
				l.renew(&r)
			}
			return
		case <-timer.C:
			r := s.current()
			timer.Reset(l.renew(&r))
		}
	}
}

// lease is what the source is told now.
func (l *lessor) lease(r *record) (out Lease) {
	out = Lease{Target: l.s.m.host.Name(), Source: l.s.source, Witnesses: r.Monitor.Witnesses, LimitMS: (time.Hour).Milliseconds()}
	for _, a := range r.Monitor.Addresses {
		if a.Watch {
			out.LimitMS = min(out.LimitMS, a.Timeout().Milliseconds())
		}
	}
	for _, a := range r.moving() {
		if !slices.Contains(r.Skip, a.IP().String()) { // what is not taken over stays where it is
			out.Addresses = append(out.Addresses, Leased{IP: a.IP(), MAC: l.macs[a.IP()]})
		}
	}
	out.Void = r.Monitor.NoLease || len(out.Addresses) == 0 || !r.Started && r.Phase == Watching
	out.Taken = !out.Void && r.taken()
	return out
}

// taken: the source has to be gone from its addresses now. While it is still asked who
// else has them, a source that lives must show itself.
func (r *record) taken() bool {
	switch r.Phase {
	case FailedOver:
		return true
	case FailingOver:
		from := "addresses"
		if r.Order.Force || r.Order.Switch {
			from = PreFailover // what was received is applied by then
		}
		return stepAt(r.Step) >= stepAt(from)
	case FailingBack:
		return len(r.Taken) > 0
	}
	return false
}

// renew tells the source, at all its addresses that are not here, and returns when to do
// so again.
func (l *lessor) renew(r *record) time.Duration {
	nics := l.look(r)
	lease := l.lease(r)
	if lease.Void && !r.Lent {
		return maxRenewal
	}
	l.mu.Lock()
	l.number++
	msg, err := encodeAsk(l.number, l.echo, &lease)
	l.mu.Unlock()
	if err != nil {
		return maxRenewal
	}
	msg = append(msg, l.s.m.host.Sign(msg)...)
	_ = l.conn.SetWriteDeadline(time.Now().Add(sendPatience))
	for _, a := range r.Monitor.Addresses {
		if a.Watch && !holds(nics, a.IP()) {
			_, _ = l.conn.WriteToUDPAddrPort(msg, netip.AddrPortFrom(a.IP(), uint16(a.Port))) // the next one asks again
		}
	}
	return min(max(lease.limit()/20, minRenewal), maxRenewal)
}

// look finds the network cards for the addresses, now and then.
func (l *lessor) look(r *record) []NIC {
	nics, err := l.s.m.net.NICs()
	if err != nil || time.Since(l.looked) < cardsEvery && len(l.macs) > 0 {
		return nics
	}
	l.looked, l.macs = time.Now(), map[netip.Addr]string{}
	for _, a := range r.moving() {
		if nic, _, ok := place(nics, a); ok {
			l.macs[a.IP()] = nic.MAC
		}
	}
	return nics
}

// read takes the source's answers until the socket is closed.
func (l *lessor) read() {
	buf := make([]byte, 2048)
	for {
		n, err := l.conn.Read(buf)
		if err != nil {
			if strings.Contains(err.Error(), net.ErrClosed.Error()) {
				return
			}
			continue
		}
		l.take(buf[:n])
	}
}

func (l *lessor) take(b []byte) {
	number, e, state, msg, sig, err := decodeAnswer(b, l.s.m.signed)
	if err != nil || !l.s.m.host.Signed(l.s.source, msg, sig) {
		return
	}
	l.mu.Lock()
	if number > l.number || l.echo.nonce == e.nonce && e.number <= l.echo.number {
		l.mu.Unlock()
		return // not of now
	}
	l.echo, l.state, l.at = e, state, time.Now()
	l.mu.Unlock()
	if lent := state != leaseNone; lent != l.s.current().Lent {
		if err := l.s.change(func(r *record) { r.Lent = lent }); err != nil {
			l.s.trouble("record", err)
		}
	}
}

// leaseWord says for people what the source does when it is cut off.
func (s *sentry) leaseWord(r *record) string {
	switch {
	case r.Monitor.NoLease:
		return "off: the source keeps its addresses when it is cut off"
	case s.lessor == nil:
		return ""
	}
	l := s.lessor
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.at.IsZero():
		return "the source did not answer about it yet"
	case l.state == leaseArmed:
		return "the source gives its addresses up when it is cut off"
	case l.state == leaseOff:
		return "the source has given its addresses up"
	case len(r.Monitor.Witnesses) == 0:
		return "no witness: the source keeps its addresses when it is cut off"
	}
	return "the source hears no witness: it keeps its addresses when it is cut off"
}
