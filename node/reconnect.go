package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/control"
	"understudy/mirror"
	"understudy/stream"
)

// A connection whose queue was exhausted or damaged ends its session (auto-disconnect,
// B6.33, B6.36) and begins the next one by itself (auto-reconnect, B6.34) with a mirror
// (auto-remirror, B7.44). Two settings make it wait for the operator instead: with
// AutoReconnect off it stays disconnected until somebody connects; with AutoRemirror 0
// it stays pending until somebody starts a mirror (B6.42, B7.48).

// AutoRemirror says which mirror an automatic reconnect begins with (B7.45).
type AutoRemirror int

// Values of AutoRemirror.
const (
	RemirrorNone     AutoRemirror = iota // none: pending until a mirror is started by hand
	RemirrorChecksum                     // differences, contents compared
	RemirrorFull                         // everything
	RemirrorDiff                         // differences by date and size
)

// parking is what a connection without a session waits for.
type parking int

const (
	parkNot     parking = iota
	parkConnect         // the operator connects
	parkMirror          // the operator starts a mirror

	parkTransmission // the operator starts transmission
	parkReplication  // the operator starts replication
	parkModule       // the operator loads the source
)

// reconnectMax is the longest wait before the next session of a connection whose queue
// fills before its mirror ends.
const reconnectMax = time.Minute

// autoDisconnected reports whether a session ended because of its queue.
func autoDisconnected(err error) bool {
	for _, cause := range []error{errAutoDisc, stream.ErrFull, stream.ErrStore, stream.ErrBroken} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// next decides what follows a session that ended, or did not open, with err: the wait
// before the next, and what the operator has to do first.
func (c *Connection) next(err error) (wait time.Duration, park parking) {
	retry := c.n.conf().NetworkRetry
	c.mu.Lock()
	defer c.mu.Unlock()
	if !autoDisconnected(err) || c.wentWell {
		c.delay = 0
	} else {
		c.delay = min(max(2*c.delay, retry), max(reconnectMax, retry))
	}
	c.wentWell = false
	return max(retry, c.delay), c.parksFor(err)
}

// parksFor is what the operator has to do after a session ended, or did not open, with
// err. c.mu is held.
func (c *Connection) parksFor(err error) parking {
	switch {
	case !autoDisconnected(err) || c.neverOpen:
	case !c.n.conf().AutoReconnect:
		return parkConnect
	case c.n.conf().AutoRemirror == RemirrorNone:
		return parkMirror
	}
	return parkNot
}

// rest waits until the next session may begin.
func (c *Connection) rest(ctx context.Context, err error) {
	wait, park := c.next(err)
	if park != parkNot {
		c.park(ctx, park)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// park waits for the operator.
func (c *Connection) park(ctx context.Context, p parking) {
	c.mu.Lock()
	c.parked = p
	c.signalLocked()
	c.mu.Unlock()
	c.log.Warn("connection waits for the operator", "for", p.String())
	for {
		c.mu.Lock()
		changed, still := c.changed, c.parked != parkNot
		c.mu.Unlock()
		if !still {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (p parking) String() string {
	switch p {
	case parkConnect:
		return "auto-reconnect is off: disconnected until it is connected again"
	case parkMirror:
		return "no mirror begins by itself: pending until one is started"
	case parkTransmission:
		return "transmission is stopped: no queue is kept until it is started, then everything is compared"
	case parkModule:
		return "this machine is no source now: changes are not queued until it is, then everything is compared"
	case parkReplication:
		return "replication is stopped: changes are not queued until it is started, then everything is compared"
	}
	return ""
}

// way is what the operator does to end the waiting.
func (p parking) way(id int) string {
	switch p {
	case parkMirror:
		return fmt.Sprintf("mirror start %d", id)
	case parkTransmission:
		return fmt.Sprintf("transmission start %d", id)
	case parkReplication:
		return fmt.Sprintf("replication start %d", id)
	case parkModule:
		return "load source"
	}
	return "connect it again"
}

// unpark ends the waiting for p; o, if any, is the mirror the next session begins with.
func (c *Connection) unpark(p parking, o *mirror.Options) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parked != p {
		return false
	}
	c.parked, c.ordered, c.failure = parkNot, o, nil
	if p == parkConnect && (c.n.conf().AutoRemirror == RemirrorNone || c.wishes.Pending) && o == nil {
		c.parked = parkMirror // connected, and still without its mirror
	}
	c.signalLocked()
	return true
}

// waitsByHand is what a connection without a session waits for because the operator
// stopped it. A session that is resumed goes on.
func (c *Connection) waitsByHand() parking {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.resumed != nil:
	case c.n.modules.noSource.Load():
		return parkModule
	case c.noReplication:
		return parkReplication
	case c.mode == stoppedByHand && !c.fresh:
		return parkTransmission
	}
	return parkNot
}

// unparkTransmission ends the waiting for a start of transmission.
func (c *Connection) unparkTransmission() {
	if c.transmission() != stoppedByHand {
		c.unpark(parkTransmission, nil)
	}
}

func (c *Connection) waitsFor() parking {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parked
}

// mirrorEnded notes that the present session has come to the end of a mirror.
func (c *Connection) mirrorEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wentWell = true
}

// autoMirror is the mirror a session that the operator did not ask for begins with; c.mu
// is held. ok is false where the connection decides as ever.
func (c *Connection) autoMirror() (o mirror.Options, ok bool) {
	if o := c.ordered; o != nil {
		c.ordered = nil
		return *o, true
	}
	if o, ok := c.wishedMirror(); ok || !c.mirrored {
		return o, ok
	}
	switch c.n.conf().AutoRemirror {
	case RemirrorFull:
		return mirror.Options{Mode: mirror.Full}, true
	case RemirrorDiff:
		return mirror.Options{Mode: mirror.Diff}, true
	}
	return o, false
}

// fill shows a connection that waits for the operator.
func (p parking) fill(out *control.Connection) {
	switch p {
	case parkConnect, parkTransmission:
		out.Transmit = "Stopped"
	case parkReplication, parkModule:
		out.Transmit = "Stopped"
	case parkMirror:
		out.Transmit, out.Replication = "Pending", "Pending"
	default:
		return
	}
	if out.LastError != "" {
		out.LastError += "; "
	}
	out.LastError += p.String()
}
