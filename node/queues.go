package node

import (
	"context"

	"understudy/event"
)

// How full the queues are, and who is told (B6.29).

// usage is how full the source queue of a session is.
type usage struct {
	bytes       int64 // in memory and on disk, frames included that only wait for confirmation
	limit       int64 // what memory and disk may hold
	percent     int
	mirrorBytes int64 // mirror records under way
	transmitted bool  // the target has received every operation
}

func (s *session) usage() usage {
	js, ts := s.journal.Stats(), s.sender.Stats()
	u := usage{limit: js.DiskLimit + js.MemoryLimit, mirrorBytes: js.MirrorBytes, transmitted: ts.Op >= js.LastOp}
	if js.QueuedOps > 0 {
		u.bytes = int64(js.StoredBytes) + js.MemoryBytes
	}
	u.percent = percent(u.bytes, u.limit)
	return u
}

// percent is a part of limit, 100 at most; of nothing everything is used.
func percent(part, limit int64) int {
	if limit <= 0 {
		return 100
	}
	return int(min(100, max(0, float64(part)*100/float64(limit))))
}

// examineQueues puts the limits in force into effect and tells of queues whose usage
// crosses the threshold. It is called by one goroutine at a time.
func (n *Node) examineQueues(ctx context.Context) {
	cfg := n.conf()
	n.mu.Lock()
	conns := make([]*Connection, 0, len(n.conns))
	for _, c := range n.conns {
		conns = append(conns, c)
	}
	reps := make([]*replica, 0, len(n.replicas))
	for _, r := range n.replicas {
		reps = append(reps, r)
	}
	n.mu.Unlock()
	for _, c := range conns {
		s := c.current()
		if s == nil {
			continue
		}
		if err := s.journal.SetLimits(cfg.QueueLimit, cfg.MemoryLimit); err != nil {
			c.log.Warn("queue not limited", "err", err)
		}
		n.queueAlert(c.about(), s.usage().percent, cfg.QueueAlert, "source queue to "+c.cfg.Target)
	}
	for _, r := range reps {
		r.examineQueue(ctx, cfg)
	}
}

// examineQueue is that of a target queue.
func (r *replica) examineQueue(ctx context.Context, cfg *Config) {
	if r.brokenBy() != "" {
		return
	}
	if err := r.recv.SetLimit(cfg.QueueLimit); err != nil {
		r.log.Warn("queue not limited", "err", err)
	}
	used, limit, err := r.recv.Usage(ctx)
	if err != nil {
		return // its own trouble is told where it is used
	}
	r.mu.Lock()
	r.queueUsed, r.queueLimit = used, limit
	r.mu.Unlock()
	r.n.queueAlert(r.about(), percent(used, limit), cfg.QueueAlert, "target queue from "+r.info.Source)
}

// queueAlert raises at the threshold and clears below it. 0: nobody is told.
func (n *Node) queueAlert(about event.About, percent, threshold int, which string) {
	switch {
	case threshold == 0 || percent < threshold:
		n.events.Clear(about, event.QueueUsage)
	case !n.holds(about, event.QueueUsage): // its text keeps the usage of that moment
		n.events.Set(event.QueueUsage, about, which, percent, threshold)
	}
}

// holds reports whether an alert about something holds.
func (n *Node) holds(about event.About, id event.ID) bool {
	for _, a := range n.events.Alerts(&about) {
		if a.ID == id {
			return true
		}
	}
	return false
}
