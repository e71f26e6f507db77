package testnode

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards TCP connections to one address and damages them as told. Its own
// address stays the same whatever happens. Its methods may be called by several
// goroutines at once.
type Proxy struct {
	to string
	ln net.Listener

	mu      sync.Mutex // guards what follows
	rng     *rand.Rand
	fault   Fault
	corrupt [2]int // bytes still to be damaged, by direction
	damaged int    // bytes damaged so far
	changed chan struct{}
	conns   map[net.Conn]bool
	closed  bool
	wait    sync.WaitGroup
}

// Direction of bytes, as the one who dials sees it.
type Direction int

// The directions.
const (
	Forth Direction = iota // from the dialling side
	Back
)

// Fault is a state of the line. The zero value is a good one.
type Fault struct {
	Refuse bool    // connections are closed as soon as they come
	Hold   [2]bool // by Direction: bytes are kept, connections stay open
	Rate   int     // bytes a second of each connection and direction; 0: as fast as it goes
}

// NewProxy listens on a free port and forwards to address. The end of the test ends it.
func NewProxy(t testing.TB, address string, seed uint64) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{to: address, ln: ln, rng: rand.New(rand.NewPCG(seed, 1)), changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is where to connect to.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Set changes the state of the line for all connections.
func (p *Proxy) Set(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	p.announce()
}

func (p *Proxy) announce() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut closes every connection; new ones come as the state of the line allows.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		// Without lingering: what is under way is lost, as behind a pulled cable.
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

// Corrupt flips a bit in each of the next n reads of a direction.
func (p *Proxy) Corrupt(d Direction, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.corrupt[d] = n
}

// Damaged counts the bytes damaged so far.
func (p *Proxy) Damaged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.damaged
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.fault = Fault{}
	p.announce()
	p.mu.Unlock()
	_ = p.ln.Close()
	p.Cut()
	p.wait.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.fault.Refuse
		p.mu.Unlock()
		if refuse {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
			continue
		}
		p.wait.Go(func() { p.join(c) })
	}
}

// join carries one connection until either end is closed.
func (p *Proxy) join(in net.Conn) {
	out, err := net.DialTimeout("tcp", p.to, 5*time.Second)
	if err != nil || !p.keep(in, out) {
		_ = in.Close()
		if out != nil {
			_ = out.Close()
		}
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.carry(Forth, in, out) })
	both.Go(func() { p.carry(Back, out, in) })
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, in)
	delete(p.conns, out)
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

// carry copies one direction. Its end is the end of both.
func (p *Proxy) carry(d Direction, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			p.pass(d, buf[:n])
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits as the state of the line wants and damages b if it is its turn.
func (p *Proxy) pass(d Direction, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.fault.Hold[d] && !p.closed {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
	if p.fault.Rate > 0 && !p.closed {
		took, changed := time.Duration(len(b))*time.Second/time.Duration(p.fault.Rate), p.changed
		p.mu.Unlock()
		select {
		case <-time.After(took):
		case <-changed:
		}
		p.mu.Lock()
	}
	if p.corrupt[d] > 0 {
		p.corrupt[d]--
		p.damaged++
		b[p.rng.IntN(len(b))] ^= 1 << p.rng.IntN(8)
	}
}
