package node

import (
	"context"
	"time"

	"understudy/fileop"
	"understudy/stream"
)

// dropLeftovers deletes queues that nobody will open again: a killed source leaves that
// of its session, whose successor begins a new epoch, and a killed target may leave that
// of an epoch it had just given up. It is called
// before any session but those resumed begins.
func (n *Node) dropLeftovers() {
	ctx, cancel := context.WithTimeout(n.ctx, time.Minute)
	defer cancel()
	queues, err := n.srv.Stored(ctx)
	if err != nil {
		n.log.Warn("queues left by an earlier run not found", "err", err)
		return
	}
	for _, q := range queues {
		if q.Target && n.hasReplica(q) || n.resumes(q) {
			continue
		}
		if err := n.srv.DeleteStored(ctx, q); err != nil {
			n.log.Warn("queue left by an earlier run not deleted", "err", err)
			continue
		}
		n.log.Info("queue left by an earlier run deleted", "target", q.Target, "frames", q.Frames, "bytes", q.Bytes)
	}
}

// hasReplica reports whether q is the target queue of a remembered replica.
func (n *Node) hasReplica(q stream.Stored) (has bool) {
	n.state.read(func(d *stateData) {
		for _, r := range d.Replicas {
			if stream.Token(r.Source) == q.Source && stream.Token(r.Connection) == q.Connection && r.Epoch == q.Epoch {
				has = true
			}
		}
	})
	return has
}

// dropEpoch deletes the target queue of an epoch that did not open again and is given up.
func (n *Node) dropEpoch(ctx context.Context, info *joinInfo, epoch fileop.Epoch) {
	queues, err := n.srv.Stored(ctx)
	for _, q := range queues {
		if q.Target && q.Epoch == epoch && q.Source == stream.Token(info.Source) && q.Connection == stream.Token(info.Connection) {
			err = n.srv.DeleteStored(ctx, q)
		}
	}
	if err != nil {
		n.log.Warn("target queue of an ended epoch not deleted", "err", err)
	}
}
