package tui

import (
	"context"
	"errors"
	"time"

	"understudy/control"
	"understudy/dtclsh/interp"
)

const (
	// lookEvery is how often connections are looked at.
	lookEvery = time.Second
	// patience bounds one look, so that a daemon that hangs is seen.
	patience = 3 * time.Second
	// followFor is how long a request for events waits for one (control allows 30 s).
	followFor = 20 * time.Second
	// firstEvents are shown of what happened before.
	firstEvents = 10
)

// session is a follower's own connection to the source.
type session struct {
	client interp.Client
	at     *place
}

// call asks a verb of the machine at p, connecting where that is needed.
func (s *session) call(ctx context.Context, c *Client, p *place, limit time.Duration, verb string, req, reply any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if s.client != nil && *s.at != *p {
		s.close()
	}
	if s.client == nil {
		client, err := c.cfg.Dial(ctx, p.address)
		if err != nil {
			return err
		}
		s.client, s.at = client, p
	}
	err := s.client.Call(ctx, verb, req, reply)
	if err != nil { // Denied too: a login may have changed what this session may do
		s.close()
	}
	return err
}

func (s *session) close() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// next waits for d, or until the source is another; false: for the end of ctx.
func (c *Client) next(ctx context.Context, follower int, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c.moved[follower]:
	case <-t.C:
	}
	return true
}

// followStatus tells the model of the source's connections, again and again.
func (c *Client) followStatus(ctx context.Context) {
	var s session
	defer s.close()
	for c.next(ctx, 0, lookEvery) {
		p := c.place.Load()
		if p == nil {
			continue
		}
		m := statusMsg{place: *p}
		m.err = s.call(ctx, c, p, patience, "status", struct{}{}, &m.status)
		if ctx.Err() == nil {
			m.at = time.Now()
			c.program.Send(m)
		}
	}
}

// followEvents tells the model what the source reports, from a few rows back.
func (c *Client) followEvents(ctx context.Context) {
	var s session
	defer s.close()
	var from *place // whose events since counts
	var since uint64
	wait := time.Duration(0)
	for c.next(ctx, 1, wait) {
		p := c.place.Load()
		wait = lookEvery
		if p == nil {
			continue
		}
		if from == nil || *from != *p {
			from, since = p, 0
		}
		req := control.EventsRequest{Since: since, WaitMS: followFor.Milliseconds()}
		if since == 0 {
			req.Limit, req.WaitMS = firstEvents, 0
		}
		var got control.Events
		err := c.whileHere(ctx, p, func(ctx context.Context) error {
			return s.call(ctx, c, p, followFor+patience, "events", req, &got)
		})
		if err != nil {
			continue
		}
		if n := len(got.Events); n > 0 {
			since, wait = got.Events[n-1].Seq, 0
			c.program.Send(eventsMsg{*p, got.Events})
		}
		if got.Last < since { // the journal began anew
			since = got.Last
		}
	}
}

// errMoved: the source is another.
var errMoved = errors.New("another source")

// whileHere calls f with a context that ends when the source becomes another.
func (c *Client) whileHere(ctx context.Context, p *place, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-c.moved[1]:
				if *c.place.Load() != *p {
					cancel(errMoved)
					return
				}
			}
		}
	}()
	err := f(ctx)
	close(done)
	<-watched
	return err
}
