package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"understudy/fileop"
)

// Mode of a run.
type Mode uint8

const (
	Full Mode = iota // every file is sent (B7.2)
	Diff             // only what differs is sent (B7.3)
)

// Options of a run; the combinations are those of B7.7. All but Mode count for Diff
// only.
type Options struct {
	Mode           Mode
	Newer          bool // only files later on the source than on the target (B7.4)
	Checksum       bool // of differing files only differing blocks (B7.5)
	ChecksumAll    bool // with Checksum: equal date and size prove nothing (B7.6)
	AttributesOnly bool // content is left alone (B7.10)
	// KeepNewer leaves what is later on the target, whatever else is known of it; unlike
	// Newer it covers all kinds of objects but directories, whose content is looked at.
	// KeepExisting leaves whatever the target has.
	KeepNewer, KeepExisting bool
	// KeepBefore bounds both: what was changed on the target since then, by its own clock,
	// is the work of an earlier attempt, and does not stay. Zero: there was none.
	KeepBefore fileop.Time
	// Since says that changes from this time on may have been missed: of a file whose
	// inode changed since then (which no program can hide, unlike its date), equal date
	// and size prove nothing. Zero: none were missed.
	Since fileop.Time
	// Doubted are the files of which equal date and size prove nothing either; nil: none.
	// Nobody changes them while the run is under way.
	Doubted    *Objects
	TotalFiles uint64 // for the percentage, if known (B5.53)
	TotalBytes uint64
}

// Objects is a set.
type Objects map[fileop.ObjID]struct{}

// run is one walk and what belongs to it.
type run struct {
	m     *Mirror
	ctx   context.Context
	id    int64
	opts  Options
	seen  seenSet // guarded by m.mu
	moves uint64  // guarded by m.mu: counts names that vanished from where they were
	come  []frame // guarded by m.mu: work brought in by the border
	over  bool    // guarded by m.mu: come was full; everything must be compared again

	ordered    bool           // by Run, not a follow-up run; never changes
	follow     bool           // its work is what the border brought, not everything
	quiet      bool           // no begin and end records: a batch of hints
	stack      []frame        // directories; the walker's own
	files      []frame        // files whose content is to be sent; the walker's own
	prunes     []frame        // hints: directories whose lost names are removed at the end
	incomplete bool           // something could not be read
	queries    sync.WaitGroup // questions to the target under way
	stale      bool           // something was lost sight of: another pass is needed
	estimate   int            // bytes to ask credit for before the next chunk
}

// maxCome bounds the work the border may add before the walker takes it.
const maxCome = 1 << 14

// maxPasses bounds the repetitions of a run whose work list overflowed.
const maxPasses = 5

// Run mirrors the whole set. It returns nil when everything is logged and MirrorEnd
// with it; ErrStopped, ErrAborted, ErrIncomplete, ErrRunning, or what went wrong. A
// follow-up run under way is ended first, its work is part of this one.
func (m *Mirror) Run(ctx context.Context, o Options) error {
	if !m.claim() {
		return ErrRunning
	}
	defer m.release()
	if m.cfg.Target == nil {
		o.Mode = Full
	}
	m.failed.Store(false)
	m.newer = o.Newer
	r := m.begin(ctx, o)
	m.prog.start(r.id, Mirroring, o)
	m.log.Info("mirror started", "run", r.id, "diff", o.Mode == Diff)
	start := time.Now()
	err := r.all()
	m.log.Info("mirror ended", "run", r.id, "took", time.Since(start), "files", m.prog.files.Load(),
		"contents", m.prog.contents.Load(), "bytes", m.prog.sent.Load(), "err", err)
	m.prog.setState(stateAfter(err))
	return err
}

func stateAfter(err error) State {
	switch {
	case err == nil:
		return Done
	case errors.Is(err, ErrStopped):
		return Stopped
	case errors.Is(err, ErrAborted):
		return Aborted
	case errors.Is(err, ErrIncomplete):
		return Incomplete
	}
	return Failed
}

