package mirror

import (
	"context"
	"sync"
	"time"

	"understudy/fileop"
)

// maxHints bounds the places waiting to be looked at; at the bound they become one:
// everything below the root.
const maxHints = 1 << 16

// gather is the time more hints are waited for after the first.
const gather = 10 * time.Millisecond

// Pauses after a batch of hints that could not be sent.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// hint is a place to look at.
type hint struct {
	root int
	path string // relative to the tree
	obj  string // handle of a file of which no name is known; then path is ""
}

// look says how to look at a place.
type look struct {
	deep  bool // everything below, too
	moved bool // an object the target is likely to hold came here by a rename
	attrs bool // of an object: its content did not change
}

// and joins two hints at one place.
func (l look) and(m look) look { return look{l.deep || m.deep, l.moved && m.moved, l.attrs && m.attrs} }

// hintSet collects where something may have changed.
type hintSet struct {
	mu   sync.Mutex
	of   map[hint]look // guarded by mu
	busy bool          // guarded by mu: a batch was taken and is not sent yet
	deaf bool          // guarded by mu: nothing is taken any more
	wake chan struct{}
	// Those who wait for the batch under way, and for the next; guarded by mu.
	now, next []chan struct{}

	// lookedAt is when the last look at everything began; guarded by Mirror.running.
	// Events are lost now and then, so what changed since then is not believed.
	lookedAt fileop.Time
}

// File times come from the kernel's coarse clock, up to 10 ms behind the clock that is asked
// here. Where a capture does not tell of every change, the file system may also be one that
// takes its times from another machine.
const (
	tickSlack  = 50 * time.Millisecond
	clockSlack = time.Second
)

// since is the time from which on a change is in doubt if all was looked at from now on.
func (m *Mirror) since() time.Time {
	if m.cfg.EveryChange {
		return time.Now().Add(-tickSlack)
	}
	return time.Now().Add(-clockSlack)
}

func timeOf(t time.Time) fileop.Time {
	return fileop.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

func anyDeep(batch map[hint]look) bool {
	for _, how := range batch {
		if how.deep {
			return true
		}
	}
	return false
}

// wholeTree reports that a batch covered everything of every root.
func (m *Mirror) wholeTree(batch map[hint]look) bool {
	for i := range m.cfg.Roots {
		if !batch[hint{root: i, path: m.cfg.Roots[i].rel()}].deep {
			return false
		}
	}
	return true
}

func (h *hintSet) init(since time.Time) {
	h.of, h.wake, h.lookedAt = map[hint]look{}, make(chan struct{}, 1), timeOf(since)
}

func (h *hintSet) add(at hint, how look) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch old, ok := h.of[at]; {
	case h.deaf:
		return
	case ok:
		h.of[at] = old.and(how)
	case len(h.of) >= maxHints:
		roots := map[hint]look{{root: at.root}: {deep: true}}
		for k := range h.of {
			roots[hint{root: k.root}] = look{deep: true}
		}
		h.of = roots
	default:
		h.of[at] = how
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hintSet) take() map[hint]look {
	h.mu.Lock()
	defer h.mu.Unlock()
	batch := h.of
	h.of, h.busy = map[hint]look{}, true
	h.now, h.next = append(h.now, h.next...), nil
	return batch
}

// done ends a batch. One that was not sent whole is part of the next.
func (h *hintSet) done(sent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = false
	if !sent {
		h.next = append(h.now, h.next...)
	} else {
		closeAll(h.now)
	}
	h.now = nil
}

func closeAll(waiting []chan struct{}) {
	for _, ch := range waiting {
		close(ch)
	}
}

// Dirty says that something at path, relative to the tree of root number i, may have
// changed: its entry, its content or its list of names; deep: everything below, too.
// It does not block.
func (m *Mirror) Dirty(i int, path string, deep bool) {
	m.hints.add(hint{root: i, path: path}, look{deep: deep})
}

// Moved is Dirty for an object that came to path by a rename within the tree: a file's
// content is compared and not sent as a matter of course.
func (m *Mirror) Moved(i int, path string, deep bool) {
	m.hints.add(hint{root: i, path: path}, look{deep: deep, moved: true})
}

// Object says that the content or attributes of a regular file may have changed of which
// no name below the root is known; content is false if only attributes may have. If the
// target knows it, it is compared. The tree must find objects by such handles
// (ObjectTree), else everything is compared.
func (m *Mirror) Object(i int, handle []byte, content bool) {
	m.hints.add(hint{root: i, obj: string(handle)}, look{attrs: !content})
}

// Deaf drops the places that wait to be looked at, and all that are told from now on.
func (m *Mirror) Deaf() {
	m.hints.mu.Lock()
	defer m.hints.mu.Unlock()
	m.hints.deaf, m.hints.of = true, map[hint]look{}
	closeAll(m.hints.next)
	m.hints.next = nil
}

// Looked returns a channel that is closed when every place told of before the call was
// looked at and what changed there is logged. Unlike Idle, that comes also while more and
// more is told. It stays open if RunHints ends first.
func (m *Mirror) Looked() <-chan struct{} {
	h, done := &m.hints, make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case len(h.of) > 0:
		h.next = append(h.next, done)
	case h.busy:
		h.now = append(h.now, done)
	default:
		close(done)
	}
	return done
}

