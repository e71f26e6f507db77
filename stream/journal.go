package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"understudy/fileop"
)

// Defaults and fixed windows of a journal, in bytes.
const (
	DefaultMemoryMax    = 128 << 20 // QMemoryBufferMax
	DefaultMirrorWindow = 16 << 20
	DefaultTailMax      = 32 << 20 // some times the transmitter's window
	storeWindow         = 32 << 20 // under way to Q; the stream's inbound queue holds 128 MiB
	// mirrorSlack is what may be logged without credit on top of twice the window:
	// entries that a rename brings in are logged inside an application's call.
	mirrorSlack = 8 << 20
	maxRecord   = fileop.MaxFrame - fileop.HeaderSize - 20
)

// JournalConfig describes the source queue of one connection and epoch.
type JournalConfig struct {
	Connection   string
	Epoch        fileop.Epoch
	MaxBytes     int64 // of the queue on disk; 0: what the disk bears. At least 32 MiB
	MemoryMax    int64 // bytes not yet stored; at the limit the journal is full
	MirrorWindow int64 // bytes of mirror records under way
	TailMax      int64 // bytes of stored frames kept in memory for the transmitter
	// Tail outlives the process: with it a successor continues behind the last operation
	// put, not only behind the last one stored. It is the journal's from then on. nil: none.
	Tail *Tail
	// OnSeal is told of each frame of operations: its last number, and when the first
	// came. It is called with the journal locked: it must not block or call the journal.
	OnSeal func(last fileop.Seq, first time.Time)
	Log    *slog.Logger
}

// Journal numbers the records of one connection and epoch, packs them into frames and
// stores those of the queue lane. It is mirror.Log, and behind a small adapter
// capture.Sink. Run must run. All methods may be called by several goroutines at once.
type Journal struct {
	cfg JournalConfig
	log *slog.Logger
	st  *store

	wake     chan struct{} // to Run: something to seal or to publish
	feed     chan struct{} // to the transmitter: something to send
	trimNow  chan struct{} // to Run: something to purge
	failed   chan struct{} // closed by fail
	stop     chan struct{} // closed by Close, ends Run
	err      atomic.Pointer[error]
	unstored atomic.Int64 // bytes of queue records not yet stored

	memoryMax atomic.Int64 // cfg.MemoryMax, or what SetLimits said last
	stamped   atomic.Int64 // when stamp last gave an operation the time, nanoseconds since 1970

	mu        sync.Mutex // guards what follows; held for some microseconds at most
	tail      *Tail      // nil: none, or closed
	queue     *fileop.Builder
	mirror    *fileop.Builder
	queueAt   time.Time // first record of the frame in queue
	mirrorAt  time.Time
	queueSeal pacer
	mirSeal   pacer
	flush     bool   // Sync waits: seal at once
	mem       window // frames in memory: stored tail, under way, waiting
	published uint64 // frames handed to the store
	acked     uint64 // frames stored
	ackedSeq  fileop.Seq
	ackedMem  int      // bytes of stored frames in mem
	confirmed Position // Chain unset
	out       window   // mirror frames not yet sent
	spare     [][]byte // buffers of mirror frames sent, at most maxSpare
	flying    []mirrorFlight
	mirBytes  int64 // bytes of all mirror records under way: being built, out and sent
	changed   chan struct{}
	running   chan struct{} // closed when Run has ended; nil: not started
	closed    bool
	counts    counters
}

// mirrorFlight is a mirror frame whose records are not all known to be applied.
type mirrorFlight struct {
	last  fileop.Seq
	bytes int64
}

// OpenJournal opens the source queue of a connection and epoch, or continues it behind
// its last frame. ErrBroken: what is stored is no unbroken history.
func (s *Server) OpenJournal(ctx context.Context, cfg JournalConfig) (*Journal, error) {
	if cfg.MemoryMax <= 0 {
		cfg.MemoryMax = DefaultMemoryMax
	}
	if cfg.MirrorWindow <= 0 {
		cfg.MirrorWindow = DefaultMirrorWindow
	}
	if cfg.TailMax <= 0 {
		cfg.TailMax = DefaultTailMax
	}
	if cfg.Log == nil {
		cfg.Log = s.log
	}
	st, err := s.openStore(ctx, queueStream(cfg.Connection, cfg.Epoch), queueSubject(cfg.Connection, cfg.Epoch), cfg.Epoch, cfg.MaxBytes, Position{})
	if err != nil {
		return nil, err
	}
	j := &Journal{cfg: cfg, log: cfg.Log, st: st,
		wake: make(chan struct{}, 1), feed: make(chan struct{}, 1), trimNow: make(chan struct{}, 1),
		failed: make(chan struct{}), stop: make(chan struct{}),
		published: st.last.Frame, acked: st.last.Frame, ackedSeq: st.last.Seq,
		queue:  fileop.NewBuilder(fileop.LaneQueue, cfg.Epoch, st.last.Seq+1, st.last.Chain),
		mirror: fileop.NewBuilder(fileop.LaneMirror, cfg.Epoch, 1, 0)}
	j.memoryMax.Store(cfg.MemoryMax)
	st.onLost(j.fail)
	j.mem.base, j.out.base = st.last.Frame+1, 1
	if st.last.Frame > 0 {
		j.confirmed = Position{Frame: st.first} // it is kept for its number and chain
		err = j.resume(ctx)
	}
	if err == nil {
		err = j.resumeTail()
	}
	if err != nil {
		st.close()
		return nil, err
	}
	return j, nil
}

