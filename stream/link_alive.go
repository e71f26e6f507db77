package stream

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// How soon a line that was bad and is good again carries data. Every wait is bounded,
// so that the sum stays below 5 s:
//
//   - Data nobody acknowledges is sent again at doubling intervals. userTimeout ends the
//     connection 5 s after the first loss, so the longest wait for the next attempt, or for
//     the end, is about half of that, 2.6 s.
//   - A connection on which nothing is under way is asked every controlPing. Two pings
//     without an answer end it: at most 3 s. So a peer that vanished without a word, or an
//     address that changed here or there, is noticed.
//   - Dialling sends its first packet again after 1 and 3 s and gives up after dialTimeout,
//     4 s: at most 2 s between attempts. The next dial comes reconnectWait to twice that
//     later, about 0.2 s.
//   - The bulk connection is not pinged that often, since a ping may wait behind frames on
//     a slow line. When the control connection had to be dialled anew, the bulk connection
//     has proveTimeout to show that it lives; else it is dialled anew too.

// proveTimeout is how long the bulk connection may take to answer after the control
// connection was lost.
const proveTimeout = 500 * time.Millisecond

// heardConn counts what was heard of the peer.
type heardConn struct {
	net.Conn
	bytes atomic.Uint64
}

func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(uint64(n))
	return n, err
}

// opened keeps hold of a new connection. The client library itself can be stuck in a write
// to a peer that does not listen; closing the connection beneath ends that.
func (l *Link) opened(conn int, c net.Conn) net.Conn {
	h := &heardConn{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.heard[conn]; old != nil {
		_ = old.Close() // the client library forgets one that is refused after it was made
	}
	l.heard[conn] = h
	if l.held { // since it was dialled
		_ = h.Close()
	}
	return h
}

// reconnected notes that a connection is back, and has the other prove itself.
func (l *Link) reconnected(conn int) {
	l.note(conn, true)
	if conn != controlConn {
		return
	}
	l.mu.Lock()
	bulk, h := l.bulk, l.heard[bulkConn]
	l.mu.Unlock()
	if bulk != nil && h != nil {
		go proveAlive(bulk, h)
	}
}

// proveAlive has nc dialled anew unless something is heard on its connection h.
func proveAlive(nc *nats.Conn, h *heardConn) {
	before := h.bytes.Load()
	go func() { _ = nc.FlushTimeout(proveTimeout) }() // a ping; ends with h at the latest
	time.Sleep(proveTimeout)
	if h.bytes.Load() == before {
		_ = h.Close() // it may be closed already
	}
}

// address is where the peer is dialled next.
func (l *Link) address() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

// Move has the peer dialled at another address from now on, and both connections made
// anew. An attempt that is under way at the old address ends first, within 4 s.
func (l *Link) Move(addr string) {
	l.mu.Lock()
	same, heard := l.addr == addr, l.heard
	l.addr = addr
	l.mu.Unlock()
	if same {
		return
	}
	for _, h := range heard {
		if h != nil {
			_ = h.Close()
		}
	}
}
