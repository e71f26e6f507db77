package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"understudy/fileop"
)

const (
	// transmitWindow bounds the bytes under way to T.
	transmitWindow = 8 << 20
	// transmitTimeout is how long T may stay silent with frames under way before the
	// transmitter asks it again. A broken connection is noticed sooner, by the link.
	transmitTimeout = 30 * time.Second
	retryFirst      = 20 * time.Millisecond
	retryMax        = time.Second
	// wireOverhead is what one message costs on the wire beside its frame: subject,
	// reply subject, header, TCP and IP.
	wireOverhead = 220
)

// TransmitterConfig says where to transmit to and how.
type TransmitterConfig struct {
	Connection string // as in JournalConfig
	Source     string // name of this machine
	Gate       Gate   // nil: nothing holds the frames back
	// MirrorWeight is how many bytes of mirror frames go for each byte of queue frames
	// while both wait. 0: 1.
	MirrorWeight float64
	// Last asks the target how far T reaches. nil: the Receiver there is asked.
	Last func(ctx context.Context) (Position, error)
	// BeforeTask is told of each Task operation before the frame (its number) that holds it is sent, and
	// again when the frame is; sending waits for it. It is called by Run. nil: nobody asks.
	BeforeTask func(ctx context.Context, frame uint64, op *fileop.Op)
}

// TransmitterStats is a plain copy of a transmitter's figures.
type TransmitterStats struct {
	Frames      uint64     // acknowledged by T since the start
	Bytes       uint64     // of these frames
	Op          fileop.Seq // last operation T has
	Frame       uint64     // last frame T has
	MirrorBytes uint64     // sent
	WireBytes   uint64     // sent, repeats and an estimate of overhead included
	InFlight    int        // bytes
	OpsInFlight fileop.Seq // operations of them
	Resends     uint64     // times it went back to T's last frame
	FromDisk    uint64     // frames read from Q again because memory no longer had them
	TargetFull  bool       // T is at its limit
	Lag         time.Duration
	LastError   string // why it waits or went back; "" when all is well
}

// Transmitter pushes what a journal holds to the target. A journal has one at a time.
type Transmitter struct {
	j    *Journal
	l    *Link
	cfg  TransmitterConfig
	log  *slog.Logger
	poke chan struct{} // acknowledgement or failure

	// Of Run's goroutine alone.
	pub     *publisher // nil: T must be asked first
	gen     uint64     // of the link, when pub was made
	pos     Position   // last frame handed to pub
	rd      *reader    // open while frames come from Q
	ready   *outgoing  // next queue frame
	retryAt time.Time
	backoff time.Duration
	careful bool    // one frame at a time until T takes one
	balance float64 // mirror bytes over weight, minus queue bytes, sent lately

	weight atomic.Uint64 // bits of cfg.MirrorWeight as set last
	mu     sync.Mutex    // guards what follows
	stats  TransmitterStats
	ops    []fileop.Seq // last operations of the frames under way
	lastT  time.Time    // when the last acknowledged frame's first record was put
}

// outgoing is a checked queue frame.
type outgoing struct {
	data  []byte
	at    time.Time
	after Position
	tasks []fileop.Op // in it
}

// NewTransmitter joins a journal to a link. Nothing is sent before Run.
func NewTransmitter(j *Journal, l *Link, cfg TransmitterConfig, log *slog.Logger) *Transmitter {
	if cfg.MirrorWeight <= 0 {
		cfg.MirrorWeight = 1
	}
	if cfg.Gate == nil {
		cfg.Gate = new(Valve)
	}
	t := &Transmitter{j: j, l: l, cfg: cfg, log: log, poke: make(chan struct{}, 1), backoff: retryFirst}
	t.SetMirrorWeight(cfg.MirrorWeight)
	if t.cfg.Last == nil {
		t.cfg.Last = t.askReceiver
	}
	return t
}

// SetMirrorWeight changes TransmitterConfig.MirrorWeight; w is more than 0. It may be
// called at any time.
func (t *Transmitter) SetMirrorWeight(w float64) { t.weight.Store(math.Float64bits(w)) }

func (t *Transmitter) askReceiver(ctx context.Context) (Position, error) {
	b, err := t.l.Request(ctx, lastSubject(t.cfg.Source, t.cfg.Connection, t.j.cfg.Epoch), nil)
	if err != nil {
		return Position{}, err
	}
	return parsePosition(b)
}

