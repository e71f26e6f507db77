package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

const (
	// maxStored bounds one stored message: a frame and one small header.
	maxStored = fileop.MaxFrame + 4096
	// minQueue is the smallest limit of a queue. JetStream cuts its block size to a
	// quarter of the limit; smaller blocks cost speed.
	minQueue     = 32 << 20
	storeTimeout = 10 * time.Second // of one request to the own store
)

// Position is a place in the queue lane of one epoch: the end of a frame.
// The zero value is the beginning.
type Position struct {
	Frame uint64       // frames up to here, from 1
	Seq   fileop.Seq   // the last operation of that frame
	Chain fileop.Chain // of that frame
}

// store is one queue in the file store, Q or T.
type store struct {
	srv     *Server
	remote  bool // in a cluster, which looks after itself
	nc      *nats.Conn
	js      jetstream.JetStream
	stream  jetstream.Stream
	name    string
	subject string
	epoch   fileop.Epoch
	behind  Position // what its user has from elsewhere: an empty queue goes on there
	last    Position // when it was opened
	first   uint64   // first frame still stored when it was opened, or the next one behind; 0: none

	mu        sync.Mutex // guards what follows
	max       int64      // bytes it may hold while the disk bears them
	limited   int64      // bytes it may hold now (guard.go)
	lost      func(error)
	gone      error  // why it was lost under its user
	purged    uint64 // frames below it are gone
	lastPurge time.Time
}

// openStore makes the stream, to begin behind a position, or continues the one that is there.
func (s *Server) openStore(ctx context.Context, name, subject string, epoch fileop.Epoch, maxBytes int64, behind Position) (_ *store, err error) {
	if maxBytes, err = s.queueLimit(maxBytes); err != nil {
		return nil, err
	}
	maxNow, err := s.bearable(maxBytes)
	if err != nil {
		return nil, err
	}
	st := &store{srv: s, remote: s.clustered(), name: name, subject: subject, epoch: epoch, behind: behind, max: maxBytes, limited: maxNow}
	if st.remote {
		st.name, st.subject = s.clusterName(name), s.clusterSubject(subject)
	}
	if st.nc, err = s.connectStore(name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.disconnect(st.nc)
		}
	}()
	if st.js, err = jetstream.New(st.nc, jetstream.WithDefaultTimeout(storeTimeout)); err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	if err = st.openStream(ctx); err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, storeError(err))
	}
	if st.last, st.first, err = st.readLast(ctx); err != nil {
		return nil, fmt.Errorf("open queue %s: %w", name, err)
	}
	st.purged = st.first
	if st.remote {
		return st, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores[st] = true
	return st, nil
}

// openStream makes the stream or finds it. What of its description is only in the page
// cache a power cut would leave empty, and the queue would be lost.
func (st *store) openStream(ctx context.Context) error {
	cfg := jetstream.StreamConfig{
		Name: st.name, Subjects: []string{st.subject}, Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxBytes: st.limited,
		MaxMsgSize: maxStored, Duplicates: 100 * time.Millisecond, DenyDelete: true, Replicas: st.srv.replicas(),
	}
	found, err := st.js.Stream(ctx, st.name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		if st.behind.Frame > 0 {
			cfg.FirstSeq = st.behind.Frame + 1
		}
		if found, err = st.js.CreateStream(ctx, cfg); err == nil && !st.remote {
			err = syncStore(st.srv.cfg.StoreDir)
		}
	case err == nil && found.CachedInfo().Config.MaxBytes != st.limited:
		cfg.FirstSeq = found.CachedInfo().Config.FirstSeq
		found, err = st.update(ctx, cfg)
	}
	st.stream = found
	return err
}

// update changes the stream's settings, durably.
func (st *store) update(ctx context.Context, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	found, err := st.js.UpdateStream(ctx, cfg)
	if err == nil && !st.remote {
		err = st.srv.syncDescription(st.name)
	}
	return found, err
}

// queueLimit gives a queue without a limit of its own what the disk can bear.
func (s *Server) queueLimit(maxBytes int64) (int64, error) {
	if maxBytes > 0 {
		return max(maxBytes, minQueue), nil
	}
	if s.cfg.MaxStore > 0 {
		return max(s.cfg.MaxStore/8, minQueue), nil
	}
	if s.clustered() {
		return clusterQueue, nil
	}
	total, _, err := diskSpace(s.cfg.StoreDir)
	if err != nil {
		return 0, err
	}
	return max(total-s.cfg.MinFree, minQueue), nil
}