// resume takes the mirror lane's counter, and what was confirmed, from the stored
// frames. Mirror records logged after the last operation are not counted: a clean stop
// ends a running mirror with a MirrorAbort.
func (j *Journal) resume(ctx context.Context) error {
	last, err := j.st.frame(ctx, j.st.last.Frame)
	if err != nil {
		return err
	}
	var op fileop.Op
	for r := last.Records(); ; {
		more, err := r.Next(&op)
		if err != nil {
			return fmt.Errorf("%w: frame %d: %w", ErrBroken, j.st.last.Frame, err)
		}
		if !more {
			break
		}
	}
	j.mirror = fileop.NewBuilder(fileop.LaneMirror, j.cfg.Epoch, op.Other+1, 0)
	first, err := j.st.frame(ctx, j.st.first)
	if err != nil {
		return err
	}
	if j.confirmed.Frame == 1 {
		j.confirmed.Frame = 0 // nothing was ever purged
	} else {
		j.confirmed.Seq = first.Last()
	}
	return nil
}

// Failed is closed when the journal takes nothing any more by its own fault; Err says
// why. Close does not close it.
func (j *Journal) Failed() <-chan struct{} { return j.failed }

// Err is nil while the journal works.
func (j *Journal) Err() error {
	if p := j.err.Load(); p != nil {
		return *p
	}
	return nil
}

// fail ends the journal for good. The first reason stays.
func (j *Journal) fail(err error) {
	if errors.Is(err, ErrBroken) && !j.st.remote { // a store that meets a full disk drops frames
		if full := j.st.srv.CheckSpace(); full != nil {
			err = fmt.Errorf("%w: %w", full, err)
		}
	}
	j.forsake()
	if j.end(err) {
		close(j.failed)
		if !j.st.remote {
			j.st.srv.suspect(err)
		}
	}
}

// end makes everything return err from now on, unless there is a reason already.
func (j *Journal) end(err error) bool {
	if !j.err.CompareAndSwap(nil, &err) {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.announce()
	return true
}

// announce wakes Sync and Credit. Callers hold mu.
func (j *Journal) announce() {
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// await returns the channel closed at the next change. Callers hold mu.
func (j *Journal) await() <-chan struct{} {
	if j.changed == nil {
		j.changed = make(chan struct{})
	}
	return j.changed
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Epoch of this journal.
func (j *Journal) Epoch() fileop.Epoch { return j.cfg.Epoch }

// Last is the number of the last operation and of the last mirror record put.
func (j *Journal) Last() (queue, mirror fileop.Seq) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.queue.Next() - 1, j.mirror.Next() - 1
}

// Position is the end of what is stored, for the clean mark. After Close it is the end
// of everything put.
func (j *Journal) Position(ctx context.Context) (Position, error) {
	pos, _, err := j.st.readLast(ctx)
	if err != nil {
		return pos, fmt.Errorf("position of the queue: %w", err)
	}
	return pos, nil
}

// Sync returns when everything put before is stored in Q (and on disk, if the server is
// strict). It needs Run.
func (j *Journal) Sync(ctx context.Context) error {
	j.mu.Lock()
	want := j.queue.Next() - 1
	if j.queue.Count() > 0 {
		j.flush = true
		poke(j.wake)
	}
	for j.ackedSeq < want && j.Err() == nil {
		changed, ended := j.await(), j.running
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ended:
			return fmt.Errorf("wait until operation %d is stored: %w: Run has ended", want, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("wait until operation %d is stored: %w", want, context.Cause(ctx))
		}
		j.mu.Lock()
	}
	defer j.mu.Unlock()
	if j.ackedSeq < want {
		return j.Err()
	}
	return nil
}

// Close refuses further records, waits until those put are stored, and ends Run. What
// is stored stays for the next OpenJournal of the epoch.
func (j *Journal) Close(ctx context.Context) error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	var err error
	if j.Err() == nil {
		err = j.Sync(ctx)
	}
	close(j.stop)
	j.mu.Lock()
	running := j.running
	j.mu.Unlock()
	if running != nil {
		<-running
	}
	j.end(fmt.Errorf("journal %s: %w", j.cfg.Connection, ErrClosed))
	j.st.close()
	return errors.Join(err, j.closeTail())
}

// Delete closes the journal and deletes the queue with everything in it.
func (j *Journal) Delete(ctx context.Context) error {
	j.forsake()
	j.end(fmt.Errorf("journal %s: %w", j.cfg.Connection, ErrClosed)) // nothing is worth waiting for
	return errors.Join(j.Close(ctx), j.st.delete(ctx))
}
