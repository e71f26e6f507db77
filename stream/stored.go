package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"understudy/fileop"
)

// Stored is a queue found in the store. Names are as Token made them.
type Stored struct {
	Target     bool // a target queue; Source is set
	Source     string
	Connection string
	Epoch      fileop.Epoch
	Frames     uint64
	Bytes      uint64

	name string
}

// Stored lists the queues in the store, so that those of ended epochs can be deleted.
func (s *Server) Stored(ctx context.Context) ([]Stored, error) {
	js, err := jetstream.New(s.ctl)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	var out []Stored
	l := js.ListStreams(ctx)
	for info := range l.Info() {
		st, err := parseStream(info.Config.Name)
		if err != nil {
			continue // not ours
		}
		st.Frames, st.Bytes = info.State.Msgs, info.State.Bytes
		out = append(out, st)
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("list queues: %w", storeError(err))
	}
	return out, nil
}

// DeleteStored deletes a queue that no Journal or Receiver has open.
func (s *Server) DeleteStored(ctx context.Context, q Stored) error {
	return s.deleteStream(ctx, q.name)
}

func (s *Server) deleteStream(ctx context.Context, name string) error {
	js, err := jetstream.New(s.ctl)
	if err == nil {
		err = js.DeleteStream(ctx, name)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete queue %s: %w", name, storeError(err))
	}
	return nil
}
