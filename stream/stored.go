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
	far  bool // in the cluster
}

// Stored lists the queues in the store, so that those of ended epochs can be deleted.
func (s *Server) Stored(ctx context.Context) ([]Stored, error) {
	out, err := s.storedIn(ctx, s.ctl, "")
	if err != nil || !s.clustered() {
		return out, err
	}
	far, err := s.storedIn(ctx, s.far, s.clusterPrefix())
	return append(out, far...), err
}

// DeleteStored deletes a queue that no Journal or Receiver has open.
func (s *Server) DeleteStored(ctx context.Context, q Stored) error {
	return s.deleteStream(ctx, q.name, q.far)
}

func (s *Server) deleteStream(ctx context.Context, name string, far bool) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	nc := s.ctl
	if far {
		nc = s.far
	}
	js, err := jetstream.New(nc)
	if err == nil {
		err = js.DeleteStream(ctx, name)
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete queue %s: %w", name, storeError(err))
	}
	return nil
}
