package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"understudy/internal/access"
	"understudy/internal/checked"
)

// An answer begins with one byte that says what follows.
const (
	answerOK    = 0 // the reply
	answerError = 1 // the text of an error
)

const (
	// MaxMessage bounds the data of one request, reply or plain message.
	MaxMessage = 1 << 20
	// handlerLimit bounds the requests one Handle serves at a time; more wait in line.
	handlerLimit = 8
	// handlerQueue bounds the bytes of the line; what comes on top gets no answer.
	handlerQueue   = 16 << 20
	requestTimeout = 10 * time.Second // of a request whose ctx has no deadline
)

// Handle answers requests on subject with fn, whose context knows who asks
// (access.CallerOf), until stop is called or the server
// closes, which both wait for running calls; so fn must not call stop. Up to 8 calls
// run at once. data belongs to fn. A panic in fn is not caught.
func (s *Server) Handle(subject string, fn func(ctx context.Context, data []byte) ([]byte, error)) (stop func(), err error) {
	ctx, cancel := context.WithCancel(s.ctx)
	slots := make(chan struct{}, handlerLimit)
	var running sync.WaitGroup
	serve := func(m *nats.Msg) {
		defer func() { <-slots; running.Done(); s.work.Done() }()
		data, err := checked.Open(m.Data)
		var reply []byte
		if err == nil {
			reply, err = fn(access.WithCaller(ctx, s.callerOf(m.Reply)), data)
		}
		if err := m.Respond(checked.Seal(answer(subject, reply, err))); err != nil && ctx.Err() == nil {
			s.log.Warn("reply not sent", "subject", subject, "err", err)
		}
	}
	sub, err := s.ctl.Subscribe(subject, func(m *nats.Msg) {
		if m.Reply == "" {
			return // nobody could say who asks
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if !s.begin(ctx, &running) {
			<-slots
			return
		}
		go serve(m)
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	if err := sub.SetPendingLimits(-1, handlerQueue); err != nil {
		cancel()
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	if err := s.ctl.Flush(); err != nil {
		cancel()
		return nil, fmt.Errorf("serve %s: %w", subject, err)
	}
	return func() {
		_ = sub.Unsubscribe()
		s.mu.Lock()
		cancel() // under mu: no handler begins after this
		s.mu.Unlock()
		running.Wait()
	}, nil
}

// begin counts a running handler unless it is to stop or the server is closing.
func (s *Server) begin(ctx context.Context, running *sync.WaitGroup) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || ctx.Err() != nil {
		return false
	}
	s.work.Add(1)
	running.Add(1)
	return true
}

func answer(subject string, reply []byte, err error) []byte {
	if err == nil && len(reply) > MaxMessage {
		err = fmt.Errorf("reply of %d bytes on %s is over %d", len(reply), subject, MaxMessage)
	}
	if err != nil {
		text := err.Error()
		return append([]byte{answerError}, text[:min(len(text), 64<<10)]...)
	}
	return append(append(make([]byte, 0, 1+len(reply)), answerOK), reply...)
}

// Publish sends data to whoever subscribes to subject now; nobody is told if it is lost.
func (s *Server) Publish(subject string, data []byte) error { return publish(s.ctl, subject, data) }

// Subscribe calls fn with each message on subject, one at a time and in order, until
// stop. data belongs to fn.
func (s *Server) Subscribe(subject string, fn func(data []byte)) (stop func(), err error) {
	return subscribe(s.ctl, subject, fn)
}

func publish(nc *nats.Conn, subject string, data []byte) error {
	if len(data) > MaxMessage {
		return fmt.Errorf("publish %s: %d bytes are over %d", subject, len(data), MaxMessage)
	}
	if err := nc.Publish(subject, checked.Seal(data)); err != nil {
		return fmt.Errorf("publish %s: %w", subject, connError(err))
	}
	return nil
}

func subscribe(nc *nats.Conn, subject string, fn func(data []byte)) (stop func(), err error) {
	sub, err := nc.Subscribe(subject, func(m *nats.Msg) {
		if data, err := checked.Open(m.Data); err == nil { // a damaged one is as good as lost
			fn(data)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, connError(err))
	}
	if err := sub.SetPendingLimits(-1, handlerQueue); err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	if !nc.IsConnected() {
		return func() { _ = sub.Unsubscribe() }, nil // the peer is told when it is back
	}
	if err := nc.FlushTimeout(requestTimeout); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe %s: %w", subject, connError(err))
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

func request(ctx context.Context, nc *nats.Conn, subject string, data []byte) ([]byte, error) {
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("request %s: %d bytes are over %d", subject, len(data), MaxMessage)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTimeout)
		defer cancel()
	}
	m, err := nc.RequestWithContext(ctx, subject, checked.Seal(data))
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, connError(err))
	}
	reply, err := checked.Open(m.Data)
	switch {
	case err != nil:
		return nil, fmt.Errorf("request %s: %w: %w", subject, ErrNoAnswer, err)
	case len(reply) == 0:
		return nil, fmt.Errorf("request %s: %w: empty reply", subject, ErrNoAnswer)
	case reply[0] == answerOK:
		return reply[1:], nil
	case reply[0] == answerError:
		return nil, &RemoteError{Subject: subject, Text: string(reply[1:])}
	}
	return nil, fmt.Errorf("request %s: %w: reply of unknown form %d", subject, ErrNoAnswer, reply[0])
}

// connError maps the client library's errors to ours.
func connError(err error) error {
	var refused *RefusedError
	switch {
	case errors.As(err, &refused), errors.Is(err, access.ErrNotPaired), errors.As(err, new(*access.WrongKeyError)):
		return err
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	case errors.Is(err, nats.ErrNoServers): // what the client makes of a refused connection
		return fmt.Errorf("%w: nothing listens there", ErrNoAnswer)
	case errors.As(err, new(*net.OpError)): // no route, no such host
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionReconnecting):
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	if why, ok := refusedBecause(err.Error()); ok {
		return &RefusedError{why}
	}
	return err
}

// refusedBecause finds what the door said in the text of a client's error.
func refusedBecause(text string) (why string, ok bool) {
	_, why, ok = strings.Cut(text, refusal)
	return strings.TrimPrefix(why, ": "), ok
}
