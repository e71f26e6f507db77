package applier

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// exec executes one record, as often as it takes (B8.19). A record about something
// unknown is counted, one that can never succeed is dropped with a remirror required.
func (a *Applier) exec(ctx context.Context, op *fileop.Op) error {
	a.doing = ""
	err := a.retrying(ctx, op.Kind.String(), func() error {
		err := a.apply(op)
		if err != nil && a.doing == "" {
			a.doing = a.names(op)
		}
		if classify(err) == failUnknown {
			a.count(func(s *Stats) { s.Unknown++ })
			return a.removeGhostsOf(op)
		}
		return err
	})
	var d *dropError
	if errors.As(err, &d) {
		a.drop(op, d.err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("apply %s %d: %w", op.Kind, op.Seq, err)
	}
	return nil
}

// dropError ends retrying: the operation cannot be executed.
type dropError struct{ err error }

func (d *dropError) Error() string { return d.err.Error() }
func (d *dropError) Unwrap() error { return d.err }

func (a *Applier) drop(op *fileop.Op, err error) {
	a.count(func(s *Stats) { s.Dropped++ })
	a.log.Error("operation dropped, remirror required", "op", *op, "err", err)
	a.event(Event{Kind: EventDropped, Tree: op.Tree, Name: a.names(op), Seq: op.Seq, Err: err})
	a.pos.Doubt = true
	a.needRemirror("operation dropped")
}

func (a *Applier) apply(op *fileop.Op) error {
	switch op.Kind {
	case fileop.Sync:
		return nil
	case fileop.Task:
		return a.opTask(op)
	case fileop.Barrier:
		return a.opBarrier(op)
	case fileop.Gap:
		a.opGap()
		return nil
	case fileop.MirrorBegin:
		return a.opMirrorBegin(op)
	case fileop.MirrorEnd:
		return a.opMirrorEnd(op)
	case fileop.MirrorAbort:
		return a.opMirrorAbort(op)
	}
	t, err := a.tree(op.Tree)
	if err != nil {
		return err
	}
	switch op.Kind {
	case fileop.Create, fileop.Mkdir, fileop.Mknod, fileop.Symlink:
		return a.opNew(t, op)
	case fileop.Link:
		return a.opLink(t, op)
	case fileop.Unlink, fileop.Rmdir:
		return a.opUnlink(t, op)
	case fileop.Rename:
		return a.opRename(t, op)
	case fileop.Write:
		return a.opWrite(t, op)
	case fileop.Truncate:
		return a.opTruncate(t, op)
	case fileop.Fallocate:
		return a.opFallocate(t, op)
	case fileop.CopyRange:
		return a.opCopyRange(t, op)
	case fileop.SetAttr:
		return a.opSetAttr(t, op)
	case fileop.SetXattr, fileop.RemoveXattr:
		return a.opXattr(t, op)
	case fileop.MirrorEntry:
		return a.opMirrorEntry(t, op)
	case fileop.MirrorBlock:
		return a.opMirrorBlock(t, op)
	case fileop.MirrorFileEnd:
		return a.opMirrorFileEnd(t, op)
	case fileop.MirrorDir:
		return a.opMirrorDir(t, op)
	case fileop.MirrorDirEnd:
		return a.opMirrorDirEnd(t, op)
	}
	return fmt.Errorf("%w: kind %s", ErrProtocol, op.Kind)
}

// failure is what an error means for the record that met it.
type failure uint8

const (
	failNone    failure = iota
	failUnknown         // count it and go on
	failWait            // try again after a while
	failAgain           // try again at once, with fresh descriptors; then give up
	failStop            // end the run
)

// waitErrnos heal with time or an operator; the event says which it is.
var waitErrnos = map[unix.Errno]EventKind{
	unix.ENOSPC: EventDiskFull, unix.EDQUOT: EventDiskFull,
	unix.EBUSY: EventBusy, unix.ETXTBSY: EventBusy, unix.EAGAIN: EventBusy, unix.ENOMEM: EventBusy,
	unix.EMFILE: EventBusy, unix.ENFILE: EventBusy, unix.ETIMEDOUT: EventBusy, unix.EINTR: EventBusy,
	unix.EROFS: EventReadOnly, unix.EIO: EventIO, unix.ENODEV: EventIO, unix.ENOTCONN: EventIO,
	unix.EPERM: EventNoRights, unix.EACCES: EventNoRights,
}

// classify looks at system call errors first: an error that also says "unknown" must not
// hide one that has to be tried again.
func classify(err error) failure {
	var no unix.Errno
	switch {
	case err == nil:
		return failNone
	case errors.Is(err, ErrProtocol), errors.Is(err, errCatalog):
		return failStop
	case errors.As(err, &no):
		if _, ok := waitErrnos[no]; ok {
			return failWait
		}
		return failAgain
	case errors.Is(err, errUnknown):
		return failUnknown
	case errors.Is(err, context.Canceled):
		return failStop
	}
	return failAgain
}

// retrying runs f until it succeeds, must stop or is given up (a dropError).
func (a *Applier) retrying(ctx context.Context, what string, f func() error) error {
	again := false
	for attempt := 1; ; attempt++ {
		err := f()
		switch classify(err) {
		case failNone, failUnknown:
			if attempt > 1 {
				a.cured()
			}
			return nil
		case failStop:
			return err
		case failAgain:
			if again {
				a.cured()
				return &dropError{err}
			}
			again = true
			a.freshDescriptors()
			continue
		}
		if failpoint.Planted(failpoint.PlantSkip) {
			return nil
		}
		if most := a.retryMax.Load(); most > 0 && int64(attempt) >= most {
			a.cured()
			return &dropError{err}
		}
		if err := a.waitRetry(ctx, what, attempt, err); err != nil {
			return err
		}
	}
}

// about says in an error which file it is about, as far as the record tells.
func (a *Applier) about(err error) error {
	if a.doing == "" {
		return err
	}
	return fmt.Errorf("%s: %w", a.doing, err)
}

// names says what op is about: its place on the target as far as it is known.
func (a *Applier) names(op *fileop.Op) string {
	t := a.trees[op.Tree]
	if t == nil {
		return op.Name
	}
	hint := op.Path
	if hint == "" {
		hint = op.Name
		if o := a.cat.get(key{op.Tree, op.Obj}); hint == "" && o != nil && len(o.names) > 0 {
			hint = o.names[0].name
		}
	}
	return filepath.Join(t.Root.Path, hint)
}

func (a *Applier) freshDescriptors() {
	a.dirs.clear()
	a.files.clear()
}

// waitRetry waits RetryEvery and answers requests meanwhile; those that need the order
// wait with the operation.
func (a *Applier) waitRetry(ctx context.Context, what string, attempt int, err error) error {
	var no unix.Errno
	errors.As(err, &no)
	if attempt == 1 {
		err = a.about(err)
		a.log.Warn("operation waits to be tried again", "what", what, "seq", a.pos.Applied+1, "err", err)
		a.event(Event{Kind: waitErrnos[no], Seq: a.pos.Applied + 1, Count: uint64(attempt), Err: err})
	}
	a.count(func(s *Stats) { s.Retries++; s.Retrying = true })
	a.cfg.OnChange()
	a.freshDescriptors()
	timer := time.NewTimer(a.retryWait())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case f := <-a.ctl:
			f()
		case <-a.retrySet:
			timer.Reset(a.retryWait())
		case <-timer.C:
			return nil
		}
	}
}

