package stream

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// relayPatience is how long a cluster may leave a frame unanswered, until its source is
	// told to ask how far the queue reaches.
	relayPatience = 5 * time.Second
	relayLook     = time.Second
)

// relay carries the frames of a source from this machine's own server, which the source
// reaches, to the target queue in a cluster, and the acknowledgements back. Each frame
// says which one it expects before it, so whatever the relay or the cluster loses is
// refused by the queue and sent again by the source.
type relay struct {
	st  *store
	in  *nats.Conn // to the own server
	end chan struct{}

	mu      sync.Mutex // guards what follows
	flying  map[uint64]relayed
	number  uint64
	refused uint64 // frames answered with an error of our own
}

// relayed is a frame the cluster has not acknowledged.
type relayed struct {
	reply string
	at    time.Time
}

// openRelay begins to carry frames sent to subject.
func (st *store) openRelay(subject string) (*relay, error) {
	in, err := st.srv.connect("relay")
	if err != nil {
		return nil, err
	}
	r := &relay{st: st, in: in, end: make(chan struct{}), flying: map[uint64]relayed{}}
	inbox := st.nc.NewInbox()
	acks, err := st.nc.Subscribe(inbox+".*", func(m *nats.Msg) { r.answered(m.Subject[len(inbox)+1:], m.Data) })
	var sub *nats.Subscription
	if err == nil {
		sub, err = in.Subscribe(subject, func(m *nats.Msg) { r.carry(inbox, m) })
	}
	if err == nil {
		err = sub.SetPendingLimits(maxFlying, maxPending)
	}
	if err == nil {
		err = in.Flush()
	}
	if err != nil {
		if acks != nil {
			_ = acks.Unsubscribe()
		}
		st.srv.disconnect(in)
		return nil, fmt.Errorf("relay to queue %s: %w", st.name, connError(err))
	}
	go r.watch()
	return r, nil
}

// carry passes one frame on.
func (r *relay) carry(inbox string, m *nats.Msg) {
	expect := m.Header.Get(jetstream.ExpectedLastSeqHeader)
	if m.Reply == "" || expect == "" {
		return // no source of ours sends such
	}
	r.mu.Lock()
	full := len(r.flying) >= maxFlying
	r.number++
	n := r.number
	if !full {
		r.flying[n] = relayed{m.Reply, time.Now()}
	}
	r.mu.Unlock()
	if full {
		r.refuse(m.Reply)
		return
	}
	out := &nats.Msg{Subject: r.st.subject, Reply: inbox + "." + strconv.FormatUint(n, 10), Data: m.Data,
		Header: nats.Header{jetstream.ExpectedLastSeqHeader: []string{expect}}}
	if err := r.st.nc.PublishMsg(out); err != nil {
		if reply, ok := r.take(n); ok {
			r.refuse(reply)
		}
	}
}

// take ends the waiting for an answer.
func (r *relay) take(n uint64) (reply string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.flying[n]
	delete(r.flying, n)
	return f.reply, ok
}

// answered passes an acknowledgement back. One without content is the server's own "nobody
// is there".
func (r *relay) answered(token string, data []byte) {
	n, err := strconv.ParseUint(strings.TrimPrefix(token, "."), 10, 64)
	if err != nil {
		return
	}
	reply, ok := r.take(n)
	switch {
	case !ok:
	case len(data) == 0:
		r.refuse(reply)
	default:
		_ = r.in.Publish(reply, data) // the source asks again if it is lost
	}
}

// noCluster is JetStream's answer when it is temporarily not available (10008).
const noCluster = `{"error":{"code":503,"err_code":10008,"description":"the target's messaging cluster does not answer"}}`

func (r *relay) refuse(reply string) {
	r.mu.Lock()
	r.refused++
	r.mu.Unlock()
	_ = r.in.Publish(reply, []byte(noCluster))
}

// watch gives up frames that were not answered in time.
func (r *relay) watch() {
	tick := time.NewTicker(relayLook)
	defer tick.Stop()
	for {
		select {
		case <-r.end:
			return
		case now := <-tick.C:
			for _, reply := range r.overdue(now) {
				r.refuse(reply)
			}
		}
	}
}

// overdue takes all frames under way if any waits for too long: those behind it cannot
// have been stored.
func (r *relay) overdue(now time.Time) (replies []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	late := false
	for _, f := range r.flying {
		late = late || now.Sub(f.at) > relayPatience
	}
	if !late {
		return nil
	}
	for n, f := range r.flying {
		replies = append(replies, f.reply)
		delete(r.flying, n)
	}
	return replies
}

func (r *relay) close() {
	close(r.end)
	r.st.srv.disconnect(r.in)
}