// Between calls f while neither a run nor a batch of hints is under way: what f logs names a
// state in which nothing is half sent. f must not wait for the mirror.
func (m *Mirror) Between(ctx context.Context, f func() error) error {
	for {
		if m.running.TryLock() {
			m.mu.Lock()
			busy := m.run != nil || m.claimed
			m.mu.Unlock()
			if !busy {
				defer m.running.Unlock()
				return f()
			}
			m.running.Unlock()
		}
		select { // the pause before each batch is longer (gather)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(gather / 10):
		}
	}
}

// Pending is the number of places that wait to be looked at.
func (m *Mirror) Pending() int {
	m.hints.mu.Lock()
	defer m.hints.mu.Unlock()
	return len(m.hints.of)
}

// Idle reports that nothing is being sent and nothing waits to be.
func (m *Mirror) Idle() bool {
	m.hints.mu.Lock()
	busy := m.hints.busy || len(m.hints.of) > 0
	m.hints.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	return !busy && m.run == nil && !m.claimed && len(m.wake) == 0
}

// RunHints sends what changed at the places called dirty, until ctx ends; then it
// returns nil. What could not be sent stays dirty and is tried again.
func (m *Mirror) RunHints(ctx context.Context) error {
	retry := firstRetry
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.hints.wake:
		}
		select { // the two halves of a rename come one after the other
		case <-ctx.Done():
		case <-time.After(gather):
		}
		batch := m.hints.take()
		err := m.refresh(ctx, batch)
		if err == nil {
			m.hints.done(true)
			retry = firstRetry
			continue
		}
		for h, how := range batch {
			m.hints.add(h, how)
		}
		m.hints.done(false)
		if ctx.Err() != nil {
			return nil
		}
		m.log.Warn("changes not sent yet", "places", len(batch), "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
			retry = min(2*retry, lastRetry)
		}
	}
}

// refresh sends one batch. It waits for a run under way. New names are sent before
// vanished ones are removed, so that what was moved is moved on the target, too.
func (m *Mirror) refresh(ctx context.Context, batch map[hint]look) (err error) {
	m.running.Lock()
	defer m.running.Unlock()
	done := m.hinting()
	defer func() { done(err) }()
	o := Options{Mode: Full}
	if m.cfg.Target != nil {
		o = Options{Mode: Diff, Checksum: true}
	}
	m.failed.Store(false)
	o.Newer = m.newer
	if !m.cfg.EveryChange || anyDeep(batch) || m.newer {
		o.Since = m.hints.lookedAt
	}
	began := m.since()
	r := &run{m: m, ctx: ctx, opts: o, seen: newSeen(false), estimate: firstCredit, quiet: true}
	defer r.background()()
	if err := r.dirt(batch); err != nil {
		return err
	}
	err = r.walk()
	prunes := r.prunes
	r.stack, r.prunes = append(r.stack, prunes...), nil
	if err == nil {
		err = r.walk()
	}
	if err == nil && len(prunes) > 0 {
		err = r.batchOver(prunes[0].root)
	}
	if err == nil && m.failed.Load() {
		err = ErrAborted
	}
	if err == nil && m.wholeTree(batch) {
		m.hints.lookedAt = timeOf(began)
	}
	return err
}
