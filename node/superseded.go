package node

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// superseded reports that a replica's source does not know of it any more, because the
// connection of info takes its place: the next restoration of the same set, or the connection
// of a machine that lost its own with its disk. A source has one connection of a set to a
// target, and who adopts what is there wants to go on with it.
func (req *joinRequest) superseded(old *joinInfo) bool {
	info := &req.Info
	if old.Source != info.Source || old.key() == info.key() || old.Set != info.Set || old.Restore != info.Restore {
		return false
	}
	place := func(a, b joinRoot) bool { return a.From == b.From && a.Path == b.Path }
	return info.Restore || req.Adopt && slices.EqualFunc(old.Roots, info.Roots, place)
}

// dropSuperseded ends what is left of earlier connections, when what was received from them
// is applied.
func (n *Node) dropSuperseded(ctx context.Context, req *joinRequest) error {
	var left []joinInfo
	n.state.read(func(d *stateData) {
		for _, old := range d.Replicas {
			if req.superseded(&old) {
				left = append(left, old)
			}
		}
	})
	for _, old := range left {
		n.mu.Lock()
		r := n.replicas[old.key()]
		n.mu.Unlock()
		if r != nil {
			if !old.Restore {
				r.applyReceived(ctx)
			}
			r.stop()
			r.drop(ctx)
		}
		if err := n.state.update(func(d *stateData) { delete(d.Replicas, old.key()) }); err != nil {
			return err
		}
		if err := os.RemoveAll(n.stateDir(&old)); err != nil {
			return fmt.Errorf("drop an earlier connection: %w", err)
		}
		n.log.Info("replica of a connection that its source lost is taken over by the next", "source", old.Source, "set", old.Set, "connection", old.Connection)
	}
	return nil
}
