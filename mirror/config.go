package mirror

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

// Rules are those of the replication set. Paths are absolute paths on the source.
type Rules interface {
	// Selects reports whether path is in the set.
	Selects(path string, dir bool) bool
	// Leads reports whether dir is selected or something below it may be; such a
	// directory is carried.
	Leads(dir string) bool
	// SameBelow reports whether the set looks the same below a and b, so that a
	// subtree renamed from one to the other needs nothing but the rename.
	SameBelow(a, b string) bool
}

// Root is one root directory of the set.
type Root struct {
	Tree     Tree
	Index    uint32 // Op.Tree of its records
	TreePath string // absolute path of the tree's root
	Dir      string // absolute path of the set's root directory: TreePath or below
}

// Config of a Mirror.
type Config struct {
	Roots  []Root
	Rules  Rules
	Log    Log
	Target Target // nil: nothing can be compared, every mirror is a full one
	// BlockSize is what block checksums compare, in bytes; 0 is DefaultBlockSize
	// (MirrorChunkSize, B7.12).
	BlockSize int
	// PartSize is what is compared of a block that differs, in bytes, at least 512; 0 is
	// DefaultPartSize. BlockSize is a multiple of it, or else blocks are sent whole.
	PartSize int
	// EveryChange: the capture tells of every changed object, so that a place is believed
	// by date and size unless everything below it is to be looked at.
	EveryChange bool
	// Newer: until the first run, hints leave what is later on the target (Options.Newer).
	Newer bool
	// Pace is what Border.Pace answers; nil: 0.
	Pace func() time.Duration
	// Touch and Durable are what Border.Touch and Border.Durable do; nil: nothing.
	Touch   func(fileop.ObjID)
	Durable func(context.Context)
	// LinkTarget rewrites the target of a symbolic link at path (B5.31); nil: as it is.
	LinkTarget func(path, target string) string
	// Busy is told, before its first record, that more than single live operations is
	// under way (a run, an arrival), and when all of it is logged and the target holds the
	// whole set. all: if it did not reach its end, equal dates and sizes prove nothing;
	// else only those of files that change from now on. nil: nobody wants to know. It is
	// called under locks and must not block.
	Busy func(busy, all bool)
	// Problem is told of everything that could not be read; nil: only logged. It must
	// not block.
	Problem func(path string, err error)
}

// DefaultBlockSize is the default of MirrorChunkSize (B7.12).
const DefaultBlockSize = 32768

// DefaultPartSize is a page of memory: what the page cache writes, and databases do.
const DefaultPartSize = 4096

// Errors that end a run.
var (
	// ErrStopped: Stop was called. The target is in no good state (B7.28).
	ErrStopped = errors.New("mirror stopped")
	// ErrAborted: mirror records were lost on the way. Run a difference mirror.
	ErrAborted = errors.New("mirror records were lost")
	// ErrIncomplete: something could not be read; everything else was sent.
	ErrIncomplete = errors.New("mirror is incomplete")
	// ErrRunning: a run is under way.
	ErrRunning = errors.New("a mirror is running")
)

// Mirror copies and watches the border for one connection. Its methods may be called
// by several goroutines at once.
type Mirror struct {
	cfg   Config
	log   *slog.Logger
	rules atomic.Pointer[Rules]

	running sync.Mutex // held by the one run under way, hints included
	newer   bool       // guarded by running: the last run left what is later on the target, and so do hints

	mu      sync.Mutex // the order of name operations against what the mirror has sent; no system calls inside
	run     *run       // guarded by mu; nil: none
	entries int        // guarded by mu: border operations that are about to send entries
	works   int        // guarded by mu: border operations of several records under way
	idle    *sync.Cond // on mu: entries became 0
	wake    chan struct{}
	lastRun int64                   // guarded by mu: number of the last run
	whole   bool                    // guarded by mu: the last run reached its end, so the target holds what the set holds
	claimed bool                    // guarded by mu: a run of the operator's waits or is under way
	yield   context.CancelCauseFunc // guarded by mu: ends the follow-up run under way

	last       atomic.Uint64 // number of the last queue record of ours
	lastMirror atomic.Uint64 // number of the last mirror record
	shifts     shiftLog
	touched    touchedSet
	failed     atomic.Bool // the log refused a record

	gate  gate
	quiet quiet
	prog  progress
	hints hintSet
}

// New makes the mirror of one connection.
func New(cfg Config, log *slog.Logger) *Mirror {
	if cfg.BlockSize <= 0 {
		cfg.BlockSize = DefaultBlockSize
	}
	cfg.BlockSize = min(cfg.BlockSize, fileop.MaxData)
	if cfg.PartSize <= 0 {
		cfg.PartSize = DefaultPartSize
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Mirror{cfg: cfg, log: log, newer: cfg.Newer, wake: make(chan struct{}, 1), lastRun: time.Now().UnixNano()}
	m.idle = sync.NewCond(&m.mu)
	m.rules.Store(&cfg.Rules)
	m.gate.init()
	m.quiet.busy = true
	m.hints.init(m.since())
	return m
}

// SetRules replaces the rules (B5.43). A difference mirror afterwards brings the
// target in line.
func (m *Mirror) SetRules(r Rules) { m.rules.Store(&r) }

// put appends to the queue lane. An error means the connection is ending; whoever
// owns the log knows it already.
func (m *Mirror) put(o *fileop.Op) fileop.Seq {
	o = m.fit(o)
	seq, err := m.cfg.Log.Put(o)
	if err != nil {
		m.refused(err)
		return 0
	}
	raise(&m.last, uint64(seq))
	return seq
}

// putMirror appends to the mirror lane.
func (m *Mirror) putMirror(o *fileop.Op) (fileop.Seq, error) {
	m.hinted()
	o = m.fit(o)
	seq, err := m.cfg.Log.PutMirror(o)
	if err != nil {
		m.refused(err)
		return 0, fatal{fmt.Errorf("%w: %w", ErrAborted, err)}
	}
	raise(&m.lastMirror, uint64(seq))
	return seq, nil
}

// maxXattrBytes bounds the extended attributes of one object that travel: a record that
// does not fit a frame would end the connection. Linux file systems hold far less.
const maxXattrBytes = 256 << 10

// errXattrs: an object has more extended attributes than fit a record.
var errXattrs = errors.New("extended attributes over 256 KiB are not carried")

// fit returns o, or a copy without extended attributes that would not fit a record.
func (m *Mirror) fit(o *fileop.Op) *fileop.Op {
	size := 0
	for _, x := range o.Xattrs {
		size += len(x.Name) + len(x.Value)
	}
	if size <= maxXattrBytes && len(o.Xattrs) <= fileop.MaxXattr {
		return o
	}
	m.log.Warn("source object not carried whole", "path", o.Path, "bytes", size, "err", errXattrs)
	if m.cfg.Problem != nil {
		m.cfg.Problem(o.Path, errXattrs)
	}
	c := *o
	c.Xattrs = nil
	return &c
}

func (m *Mirror) refused(err error) {
	m.touched.off.Store(false) // from here on the target's dates prove nothing
	if !m.failed.Swap(true) {
		m.log.Warn("log refuses records", "err", err)
	}
}

// raise sets a to v if that is more.
func raise(a *atomic.Uint64, v uint64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}

func (m *Mirror) problem(root *Root, path string, err error) {
	at := root.abs(path)
	m.log.Warn("source object unreadable", "path", at, "err", err)
	if m.cfg.Problem != nil {
		m.cfg.Problem(at, err)
	}
}
