package inotify

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"understudy/capture"
)

// flushAfter is how long hints are gathered before the sink is told: an editor's or a
// copier's handful of events becomes one hint.
const flushAfter = 20 * time.Millisecond

// loop is the state of one Run; only its goroutine touches it.
type loop struct {
	*Backend
	w       *fsnotify.Watcher
	errors  <-chan error // of w
	watches watches
	todo    []place // directories to watch and list, last in first out; at most maxTodo
	polled  map[string]bool
	hints   capture.Pending
	barrier *barrier

	renewing      bool // watches are being set anew; Dirty("", true) follows
	firstOverflow time.Time
	warned        bool

	flushTimer, quietTimer, rescanTimer *time.Timer
	pollTicker, checkTicker             *time.Ticker
}

// place is a directory to watch and list. fresh: what is found there is reported.
type place struct {
	path  string
	fresh bool
}

// maxTodo bounds the directories found and not yet watched (about 100 bytes each).
// What does not fit is polled.
const maxTodo = 1 << 20

func newLoop(b *Backend) (*loop, error) {
	at, err := newBarrier()
	if err != nil {
		return nil, err
	}
	l := &loop{Backend: b, barrier: at, flushTimer: stoppedTimer(), quietTimer: stoppedTimer(), rescanTimer: stoppedTimer(),
		pollTicker: time.NewTicker(b.cfg.PollEvery), checkTicker: time.NewTicker(rootCheck)}
	if err := l.renew(); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (l *loop) stop() {
	for _, t := range []*time.Timer{l.flushTimer, l.quietTimer, l.rescanTimer} {
		t.Stop()
	}
	l.pollTicker.Stop()
	l.checkTicker.Stop()
	_ = l.barrier.f.Close()
	if l.w != nil {
		l.w.Close()
	}
}

// always is ready to receive from.
var always = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// step waits for one thing to do and does it. Events and directories still to be
// listed take turns by chance, so that neither starves.
func (l *loop) step(ctx context.Context) error {
	var work <-chan struct{}
	if len(l.todo) > 0 {
		work = always
	} else {
		l.barrier.over(l.flush)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case ev, ok := <-l.w.Events:
		if !ok {
			return errors.New("inotify instance closed")
		}
		return l.event(ev)
	case err, ok := <-l.errors:
		if !ok {
			return errors.New("inotify instance closed")
		}
		l.lost(err)
	case <-work:
		return l.scanNext()
	case done := <-l.syncs:
		l.barrier.await(done)
	case <-l.flushTimer.C:
		l.flush()
	case <-l.quietTimer.C:
		return l.renew()
	case <-l.rescanTimer.C:
		return l.renew()
	case <-l.pollTicker.C:
		l.poll()
	case <-l.checkTicker.C:
		return l.checkRoot()
	}
	return nil
}

// renew forgets all watches and sets them anew, then reports everything. It heals
// what lost events left behind: unwatched directories, and watches that still think
// their directory is where it no longer is. The old ones go first, else both would
// count against max_user_watches.
func (l *loop) renew() error {
	if l.w != nil {
		l.w.Close()
		l.w = nil
	}
	w, err := fsnotify.NewWatcher()
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%w: raise fs.inotify.max_user_instances or the limit of open files", err)
	}
	if err != nil {
		return err
	}
	l.w, l.errors, l.watches, l.polled = w, errorsOf(w), newWatches(), map[string]bool{}
	if err := l.barrier.watch(w); err != nil {
		l.log.Warn("changes are told later than they might be", "err", err)
	}
	l.todo = append(l.todo[:0], place{})
	l.renewing, l.firstOverflow = true, time.Time{}
	l.quietTimer.Stop()
	if l.cfg.RescanEvery > 0 {
		l.rescanTimer.Reset(l.cfg.RescanEvery)
	}
	return nil
}

// errorsOf takes the errors of a watcher off its hands. It tells of one while it holds the
// lock that adding and removing watches waits for, so whoever does that must not be the
// one it is told to. What finds no place is one of many: all lead to a renewal.
func errorsOf(w *fsnotify.Watcher) <-chan error {
	out := make(chan error, 16)
	go func() {
		defer close(out)
		for err := range w.Errors {
			select {
			case out <- err:
			default:
			}
		}
	}()
	return out
}

// lost notes that events are missing and puts the renewal off until it is quiet.
func (l *loop) lost(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		l.overflows.Add(1)
	}
	now := time.Now()
	if l.firstOverflow.IsZero() {
		l.firstOverflow = now
		l.log.Warn("event queue overflowed, rescanning", "path", l.root, "err", err)
		if f := l.cfg.Overflow; f != nil {
			f(l.overflows.Load())
		}
	}
	latest := l.firstOverflow.Add(rescanLatest).Sub(now)
	l.quietTimer.Reset(max(min(rescanDelay, latest), 0))
}

// event turns one event into hints, and follows directories.
func (l *loop) event(ev fsnotify.Event) error {
	if ev.Name == l.barrier.name {
		l.barrier.passed = len(l.barrier.fired) > 0
		return nil
	}
	rel := strings.TrimLeft(strings.TrimPrefix(ev.Name, l.root), "/")
	if rel == "" {
		if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
			return fmt.Errorf("%w: %s was removed or renamed", ErrRootGone, l.root)
		}
		l.dirty("", false)
		return nil
	}
	if ev.Has(fsnotify.Create) || ev.Has(fsnotify.Write) || ev.Has(fsnotify.Chmod) {
		l.dirty(rel, false)
	}
	if !ev.Has(fsnotify.Create) && !ev.Has(fsnotify.Remove) && !ev.Has(fsnotify.Rename) {
		return nil
	}
	l.dirty(parentOf(rel), false)
	l.unwatch(rel)
	// Also behind what went away: at an exchange another directory is there already, and
	// the watch it got a moment ago was just taken away.
	var st unix.Stat_t
	if unix.Lstat(l.abs(rel), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		l.later(place{rel, true})
	}
	return nil
}

// dirty keeps a hint for the next flush.
func (l *loop) dirty(path string, deep bool) {
	if l.hints.Empty() {
		l.flushTimer.Reset(flushAfter)
	}
	l.hints.Add(capture.Hint{Path: path, Deep: deep})
}

func (l *loop) flush() {
	for _, h := range l.hints.Take() {
		l.sink.Dirty(h.Path, h.Deep)
		l.told.Add(1)
	}
}

func (l *loop) abs(rel string) string {
	if rel == "" {
		return l.root
	}
	return strings.TrimSuffix(l.root, "/") + "/" + rel
}

func parentOf(rel string) string {
	if dir := path.Dir(rel); dir != "." {
		return dir
	}
	return ""
}
