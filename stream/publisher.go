package stream

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxFlying bounds the frames under way by number too: the stream's inbound queue holds
// 100,000 messages.
const maxFlying = 4096

// flight is a frame published and not yet acknowledged.
type flight struct {
	bytes int
	at    time.Time // its first record was logged
}

// publisher pushes frames into one stream, each saying which frame it expects before
// it. The first refusal, or an acknowledgement that is not the next one, ends it: what
// was under way may or may not be stored, and whoever goes on asks the stream first.
// One goroutine calls publish; acknowledgements arrive on another.
type publisher struct {
	nc      *nats.Conn
	subject string
	inbox   string
	sub     *nats.Subscription
	window  int // bytes under way
	onAck   func(frame uint64, f flight)
	onFail  func()

	mu     sync.Mutex // guards what follows
	sent   uint64     // last frame published
	acked  uint64     // last frame acknowledged
	flying []flight   // acked+1 to sent
	bytes  int
	moved  time.Time // last publish into an empty window, or acknowledgement
	err    error
	closed bool
	start  uint64 // acked at first
}

// newPublisher continues behind frame last. onAck and onFail are called without locks.
func newPublisher(nc *nats.Conn, subject string, last uint64, window int, onAck func(uint64, flight), onFail func()) (*publisher, error) {
	p := &publisher{nc: nc, subject: subject, inbox: nc.NewInbox(), window: window, onAck: onAck, onFail: onFail, sent: last, acked: last, start: last}
	var err error
	if p.sub, err = nc.Subscribe(p.inbox, p.ack); err != nil {
		return nil, fmt.Errorf("publish to %s: %w", subject, connError(err))
	}
	return p, nil
}

// room reports whether n bytes fit into the window. An empty window takes anything.
func (p *publisher) room(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil && (len(p.flying) == 0 || p.bytes+n <= p.window && len(p.flying) < maxFlying)
}

// publish sends frame number sent+1.
func (p *publisher) publish(data []byte, at time.Time) error {
	p.mu.Lock()
	if p.err != nil {
		defer p.mu.Unlock()
		return p.err
	}
	if len(p.flying) == 0 {
		p.moved = time.Now()
	}
	expect := p.sent
	p.sent++
	p.flying = append(p.flying, flight{len(data), at})
	p.bytes += len(data)
	p.mu.Unlock()
	m := &nats.Msg{Subject: p.subject, Reply: p.inbox, Data: data,
		Header: nats.Header{jetstream.ExpectedLastSeqHeader: []string{strconv.FormatUint(expect, 10)}}}
	if err := p.nc.PublishMsg(m); err != nil {
		err = fmt.Errorf("publish frame %d: %w", expect+1, connError(err))
		p.fail(err)
		return err
	}
	return nil
}

// pubAck is JetStream's answer to a publish.
type pubAck struct {
	Seq   uint64 `json:"seq"`
	Error *struct {
		ErrCode int    `json:"err_code"`
		Text    string `json:"description"`
	} `json:"error"`
}

func (p *publisher) ack(m *nats.Msg) {
	var a pubAck
	if len(m.Data) == 0 { // the server's own "nobody is there"
		p.fail(fmt.Errorf("publish to %s: %w: no such queue", p.subject, ErrNoAnswer))
		return
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		p.fail(fmt.Errorf("publish to %s: %w: acknowledgement: %w", p.subject, ErrStore, err))
		return
	}
	if a.Error != nil {
		p.fail(fmt.Errorf("publish to %s: %w: %s (%d)", p.subject, storeCode(a.Error.ErrCode), a.Error.Text, a.Error.ErrCode))
		return
	}
	p.mu.Lock()
	if p.err != nil || p.closed {
		p.mu.Unlock()
		return
	}
	if len(p.flying) == 0 || a.Seq != p.acked+1 {
		want := p.acked + 1
		p.mu.Unlock()
		p.fail(fmt.Errorf("publish to %s: %w: frame %d acknowledged, %d expected", p.subject, ErrBroken, a.Seq, want))
		return
	}
	f := p.flying[0]
	p.flying = p.flying[1:]
	p.acked++
	p.bytes -= f.bytes
	p.moved = time.Now()
	p.mu.Unlock()
	p.onAck(a.Seq, f)
}

func (p *publisher) fail(err error) {
	p.mu.Lock()
	first := p.err == nil && !p.closed
	if first {
		p.err = err
	}
	p.mu.Unlock()
	if first {
		p.onFail()
	}
}

// state returns the bytes under way, since when nothing moved (zero if nothing is under
// way), and the failure.
func (p *publisher) state() (bytes int, stuck time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.flying) > 0 {
		stuck = p.moved
	}
	return p.bytes, stuck, p.err
}

// works reports whether any frame was acknowledged.
func (p *publisher) works() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked > p.start
}

// close forgets what is under way; onAck may still run once.
func (p *publisher) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.sub.Unsubscribe()
}
