package applier

import (
	"context"
	"errors"
	"time"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// Defaults and bounds.
const (
	DefaultRetryEvery      = 5 * time.Second
	DefaultCheckpointEvery = time.Second
	DefaultCheckpointBytes = 32 << 20

	idleCheckpoint = 100 * time.Millisecond // quiet time after which a checkpoint is taken early
	creditEvery    = 256 << 10              // bytes of mirror data between two OnMirrorApplied
	maxPending     = 1024                   // modification times waiting to be set
	maxDirty       = 64 << 10               // catalog entries waiting for a checkpoint
	maxLaneBytes   = 8 << 20                // prefetched bytes of one lane
)

// Errors a caller can act on.
var (
	// ErrProtocol: a record no honest source sends, or a damaged one. Applying stops.
	ErrProtocol = errors.New("operation violates the protocol")
	// ErrRecover: the last stop was not clean; call Recover before Run.
	ErrRecover = errors.New("target needs recovery first")
	// ErrClosed: the applier was closed.
	ErrClosed = errors.New("applier is closed")
)

// Root is one directory of a connection.
type Root struct {
	Tree   uint32
	Source fileop.ObjID // identity of the source directory; zero: the mirror will tell
	Path   string       // target directory, made if missing
}

// Config of an applier. Zero durations and sizes mean the defaults.
type Config struct {
	StateDir string // the catalog lives here; not inside a target directory
	Epoch    fileop.Epoch
	Roots    []Root
	// HeldSince is when the target directories became this connection's, in nanoseconds
	// since 1970; what was made there later is its own if the catalog is lost. 0: just now.
	HeldSince       int64
	RetryEvery      time.Duration
	RetryMax        int // attempts before an operation is dropped; 0: for ever (B8.20)
	CheckpointEvery time.Duration
	CheckpointBytes int64

	// Orphans says what becomes of orphans; nil: they are removed. It is asked for each of
	// them.
	Orphans func() OrphanPolicy

	// OnTask runs the task command of an operation whose turn has come: the tree is the
	// state of the source at the moment of the command, and nothing is applied until it
	// returns. ctx ends with Run. It may be called again for the same operation after a
	// restart. It may call back into the applier, but not wait for something to be applied.
	// nil: tasks are passed over.
	OnTask func(ctx context.Context, op *fileop.Op)

	// Past: what the feed delivers was applied once, and what it does not deliver was lost
	// for ever. Then an abort of mirror records counts only when its turn comes, and those
	// before it that are there are applied: AbortMirror says which are not. A file whose
	// content is still to come has the source's date, as no mirror will compare it. And a
	// mirror run goes on after an unclean stop: its records come again, so none may have been
	// applied between the last clean stop and that one.
	Past bool

	// NoSync: nothing is made durable, nothing is written down for a restart, and
	// checkpoints only bound the memory. Whoever opened it syncs the file systems of target
	// and state after Close, or throws both away.
	NoSync bool

	// The callbacks come from the applier's own goroutines and must not call back into
	// it or block.
	OnEvent         func(Event)
	OnDurable       func(Position)     // after each checkpoint
	BeforeDurable   func() error       // before a position is made durable, which an error puts off; it may block
	OnMirrorApplied func(k fileop.Seq) // mirror records up to k are applied: return credit
	OnChange        func()             // Position or Stats.Retrying changed; often

	// Fault is asked before every system call on the target; for tests.
	Fault func(fsx.Step) error
}

func (c *Config) setDefaults() {
	if c.RetryEvery <= 0 {
		c.RetryEvery = DefaultRetryEvery
	}
	if c.CheckpointEvery <= 0 {
		c.CheckpointEvery = DefaultCheckpointEvery
	}
	if c.CheckpointBytes <= 0 {
		c.CheckpointBytes = DefaultCheckpointBytes
	}
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
	if c.OnDurable == nil {
		c.OnDurable = func(Position) {}
	}
	if c.OnMirrorApplied == nil {
		c.OnMirrorApplied = func(fileop.Seq) {}
	}
	if c.OnChange == nil {
		c.OnChange = func() {}
	}
}

// Feed delivers both lanes, each frame the successor of the one before. The frames and
// their bytes belong to the applier afterwards. Each method is called by one goroutine.
type Feed interface {
	// Next returns the next frame of the queue lane and its index there.
	Next(ctx context.Context) (fileop.Frame, uint64, error)
	// NextMirror returns the next frame of the mirror lane.
	NextMirror(ctx context.Context) (fileop.Frame, error)
}

// Position says how far the target is.
type Position struct {
	Epoch         fileop.Epoch
	Applied       fileop.Seq // last operation whose effect is on the target
	Frame         uint64     // index of the last frame applied as a whole
	FrameLast     fileop.Seq // its last operation; at most Applied
	Chain         fileop.Chain
	MirrorApplied fileop.Seq // last mirror record applied (or given up)
	Run           int64      // mirror run under way; 0: none
	RunBroken     bool       // this run lost records: its end does not make the target usable
	Mirrored      bool       // a mirror run ended well in this epoch
	// Remirror: an operation was dropped, mirror data got lost or somebody else changed
	// the target. Only a mirror run that begins afterwards cures it.
	Remirror bool
	// Doubt: an operation was dropped, so what is equal in date and size may differ.
	Doubt bool
	Until fileop.Seq // operations up to here may have been applied before a restart
	// Recovering: operations applied before the restart are being applied again.
	Recovering bool
}

// Usable reports whether the target is a past moment of the source.
func (p Position) Usable() bool { return p.Mirrored && !p.Remirror && !p.Recovering }

// EventKind says what an Event is about.
type EventKind string

// Events. All but Cured, Orphans, MovedAside and NotPermitted want the operator's eye.
const (
	EventDiskFull     EventKind = "target disk full"
	EventBusy         EventKind = "target file busy"
	EventReadOnly     EventKind = "target read-only"
	EventIO           EventKind = "target input/output error"
	EventNoRights     EventKind = "no rights on target"
	EventCured        EventKind = "retry succeeded"
	EventDropped      EventKind = "operation dropped"
	EventChanged      EventKind = "target changed by others"
	EventRemirror     EventKind = "remirror required"
	EventNotPermitted EventKind = "attributes not permitted"
	EventOrphans      EventKind = "orphans found"
	EventMovedAside   EventKind = "leftover moved aside"
	EventCatalog      EventKind = "state directory not writable"
)

// Event is something the operator should be able to see.
type Event struct {
	Kind  EventKind
	Tree  uint32
	Name  string // what it is about, a hint
	Seq   fileop.Seq
	Count uint64
	Err   error
}

// Stats is a plain copy of the counters.
type Stats struct {
	Ops          uint64 // queue operations executed
	MirrorOps    uint64 // mirror records executed
	Bytes        uint64 // content written, both lanes
	Unknown      uint64 // dropped: object or parent not known here
	Lost         uint64 // objects somebody else replaced or removed on the target
	Dropped      uint64 // given up after retries
	Retries      uint64
	Retrying     bool
	NotPermitted uint64 // owners, attributes and devices that could not be set
	Orphans      uint64 // names on the target the source did not list, in the last mirror run
	MovedAside   uint64
	Checkpoints  uint64
	Objects      uint64 // catalog entries written since the start
}
