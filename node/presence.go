package node

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"understudy/control"
	"understudy/stream"
)

// Who is there: every machine beats for those it is paired with, and hears their beats.
// The beats go over a connection of their own, so that they never wait behind data: one
// that either machine can make is enough for both.

// presence is what is known of the paired machines. Its methods may be called by several
// goroutines.
type presence struct {
	wake chan struct{} // beat now: something changed

	mu    sync.Mutex // guards what follows
	peers map[string]*neighbour
}

// neighbour is one paired machine.
type neighbour struct {
	link  *stream.Link // nil: its address is not known
	stops []func()     // of the subscriptions
	at    time.Time    // when it was heard last, by the monotonic clock; zero: never
	beat  beat
}

// beatVersion is raised when an older machine would misunderstand a beat.
const beatVersion = 1

// beat is what a machine says every HBExternalRate.
type beat struct {
	Version     int    `json:"version"`
	Name        string `json:"name"`
	Program     string `json:"program"`
	Connections int    `json:"connections"` // as a source
	Replicas    int    `json:"replicas"`    // as a target
}

// lookEvery is how often the paired machines are looked up, and lost ones dialled.
const lookEvery = time.Second

func newPresence() *presence {
	return &presence{wake: make(chan struct{}, 1), peers: map[string]*neighbour{}}
}

// keepPresence beats and listens until ctx ends.
func (n *Node) keepPresence(ctx context.Context) {
	defer n.presence.close()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var next time.Time
	for {
		n.lookAround(ctx)
		if every := n.conf().HeartbeatEvery; every > 0 && !time.Now().Before(next) {
			n.sendBeat()
			next = time.Now().Add(every)
		}
		wait := lookEvery
		if every := n.conf().HeartbeatEvery; every > 0 {
			wait = min(wait, max(time.Until(next), 0))
		}
		beat := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			beat.Stop()
			return
		case <-n.presence.wake:
			next = time.Time{}
		case <-beat.C:
		}
		beat.Stop()
	}
}

// sendBeat tells everybody who listens here, and those whom this machine reaches.
func (n *Node) sendBeat() {
	b := beat{Version: beatVersion, Name: n.cfg.Name, Program: Version()}
	n.mu.Lock()
	b.Connections, b.Replicas = len(n.conns), len(n.replicas)
	n.mu.Unlock()
	raw, subject := encodeJSON(b), stream.HeartbeatSubject(n.cfg.Name)
	if err := n.srv.Publish(subject, raw); err != nil {
		n.log.Debug("heartbeat not sent", "err", err)
	}
	for _, l := range n.presence.links() {
		if l.Up() {
			_ = l.Publish(subject, raw) // one that is down is dialled by itself
		}
	}
}

func (p *presence) links() (out []*stream.Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.peers {
		if b.link != nil {
			out = append(out, b.link)
		}
	}
	return out
}

// lookAround listens to every paired machine, and to no other.
func (n *Node) lookAround(ctx context.Context) {
	addresses := map[string]string{}
	n.state.read(func(d *stateData) {
		for name, addr := range d.Machines {
			addresses[name] = addr
		}
	})
	paired := map[string]bool{}
	for _, p := range n.keys.Peers() {
		paired[p.Name] = true
		addr := addresses[p.Name]
		if addr == "" {
			addr = p.Address
		}
		n.listenTo(ctx, p.Name, addr)
	}
	n.presence.keepOnly(paired)
}

// listenTo begins to listen to a machine, or follows it to another address.
func (n *Node) listenTo(ctx context.Context, name, addr string) {
	p := n.presence
	p.mu.Lock()
	b := p.peers[name]
	if b == nil {
		b = &neighbour{}
		p.peers[name] = b
	}
	link, subscribed := b.link, len(b.stops) > 0
	p.mu.Unlock()
	subject, heard := stream.HeartbeatSubject(name), func(data []byte) { n.heard(name, data) }
	var stops []func()
	if !subscribed {
		if stop, err := n.srv.Subscribe(subject, heard); err == nil {
			stops = append(stops, stop)
		} else {
			n.log.Warn("heartbeats not heard", "machine", name, "err", err)
		}
	}
	switch {
	case addr == "":
	case link != nil:
		link.Move(addr)
	default:
		l, err := stream.Dial(ctx, stream.LinkConfig{Addr: addr, Peer: name, Keys: n.keys, Later: true, ControlOnly: true, Log: n.log})
		if err != nil {
			n.log.Warn("machine not watched", "machine", name, "err", err)
			break
		}
		link = l
		if stop, err := l.Subscribe(subject, heard); err == nil {
			stops = append(stops, stop)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b.link, b.stops = link, append(b.stops, stops...)
}

// heard takes a beat.
func (n *Node) heard(name string, data []byte) {
	var b beat
	if json.Unmarshal(data, &b) != nil || b.Version != beatVersion || b.Name != name {
		n.log.Debug("heartbeat not understood", "machine", name)
		return
	}
	p := n.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	if peer := p.peers[name]; peer != nil {
		peer.at, peer.beat = time.Now(), b
	}
}

// keepOnly stops listening to machines that are paired no more.
func (p *presence) keepOnly(paired map[string]bool) {
	p.mu.Lock()
	var gone []*neighbour
	for name, b := range p.peers {
		if !paired[name] {
			gone = append(gone, b)
			delete(p.peers, name)
		}
	}
	p.mu.Unlock()
	for _, b := range gone {
		b.close()
	}
}

func (p *presence) close() { p.keepOnly(nil) }

func (b *neighbour) close() {
	for _, stop := range b.stops {
		stop()
	}
	if b.link != nil {
		b.link.Close()
	}
}

// lastHeard is when a paired machine was heard last, by a heartbeat; ok is false where
// it never was since the start of this daemon.
func (n *Node) lastHeard(name string) (at time.Time, ok bool) {
	n.presence.mu.Lock()
	defer n.presence.mu.Unlock()
	b := n.presence.peers[name]
	if b == nil || b.at.IsZero() {
		return time.Time{}, false
	}
	return b.at, true
}

// withPresence adds whether a machine is there: it was heard
// within HBTTL.
func (n *Node) withPresence(m control.Machine) control.Machine {
	at, ok := n.lastHeard(m.Name)
	if !ok {
		return m
	}
	since := time.Since(at)
	m.Online, m.HeardMS = since < n.conf().HeartbeatTTL, max(since.Milliseconds(), 1)
	n.presence.mu.Lock()
	defer n.presence.mu.Unlock()
	if b := n.presence.peers[m.Name]; b != nil {
		m.Program, m.Connections, m.Replicas = b.beat.Program, b.beat.Connections, b.beat.Replicas
	}
	return m
}
