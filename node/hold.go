package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/capture/holder"
	"understudy/event"
)

// holderWait is how long a start waits for the daemon before to have ended: a killed
// one ends with its last system call. holderBusy is the wait before the data directory
// is known to be ours.
const (
	holderWait = 10 * time.Second
	holderBusy = time.Second
)

// openHolder finds or starts the process that keeps what outlives this one. Without one
// the node works, and a kill costs a difference mirror.
func (n *Node) openHolder(wait time.Duration) {
	if !n.cfg.Hold || n.holder != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	h, err := holder.Connect(ctx, holder.Config{Dir: n.cfg.Data, Grace: n.cfg.HoldGrace, Watchdog: n.cfg.Watchdog,
		Log: n.log, Alive: n.alive, Gone: n.holderGone})
	if err != nil {
		n.log.Error("no holder: a kill of this process will interrupt applications", "err", err)
		return
	}
	if note := h.Note(); note != "" {
		n.log.Error("the daemon before this one hung", "err", note)
	}
	n.holder = h
	n.tellGap()
}

// tellGap reports, once, that the holder gave directories back.
func (n *Node) tellGap() {
	gap, ok, err := holder.ReadGap(n.cfg.Data)
	if !ok {
		return
	}
	n.log.Error("changes were missed: no daemon came back in time, and directories were given back to applications",
		"since", gap.Time, "roots", gap.Roots, "err", errors.Join(err, errors.New(gap.Reason)))
	if err := holder.ForgetGap(n.cfg.Data); err != nil {
		n.log.Warn("record of a gap not removed", "err", err)
	}
}

// alive returns if the node does its work: whoever holds its lock lets go of it.
func (n *Node) alive() {
	n.mu.Lock()
	defer n.mu.Unlock()
}

// holderGone tells that the captures would end with this process, or no longer would.
func (n *Node) holderGone(gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for dir, c := range n.captures {
		switch {
		case c.stacked == nil:
		case gone:
			n.events.Set(event.HolderLost, event.About{Dir: dir}, dir)
		default:
			n.events.Clear(event.About{Dir: dir}, event.HolderLost)
		}
	}
}

// closeHolder ends the holder after a stop in good order: nothing is left to keep. A
// node that is being replaced leaves it everything.
func (n *Node) closeHolder() error {
	if n.holder == nil {
		return nil
	}
	if n.leaving.Load() {
		return n.holder.Close()
	}
	if err := n.holder.End(); err != nil {
		return fmt.Errorf("end holder: %w", err)
	}
	return nil
}

// CanHold reports whether captures can outlive a daemon of this user on this machine.
func CanHold() bool { return stackedPossible() == nil }
