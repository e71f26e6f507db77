package failover

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// The service probe asks the source's daemon itself, over UDP (F12): a lost packet is one
// packet, where TCP would be silent until it has sent it again. The answer carries the
// machine's signature, so that nobody else can keep a dead source alive, and an address
// that another machine answers for is no living source. A request is as long as its
// answer, so that nobody can be flooded by way of it.
//
//	magic 8 | token 16 | number 8 | key and signature (zeros in a request)
const (
	beatAsk    = "USTASK01"
	beatAnswer = "USTANS01"
	beatHead   = 8 + 16 + 8
)

// Keys signs and verifies answers.
type Keys interface {
	Sign(msg []byte) []byte
	Signed(machine string, msg, sig []byte) bool
}

// maxBeats bounds the answers of a daemon, each some 50 µs of work, in a second.
const maxBeats = 2000

// ServeBeats answers service probes, and what targets ask about leases, at address
// (host:port) until ctx ends.
func ServeBeats(ctx context.Context, address string, keys Keys, tenant *Tenant, signed int) error {
	conn, err := listenArrivals(address, maxLease)
	if err != nil {
		return fmt.Errorf("answer service probes: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	answerBeats(conn, keys, tenant, signed)
	return nil
}

// answerBeats answers until conn is closed.
func answerBeats(conn *arrivals, keys Keys, tenant *Tenant, signed int) {
	var second int64
	count := 0
	for {
		r, err := conn.next()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if now := time.Now().Unix(); now != second {
			second, count = now, 0
		}
		if count++; err != nil || count > maxBeats {
			continue
		}
		if tenant != nil && len(r.msg) >= 8 && string(r.msg[:8]) == leaseAsk {
			if msg := tenant.Answer(r.msg, r.from.Addr()); msg != nil {
				conn.answer(r, msg)
			}
			continue
		}
		if len(r.msg) != beatHead+signed || string(r.msg[:8]) != beatAsk {
			continue
		}
		msg := append([]byte(beatAnswer), r.msg[8:beatHead]...)
		conn.answer(r, append(msg, keys.Sign(msg)...))
	}
}

// beat is a service probe.
type beat struct {
	conn    net.Conn
	machine string
	keys    Keys
	signed  int
	token   [16]byte
	answers chan struct{}
	done    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	sent  uint64
	heard uint64 // last request answered
}

// NewBeat probes the daemon of a machine at ip.
func NewBeat(machine string, ip netip.Addr, port int, keys Keys, signed int) (Prober, error) {
	conn, err := net.Dial("udp", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("service probe of %s: %w", ip, err)
	}
	b := &beat{conn: conn, machine: machine, keys: keys, signed: signed, answers: make(chan struct{}, 1)}
	_, _ = rand.Read(b.token[:])
	b.done.Go(b.read)
	return b, nil
}

func (b *beat) Send() error {
	b.mu.Lock()
	b.sent++
	n := b.sent
	b.mu.Unlock()
	msg := append([]byte(beatAsk), b.token[:]...)
	msg = binary.BigEndian.AppendUint64(msg, n)
	return transmit(b.conn, append(msg, make([]byte, b.signed)...))
}

func (b *beat) Answers() <-chan struct{} { return b.answers }

func (b *beat) Close() {
	_ = b.conn.Close()
	b.done.Wait()
}

func (b *beat) read() {
	takeAnswers(func(buf []byte) (int, struct{}, error) {
		n, err := b.conn.Read(buf)
		return n, struct{}{}, err
	}, b.answers, b.answer)
}

// answer reports whether msg answers a request that was not answered before.
func (b *beat) answer(msg []byte) bool {
	if len(msg) != beatHead+b.signed || string(msg[:8]) != beatAnswer || !bytes.Equal(msg[8:24], b.token[:]) {
		return false
	}
	n := binary.BigEndian.Uint64(msg[24:])
	b.mu.Lock()
	defer b.mu.Unlock()
	if n <= b.heard || n > b.sent || !b.keys.Signed(b.machine, msg[:beatHead], msg[beatHead:]) {
		return false
	}
	b.heard = n
	return true
}

// either is two probes of one address: an answer to one is an answer.
type either struct {
	all     []Prober
	answers chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup
}

func newEither(all ...Prober) *either { return newEitherTo(make(chan struct{}, 1), all...) }

// newEitherTo tells of answers in a channel with room for one.
func newEitherTo(answers chan struct{}, all ...Prober) *either {
	e := &either{all: all, answers: answers, stop: make(chan struct{})}
	for _, p := range all {
		e.done.Go(func() {
			for {
				select {
				case <-e.stop:
					return
				case <-p.Answers():
					notify(e.answers)
				}
			}
		})
	}
	return e
}

// Send asks by all; one that could be asked is enough.
func (e *either) Send() error {
	var errs []error
	for _, p := range e.all {
		if err := p.Send(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < len(e.all) {
		return nil
	}
	return errors.Join(errs...)
}

func (e *either) Answers() <-chan struct{} { return e.answers }

func (e *either) Close() {
	close(e.stop)
	for _, p := range e.all {
		p.Close()
	}
	e.done.Wait()
}
