package node

import (
	"context"
	"time"

	"understudy/control"
)

// Transmission of a connection, by hand: it runs, is paused (the network connection
// stands, changes are held) or stopped (there is none). The schedule of the target comes
// on top (limits.go): where it lets nothing pass, there is no network connection either.

// transmitMode is what the operator wants of the sending; it outlives the daemon.
type transmitMode string

const (
	sending       transmitMode = ""
	paused        transmitMode = "paused"
	stoppedByHand transmitMode = "stopped"
)

// transmission is what the operator wants.
func (c *Connection) transmission() transmitMode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode
}

// shut reports whether no network connection is to be held now.
func (c *Connection) shut() bool {
	return c.transmission() == stoppedByHand || !c.limits.open()
}

// setMode has the connection send or not, from the next frame on.
func (c *Connection) setMode(m transmitMode) {
	c.mu.Lock()
	c.mode = m
	c.mu.Unlock()
	if m == sending {
		c.valve.Resume()
	} else {
		c.valve.Pause()
	}
	c.unparkTransmission()
	c.signal()
}

// transmit obeys a request for one connection.
func (n *Node) transmit(_ context.Context, req control.TransmissionRequest) (any, error) {
	if err := n.noTrial(req.ID, "transmission"); err != nil {
		return nil, err
	}
	c, err := n.connection(req.ID)
	if err != nil {
		return nil, err
	}
	if req.Action == "" {
		req.Action = map[bool]string{true: "pause", false: "resume"}[req.Pause]
	}
	was := c.transmission()
	want := was
	switch req.Action {
	case "pause":
		want = paused
	case "stop":
		want = stoppedByHand
	case "start":
		want = sending
	case "resume":
		if was == paused { // one that is stopped is started
			want = sending
		}
	default:
		return nil, control.Errorf(control.BadRequest, "start, stop, pause or resume", "transmission action %q", req.Action)
	}
	if want != was {
		c.store(func(st *storedConnection) { st.Transmission = want })
		c.setMode(want)
		c.transmitEvent(want != sending)
	}
	if req.Action == "start" && !c.limits.open() && !c.limits.startNow(n.now()) {
		w := c.limits.shown().Window
		return nil, control.Errorf(control.Refused, "wait until it opens, or: schedule "+c.cfg.Target+" clear window",
			"nothing is sent to %s outside the window %s to %s", c.cfg.Target, clockText(w.Open), clockText(w.Close))
	}
	return nothing{}, nil
}

// clockText is a time of day given in minutes.
func clockText(minutes int) string {
	return time.Date(0, 1, 1, 0, minutes, 0, 0, time.UTC).Format("15:04")
}

// drainLimit is how long what is under way to the target may take before the network
// connection is closed. What is lost then is healed like after a cut.
const drainLimit = 5 * time.Second

// keepShut closes the network connection while it is not to be held, and lets it come
// back afterwards, until ctx ends.
func (s *session) keepShut(ctx context.Context) error {
	for {
		s.c.mu.Lock()
		changed := s.c.changed
		s.c.mu.Unlock()
		switch shut := s.c.shut(); {
		case shut && !s.link.Held():
			s.drained(ctx)
			if s.c.shut() {
				s.link.Hold()
			}
			continue
		case !shut && s.link.Held():
			s.link.Release()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// drained waits until nothing is under way that a cut would lose, and the target has
// reported what it applied, if that is soon.
func (s *session) drained(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	for s.link.Up() && s.c.shut() && s.underway() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *session) underway() bool {
	ts := s.sender.Stats()
	return ts.InFlight > 0 || s.journal.MirrorUnderway() || s.lastAck().Applied < ts.Op
}

// transmitWord is the operator's word for the state of the sending (B6.2).
func (c *Connection) transmitWord(down bool) string {
	mode := c.transmission()
	switch {
	case mode == stoppedByHand:
		return "Stopped"
	case mode == paused:
		return "Paused"
	case !c.limits.open():
		return "Scheduled"
	case down:
		return "Error"
	}
	return "Started"
}