func appendPosition(b []byte, p Position) []byte {
	b = binary.LittleEndian.AppendUint64(b, p.Frame)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.Seq))
	return binary.LittleEndian.AppendUint64(b, uint64(p.Chain))
}

func parsePosition(b []byte) (Position, error) {
	if len(b) != 24 {
		return Position{}, fmt.Errorf("position of %d bytes: %w", len(b), ErrNoAnswer)
	}
	return Position{Frame: binary.LittleEndian.Uint64(b), Seq: fileop.Seq(binary.LittleEndian.Uint64(b[8:])),
		Chain: fileop.Chain(binary.LittleEndian.Uint64(b[16:]))}, nil
}

// Run transmits until ctx ends, then returns nil. A link that is down, a target that is
// full or not ready are waited out. It returns ErrBroken when T does not hold what Q
// says it should, ErrClosed when the link was closed, or the journal's failure.
func (t *Transmitter) Run(ctx context.Context) error {
	defer t.reset()
	for ctx.Err() == nil {
		if err := t.j.Err(); err != nil {
			return err
		}
		changed := t.l.Changed()
		sent, err := t.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrBroken), errors.Is(err, errGate):
			return err
		case err != nil:
			t.trouble(err)
		}
		if t.l.Closed() {
			return fmt.Errorf("transmit: link: %w", ErrClosed)
		}
		if !sent {
			t.wait(ctx, changed)
		}
	}
	return nil
}

// errGate wraps the error of a Gate.
var errGate = errors.New("gate")

// step sends at most one frame and reports whether it did.
func (t *Transmitter) step(ctx context.Context) (bool, error) {
	if !t.l.Up() {
		t.reset()
		return false, nil
	}
	if err := t.checkPublisher(); err != nil {
		return false, err
	}
	if t.pub == nil && !time.Now().Before(t.retryAt) {
		if err := t.resume(ctx); err != nil {
			return false, err
		}
	}
	q, err := t.nextQueue(ctx)
	if err != nil {
		return false, err
	}
	n, m := t.j.peekMirror()
	switch {
	case q != nil && (m == nil || t.balance >= 0):
		return true, t.sendQueue(ctx, q)
	case m != nil:
		return true, t.sendMirror(ctx, n, m)
	}
	return false, nil
}

// checkPublisher drops a publisher that failed, stalls, or belongs to a connection that
// is gone.
func (t *Transmitter) checkPublisher() error {
	if t.pub == nil {
		return nil
	}
	_, stuck, err := t.pub.state()
	switch {
	case errors.Is(err, ErrFull):
		return fmt.Errorf("%w: %w", errTargetFull, err)
	case errors.Is(err, ErrBroken):
		// T was elsewhere than believed. It is asked again; if it cannot be followed,
		// that shows then.
		return fmt.Errorf("target refused a frame: %v", err)
	case err != nil:
		return err
	case !stuck.IsZero() && time.Since(stuck) > transmitTimeout:
		return fmt.Errorf("%w: target acknowledged nothing for %v", ErrNoAnswer, transmitTimeout)
	case t.l.Generation() != t.gen:
		return fmt.Errorf("%w: connection was cut", ErrDown)
	}
	if t.careful && t.pub.works() {
		t.careful, t.backoff = false, retryFirst
	}
	return nil
}

// trouble drops the publisher and plans the next attempt.
func (t *Transmitter) trouble(err error) {
	t.reset()
	t.retryAt = time.Now().Add(t.backoff)
	t.backoff = min(2*t.backoff, retryMax)
	t.careful = true
	t.mu.Lock()
	first := t.stats.LastError == ""
	t.stats.LastError = err.Error()
	t.stats.TargetFull = errors.Is(err, errTargetFull)
	t.mu.Unlock()
	if first {
		t.log.Info("transmission interrupted", "connection", t.cfg.Connection, "err", err)
	}
}

func (t *Transmitter) reset() {
	if t.pub != nil {
		t.pub.close()
		t.pub = nil
	}
	if t.rd != nil {
		t.rd.close()
		t.rd = nil
	}
	t.ready = nil
}

// wait sleeps until there may be something to do.
func (t *Transmitter) wait(ctx context.Context, changed <-chan struct{}) {
	d := time.Second // the stall of a publisher is looked at
	if t.pub == nil {
		if left := time.Until(t.retryAt); left > 0 {
			d = min(d, left)
		} else if t.l.Up() {
			return
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-t.poke:
	case <-t.j.feed:
	case <-changed:
	case <-t.j.failed:
	case <-timer.C:
	}
}
