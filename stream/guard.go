package stream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	// guardEvery is how often the free space of the disk is looked at: the space that stays
	// free must hold what is written to the disk meanwhile, by whomever.
	guardEvery = 100 * time.Millisecond
	// guardFar is how often it is looked at with more room than guardFarRoom, which no disk
	// takes in that time; and how often limits are set above guardClose.
	guardFar     = time.Second
	guardFarRoom = 16 << 30
	// guardClose is the room below which the limits are set each time.
	guardClose = 256 << 20
	// guardNear is the room above which nothing is limited: more than the fastest disk
	// takes in guardEvery.
	guardNear = 4 << 30
)

// openStores are the stores open now.
func (s *Server) openStores() []*store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.stores))
}

// onLost has fn called, once, when the store is lost under whoever has it open.
func (st *store) onLost(fn func(error)) {
	st.mu.Lock()
	st.lost = fn
	gone := st.gone
	st.mu.Unlock()
	if gone != nil {
		fn(gone)
	}
}

func (st *store) lose(why error) {
	st.mu.Lock()
	first := st.gone == nil
	if first {
		st.gone = why
	}
	fn := st.lost
	st.mu.Unlock()
	if first && fn != nil {
		fn(why)
	}
}

// guardDisk lowers the limits of the open queues near the end of the disk, whoever fills
// it, so that a queue is full before the disk is. A full source queue ends its session,
// a full target queue stops its transmitter; limits rise again with the room.
//
// set is when limits were set last. It returns the time until the next look.
func (s *Server) guardDisk(ctx context.Context, set *time.Time) time.Duration {
	_, free, err := diskSpace(s.cfg.StoreDir)
	if err != nil {
		s.log.Warn("free space of the queue's disk not known", "err", err)
		return guardFar
	}
	room := max(0, free-s.cfg.MinFree)
	if room <= guardClose || time.Since(*set) >= guardFar-guardEvery/2 {
		*set = time.Now()
		s.limitStores(ctx, room)
	}
	return nextGuard(room)
}

func nextGuard(room int64) time.Duration {
	if room > guardFarRoom {
		return guardFar
	}
	return guardEvery
}

func (s *Server) limitStores(ctx context.Context, room int64) {
	stores := s.openStores()
	for _, st := range stores {
		if err := st.limit(ctx, room/int64(len(stores)), room < guardNear); err != nil && ctx.Err() == nil {
			s.log.Warn("queue not limited", "queue", st.name, "err", err)
		}
	}
}

// CheckSpace returns ErrFull while the disk has so little room that queues do not grow.
func (s *Server) CheckSpace() error {
	_, free, err := diskSpace(s.cfg.StoreDir)
	if err == nil && free < s.cfg.MinFree {
		err = fmt.Errorf("%w: %d bytes free on the disk of %s, at least %d must stay", ErrFull, free, s.cfg.StoreDir, s.cfg.MinFree)
	}
	return err
}

// bearable is how much of its limit a queue may use now; guardDisk looks again later.
func (s *Server) bearable(limit int64) (int64, error) {
	if s.clustered() {
		return limit, nil
	}
	_, free, err := diskSpace(s.cfg.StoreDir)
	if err != nil {
		return 0, err
	}
	return min(limit, max(free-s.cfg.MinFree, limitGrain)), nil
}

// limit gives the queue its configured limit, or where room is short, what it holds
// and its part of the room.
func (st *store) limit(ctx context.Context, room int64, short bool) error {
	st.mu.Lock()
	now, most, gone := st.limited, st.max, st.gone != nil
	st.mu.Unlock()
	if gone || !short && now == most {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	info, err := st.stream.Info(ctx)
	if err != nil {
		return storeError(err)
	}
	want := most
	if short {
		want = max(1, min(most, int64(info.State.Bytes)+room))
	}
	want = max(want, min(now, int64(info.State.Bytes))) // what is stored stays
	if d := want - now; d == 0 || d > -limitGrain && d < limitGrain && want != most && room > limitGrain {
		return nil
	}
	cfg := info.Config
	cfg.MaxBytes = want
	if _, err := st.update(ctx, cfg); err != nil {
		return storeError(err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.limited = want
	return nil
}

// setMax changes the configured limit; guardDisk puts it into effect within a second. A
// queue that holds more takes nothing until it holds less.
func (st *store) setMax(bytes int64) error {
	bytes, err := st.srv.queueLimit(bytes)
	if err != nil {
		return err
	}
	st.mu.Lock()
	st.max = bytes
	st.mu.Unlock()
	if st.remote { // guardDisk is for the own disk
		return st.limit(context.Background(), 0, false)
	}
	return nil
}

// mayHold is how many bytes the queue may hold now.
func (st *store) mayHold() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return min(st.max, st.limited)
}

// limitGrain is the change of a limit that is worth an update.
const limitGrain = 1 << 20