// SetRetry replaces Config.RetryEvery and Config.RetryMax; a wait under way begins anew.
// It may be called at any time.
func (a *Applier) SetRetry(every time.Duration, most int) {
	if every <= 0 {
		every = DefaultRetryEvery
	}
	changed := a.retryEvery.Swap(int64(every)) != int64(every)
	if a.retryMax.Swap(int64(most)) != int64(most) || changed {
		select {
		case a.retrySet <- struct{}{}:
		default:
		}
	}
}

// Retry is what SetRetry set last.
func (a *Applier) Retry() (every time.Duration, most int) {
	return a.retryWait(), int(a.retryMax.Load())
}

func (a *Applier) retryWait() time.Duration { return time.Duration(a.retryEvery.Load()) }

func (a *Applier) cured() {
	if !a.Stats().Retrying {
		return
	}
	a.count(func(s *Stats) { s.Retrying = false })
	a.event(Event{Kind: EventCured, Seq: a.pos.Applied + 1})
}

func (a *Applier) event(e Event) { a.cfg.OnEvent(e) }

// needRemirror notes that the target is not a past moment of the source any more.
func (a *Applier) needRemirror(why string) {
	if a.pos.Run != 0 {
		a.pos.RunBroken = true
	}
	if a.pos.Remirror {
		return
	}
	a.pos.Remirror = true
	a.log.Warn("remirror required", "why", why)
	a.event(Event{Kind: EventRemirror, Seq: a.pos.Applied + 1, Err: errors.New(why)})
}