// claim reserves the mirror for a run of the operator's and ends a follow-up run.
func (m *Mirror) claim() bool {
	m.mu.Lock()
	if m.claimed {
		m.mu.Unlock()
		return false
	}
	m.claimed = true
	if m.yield != nil {
		m.yield(errYield)
	}
	m.mu.Unlock()
	m.running.Lock()
	return true
}

func (m *Mirror) release() {
	m.running.Unlock()
	m.mu.Lock()
	m.claimed = false
	m.mu.Unlock()
}

func (m *Mirror) begin(ctx context.Context, o Options) *run {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle()
	if m.gate.reset() {
		m.lost()
	}
	m.doubt()
	if m.run != nil { // a follow-up run nobody served
		m.run.leaves(false)
	}
	r := m.start(o, true)
	r.ctx = ctx
	return r
}

// all walks every root until nothing is left to do.
func (r *run) all() error {
	defer r.background()()
	for range maxPasses {
		var err error
		if !r.follow {
			err = r.roots()
		}
		for more := true; err == nil && more; {
			if err = r.walk(); err == nil {
				more, err = r.end()
			}
		}
		if !errors.Is(err, errAgain) {
			return r.leave(err)
		}
		r.follow = false // everything now
		if r.m.cfg.Target != nil {
			r.opts.Mode = Diff
		}
	}
	return r.leave(fmt.Errorf("%w: the source changes faster than it can be read", ErrIncomplete))
}

// errAgain: the work list overflowed, everything has to be compared once more.
var errAgain = errors.New("work list overflowed")

func (r *run) roots() error {
	for i := range r.m.cfg.Roots {
		if err := r.root(i); err != nil {
			return err
		}
	}
	return nil
}

// root sends the entry of one root directory and puts it on the work list.
func (r *run) root(i int) error {
	root := &r.m.cfg.Roots[i]
	e, err := root.Tree.Lookup(root.rel())
	if err == nil && !isDir(e.Attr.Mode) {
		err = errors.New("not a directory")
	}
	if err != nil {
		return fmt.Errorf("open root %s: %w", root.Dir, err)
	}
	e.Name = ""
	seq, err := r.putDir(i, fileop.ObjID{}, &e, fileop.Time{})
	if err != nil {
		return err
	}
	r.push(frame{root: i, e: e, after: seq, sent: true})
	return nil
}

// end finishes a walk, if the border did not bring more work meanwhile.
func (r *run) end() (more bool, err error) {
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle()
	switch {
	case r.over || r.stale:
		r.over, r.stale, r.come = false, false, nil
		r.seen.walkAgain()
		return false, errAgain
	case len(r.come) > 0:
		return true, nil
	case m.failed.Load(), m.gate.isAborted():
		return false, ErrAborted
	case r.incomplete:
		return false, ErrIncomplete
	}
	if !r.quiet {
		m.put(&fileop.Op{Kind: fileop.MirrorEnd, Len: r.id})
	}
	m.run = nil
	if !r.follow && !r.quiet && !r.opts.Newer && !r.opts.AttributesOnly {
		m.whole = true
		m.touched.clear()
	}
	m.calm()
	return false, nil
}

// settle waits until no border operation is about to send entries. m.mu is held.
func (m *Mirror) settle() {
	for m.entries > 0 {
		m.idle.Wait()
	}
}

// leave ends a run that did not reach its end; of one that did it changes nothing.
func (r *run) leave(err error) error {
	if err == nil {
		return nil
	}
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle()
	lost := errors.Is(err, ErrAborted) || m.failed.Load() || m.gate.isAborted()
	if lost {
		m.put(&fileop.Op{Kind: fileop.MirrorAbort, Len: r.id})
		if !errors.Is(err, ErrStopped) { // the operator's word: no other one begins by itself
			err = ErrAborted
		}
	}
	m.doubt()
	r.leaves(lost)
	m.run = nil
	return err
}