// readLast reads how far the queue reaches and checks that nothing inside it is missing.
func (st *store) readLast(ctx context.Context) (last Position, first uint64, err error) {
	info, err := st.stream.Info(ctx)
	if err != nil {
		return last, 0, storeError(err)
	}
	s := info.State
	switch {
	case s.LastSeq == 0:
		return last, 0, nil
	case s.Msgs == 0 && s.LastSeq == st.behind.Frame:
		return st.behind, s.LastSeq + 1, nil
	}
	whole := s.Msgs > 0 && s.NumDeleted == 0 && s.Msgs == s.LastSeq-s.FirstSeq+1
	if !whole && !failpoint.Planted(failpoint.PlantNoChain) {
		return last, 0, fmt.Errorf("%w: %d of the frames %d to %d are stored", ErrBroken, s.Msgs, s.FirstSeq, s.LastSeq)
	}
	f, err := st.frame(ctx, s.LastSeq)
	if err != nil {
		return last, 0, err
	}
	return Position{Frame: s.LastSeq, Seq: f.Last(), Chain: f.Chain}, s.FirstSeq, nil
}

// frame reads one stored frame.
func (st *store) frame(ctx context.Context, i uint64) (fileop.Frame, error) {
	m, err := st.stream.GetMsg(ctx, i)
	if err != nil {
		return fileop.Frame{}, fmt.Errorf("read frame %d: %w", i, storeError(err))
	}
	f, err := fileop.ParseFrame(m.Data)
	if err == nil && (f.Epoch != st.epoch || f.Lane != fileop.LaneQueue) {
		err = fmt.Errorf("%w: epoch %x, lane %d", fileop.ErrNotNext, f.Epoch, f.Lane)
	}
	if err != nil {
		return f, fmt.Errorf("%w: frame %d: %w", ErrBroken, i, err)
	}
	return f, nil
}

// purge drops the frames below keep. The newest frame always stays: a continued queue
// learns its number and chain from it.
func (st *store) purge(ctx context.Context, keep uint64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if keep <= st.purged {
		return nil
	}
	if err := st.roomToTrim(); err != nil {
		return fmt.Errorf("trim queue %s to frame %d: %w", st.name, keep, err)
	}
	if err := st.stream.Purge(ctx, jetstream.WithPurgeSequence(keep)); err != nil {
		return fmt.Errorf("trim queue %s to frame %d: %w", st.name, keep, storeError(err))
	}
	st.purged, st.lastPurge = keep, time.Now()
	return nil
}

// trimRoom is what has to be free on the disk of a queue that is trimmed. Of a block that
// is trimmed in part the server notes each frame that goes, some 30 bytes, at the queue's
// end. If the disk has no room for that, it waits for a lock that it holds itself
// (nats-server 2.15.2, fileStore.compactLocked and rebuildState), and with it every other
// request until the process ends.
const trimRoom = 4 << 20

// roomToTrim is ErrFull when the queue must not be trimmed now.
func (st *store) roomToTrim() error {
	if st.remote {
		return nil
	}
	_, free, err := diskSpace(st.srv.cfg.StoreDir)
	if err == nil && free < trimRoom {
		err = fmt.Errorf("%w: %d bytes free on the disk of %s, trimming takes %d", ErrFull, free, st.srv.cfg.StoreDir, trimRoom)
	}
	return err
}

func (st *store) purgedTo() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.purged
}

func (st *store) purgedAt() time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.lastPurge
}

func (st *store) close() {
	st.srv.mu.Lock()
	delete(st.srv.stores, st)
	st.srv.mu.Unlock()
	st.srv.disconnect(st.nc)
}

// lacks returns ErrBroken if frame i, which should be stored, is not there whole; nil if
// it is, or if that cannot be known now.
func (st *store) lacks(ctx context.Context, i uint64) error {
	_, err := st.frame(ctx, i)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if errors.Is(err, ErrBroken) {
		return err
	}
	return nil
}

func (st *store) delete(ctx context.Context) error {
	return st.srv.deleteStream(ctx, st.name, st.remote)
}

// storeError maps JetStream's errors to ours.
func storeError(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return fmt.Errorf("%w: %w", storeCode(int(api.ErrorCode)), err)
	}
	return connError(err)
}

// JetStream's error codes that mean something special here (server/errors.json).
const (
	codeInsufficient = 10023 // insufficient resources
	codeStorage      = 10047 // insufficient storage resources available
	codeWrongLast    = 10071 // wrong last sequence
	codeStoreFailed  = 10077 // message could not be stored; "maximum bytes exceeded" among others
)

func storeCode(code int) error {
	switch code {
	case codeInsufficient, codeStorage, codeStoreFailed:
		return ErrFull
	case codeWrongLast:
		return ErrBroken
	}
	return ErrStore
}
