package verifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"understudy/fileop"
)

// workers is the number of directories compared at the same time: enough to hide round
// trips.
const workers = 8

// Verifier compares one connection. Run may be called by one goroutine at a time,
// everything else at any time.
type Verifier struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	totals  Totals
	current string
}

// New makes the verifier of one connection.
func New(cfg Config) *Verifier {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Verifier{cfg: cfg, log: cfg.Logger}
}

// Progress is how far the run is: its totals so far and the directory looked at.
func (v *Verifier) Progress() (t Totals, at string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.totals, v.current
}

func (v *Verifier) count(f func(*Totals)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.totals)
}

// frame is a directory that waits to be compared. absent: the target has nothing of it.
type frame struct {
	root   *Root
	e      fileop.Entry
	absent bool
}

// run is one comparison.
type run struct {
	*Verifier
	ctx    context.Context
	cancel context.CancelCauseFunc
	opts   Options
	found  func(Difference)
	token  atomic.Uint64
	behind atomic.Int64 // until when changes are not waited for, in nanoseconds since 1970

	work  sync.Mutex // guards what follows
	ready *sync.Cond
	stack []frame
	busy  int
	seen  map[seenKey]struct{} // directories, so that none is looked at twice
}

type seenKey struct {
	tree uint32
	obj  fileop.ObjID
}

// Run compares everything and calls found for each difference, from several goroutines
// but never at the same time. It returns ErrRoot, ErrStopped, ErrBehind, or what else
// ended it; nil says that everything was looked at, though Totals.Errors may count what
// could not be read.
func (v *Verifier) Run(ctx context.Context, o Options, found func(Difference)) (Totals, error) {
	v.mu.Lock()
	v.totals, v.current = Totals{}, ""
	v.mu.Unlock()
	r := &run{Verifier: v, opts: o, seen: map[seenKey]struct{}{}}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	defer r.cancel(nil)
	r.ready = sync.NewCond(&r.work)
	defer context.AfterFunc(r.ctx, func() { r.work.Lock(); r.ready.Broadcast(); r.work.Unlock() })()
	r.token.Store(newToken())
	var one sync.Mutex
	r.found = func(d Difference) {
		one.Lock()
		defer one.Unlock()
		found(d)
	}
	err := r.roots()
	if err == nil {
		r.all()
		err = context.Cause(r.ctx)
	}
	t, _ := v.Progress()
	if err != nil && errors.Is(err, context.Canceled) {
		err = ErrStopped
	}
	return t, err
}

// roots puts the root directories on the work list, once it is sure that they are those
// the connection protects.
func (r *run) roots() error {
	for i := range r.cfg.Roots {
		root := &r.cfg.Roots[i]
		e, err := r.look(root)
		if err != nil {
			return err
		}
		if !r.opts.OrphansOnly {
			if err := r.dir(root, root.rel(), e); err != nil {
				return fmt.Errorf("compare %s: %w", root.Dir, err)
			}
		}
		r.push(frame{root: root, e: e})
	}
	return nil
}

// look makes sure that a root directory is the one the connection protects.
func (r *run) look(root *Root) (fileop.Entry, error) {
	e, err := root.Tree.Lookup(root.rel())
	switch {
	case err != nil:
		return e, fmt.Errorf("%w: %s: %w", ErrRoot, root.Dir, err)
	case !isDir(e.Attr.Mode) || e.Obj != root.Obj:
		return e, fmt.Errorf("%w: %s", ErrRoot, root.Dir)
	}
	if root.Present != nil {
		if err := root.Present(); err != nil {
			return e, fmt.Errorf("%w: %s: %w", ErrRoot, root.Dir, err)
		}
	}
	return e, nil
}

func (r *run) push(fs ...frame) {
	r.work.Lock()
	defer r.work.Unlock()
	for _, f := range fs {
		f.e.Xattrs = nil
		r.stack = append(r.stack, f)
	}
	r.ready.Broadcast()
}

// all compares until nothing is left to do.
func (r *run) all() {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				f, ok := r.next()
				if !ok {
					return
				}
				r.fate(&f, r.directory(&f))
				r.done()
			}
		})
	}
	wg.Wait()
}

// next waits for a directory. ok is false when nothing will come any more.
func (r *run) next() (f frame, ok bool) {
	r.work.Lock()
	defer r.work.Unlock()
	for {
		if r.ctx.Err() != nil || len(r.stack) == 0 && r.busy == 0 {
			return frame{}, false
		}
		if n := len(r.stack); n > 0 {
			f = r.stack[n-1]
			r.stack = r.stack[:n-1]
			k := seenKey{f.root.Index, f.e.Obj}
			if _, again := r.seen[k]; again {
				continue
			}
			r.seen[k] = struct{}{}
			r.busy++
			return f, true
		}
		r.ready.Wait()
	}
}

func (r *run) done() {
	r.work.Lock()
	defer r.work.Unlock()
	r.busy--
	r.ready.Broadcast()
}

// fatal is an error that has nothing to do with one object.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// fate decides what an error about one object means for the run.
func (r *run) fate(f *frame, err error) {
	var end fatal
	switch {
	case err == nil || r.cfg.Gone(err):
	case errors.As(err, &end):
		r.cancel(end.error)
	case r.ctx.Err() != nil:
	default:
		r.unread(f.root.abs(f.e.Name), err)
	}
}

// unread notes what could not be read.
func (r *run) unread(path string, err error) {
	r.count(func(t *Totals) { t.Errors++ })
	r.log.Warn("not compared", "path", path, "err", err)
}
