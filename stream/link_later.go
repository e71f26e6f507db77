package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// errLater ends the attempt to connect that would keep the caller of Dial waiting.
var errLater = errors.New("connects in the background")

// later makes a connection come up like one that was interrupted: its first attempt
// ends at once, the others follow in the background.
func (l *Link) later(d *linkDialer, conn int) nats.Option {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errLater)
	d.first = ctx
	return func(o *nats.Options) error {
		o.RetryOnFailedConnect = true
		o.ConnectedCB = func(*nats.Conn) { l.reconnected(conn) }
		return nil
	}
}
