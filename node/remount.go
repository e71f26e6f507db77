package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"understudy/capture/stacked"
	"understudy/event"
)

// A mount that somebody else took away, or whose connection somebody ended, is made again:
// the sessions on it end, applications meet the native directory meanwhile, and the next
// sessions compare. Who takes it away again and again wants it gone.

const (
	// remountMax is how often within remountWithin a mount is made again.
	remountMax    = 5
	remountWithin = 10 * time.Minute
	// remountTries bounds the attempts of one time: about two minutes with the waits
	// between them, which double from remountFirst to remountLast.
	remountTries = 10
	remountFirst = 100 * time.Millisecond
	remountLast  = 30 * time.Second
)

// errMountLost: sessions wait until the mount is made again.
var errMountLost = errors.New("its mount was taken away and is being made again")

// loses decides what follows the end of a capture: whether its mount is to be made again.
// Until it is, or that is given up, the capture stays where sessions find it, so that none
// goes on with a backend of less fidelity. n.mu is held.
func (n *Node) loses(c *captured) bool {
	if !errors.Is(c.err, stacked.ErrUnmounted) || c.ctx.Err() != nil || !slices.Contains(n.mounts(), c.dir) {
		return false
	}
	now := time.Now()
	c.losses = append(c.losses, now)
	c.losses = slices.DeleteFunc(c.losses, func(at time.Time) bool { return now.Sub(at) > remountWithin })
	c.lost = len(c.losses) <= remountMax
	if !c.lost {
		n.log.Error("mount is taken away again and again, it is left off", "dir", c.dir, "times", len(c.losses))
	}
	return c.lost
}

// remount mounts again where c was lost, unless an operator took the directory off the
// list of mounts or the node ends.
func (n *Node) remount(c *captured) {
	wait := remountFirst
	for range remountTries {
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, remountLast)
		if !slices.Contains(n.mounts(), c.dir) {
			break
		}
		next, err := n.startStacked(c.dir)
		if err == nil {
			n.log.Warn("mount that was taken away is made again", "dir", c.dir)
			if !slices.Contains(n.mounts(), c.dir) { // it was taken off meanwhile
				err = next.stop()
			}
		}
		if err == nil {
			return
		}
		n.events.Set(event.CaptureFailed, event.About{Dir: c.dir}, c.dir, fmt.Errorf("mount it again: %w", err))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.captures[c.dir] == c {
		delete(n.captures, c.dir)
	}
	n.log.Error("mount that was taken away is not made again", "dir", c.dir)
}
