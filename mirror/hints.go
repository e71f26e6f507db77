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

type hint struct {
	root int
	path string // relative to the tree
}

// hintSet collects where something may have changed.
type hintSet struct {
	mu   sync.Mutex
	of   map[hint]bool // guarded by mu; true: everything below, too
	busy bool          // guarded by mu: a batch was taken and is not sent yet
	wake chan struct{}

	// lookedAt is when the last look at everything began; guarded by Mirror.running.
	// Events are lost now and then, so what changed since then is not believed.
	lookedAt fileop.Time
}

// clockSlack covers the coarse clock of the kernel's file times.
const clockSlack = time.Second

func timeOf(t time.Time) fileop.Time {
	return fileop.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}

// wholeTree reports that a batch covered everything of every root.
func (m *Mirror) wholeTree(batch map[hint]bool) bool {
	for i := range m.cfg.Roots {
		if !batch[hint{i, m.cfg.Roots[i].rel()}] {
			return false
		}
	}
	return true
}

func (h *hintSet) init() {
	h.of, h.wake = map[hint]bool{}, make(chan struct{}, 1)
	h.lookedAt = timeOf(time.Now().Add(-clockSlack))
}

func (h *hintSet) add(at hint, deep bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.of[at]; !ok && len(h.of) >= maxHints {
		roots := map[hint]bool{{root: at.root}: true}
		for k := range h.of {
			roots[hint{root: k.root}] = true
		}
		h.of = roots
	} else {
		h.of[at] = h.of[at] || deep
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hintSet) take() map[hint]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	batch := h.of
	h.of, h.busy = map[hint]bool{}, true
	return batch
}

func (h *hintSet) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = false
}

// Dirty says that something at path, relative to the tree of root number i, may have
// changed: its entry, its content or its list of names; deep: everything below, too.
// It does not block.
func (m *Mirror) Dirty(i int, path string, deep bool) { m.hints.add(hint{i, path}, deep) }

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
			m.hints.done()
			retry = firstRetry
			continue
		}
		for h, deep := range batch {
			m.hints.add(h, deep)
		}
		m.hints.done()
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
func (m *Mirror) refresh(ctx context.Context, batch map[hint]bool) error {
	m.running.Lock()
	defer m.running.Unlock()
	o := Options{Mode: Full}
	if m.cfg.Target != nil {
		o = Options{Mode: Diff, Checksum: true}
	}
	m.failed.Store(false)
	o.Since = m.hints.lookedAt
	began := time.Now().Add(-clockSlack)
	r := &run{m: m, ctx: ctx, opts: o, seen: newSeen(false), estimate: firstCredit, quiet: true}
	defer r.background()()
	if err := r.dirt(batch); err != nil {
		return err
	}
	err := r.walk()
	r.stack = append(r.stack, r.prunes...)
	r.prunes = nil
	if err == nil {
		err = r.walk()
	}
	if err == nil && m.failed.Load() {
		err = ErrAborted
	}
	if err == nil && m.wholeTree(batch) {
		m.hints.lookedAt = timeOf(began)
	}
	return err
}

// dirt makes work of a batch: names to send, grouped by directory, and directories to
// compare.
func (r *run) dirt(batch map[hint]bool) error {
	names := map[hint][]string{}
	walks := map[hint]bool{}
	for h, deep := range batch {
		p := r.m.place(h.root)
		if p.leadsToRoot(h.path) {
			if err := r.root(h.root); err != nil {
				return err
			}
			top := &r.stack[len(r.stack)-1]
			top.flat, top.force = !deep && p.isRoot(h.path), true
			continue
		}
		e, err := p.Tree.Lookup(h.path)
		dir, name := split(h.path)
		switch {
		case gone(err):
			if up := (hint{h.root, dir}); !walks[up] {
				walks[up] = false
			}
		case err != nil:
			r.unread(h.root, h.path, err)
		case p.selectsEntry(dir, &fileop.Entry{Name: name, Attr: e.Attr}):
			up := hint{h.root, dir}
			names[up] = append(names[up], name)
			if isDir(e.Attr.Mode) {
				walks[h] = walks[h] || deep
			}
		}
	}
	for h, deep := range walks {
		r.dirtyDir(h, frame{root: h.root, force: true, flat: !deep})
	}
	for h, ns := range names {
		r.dirtyDir(h, frame{root: h.root, force: true, only: true, names: ns})
	}
	return nil
}

func (r *run) dirtyDir(h hint, f frame) {
	p := r.m.place(h.root)
	if !p.carries(h.path, true) {
		return
	}
	e, err := p.Tree.Lookup(h.path)
	switch {
	case gone(err) || err == nil && !isDir(e.Attr.Mode):
		dir, _ := split(h.path)
		if !p.leadsToRoot(h.path) {
			r.dirtyDir(hint{h.root, dir}, frame{root: h.root, force: true, flat: true})
		}
		return
	case err != nil:
		r.unread(h.root, h.path, err)
		return
	}
	f.e = e
	r.push(f)
}

// unknown handles a directory of a batch that the target does not know: what is above
// it is compared, with everything below.
func (r *run) unknown(f *frame) error {
	if r.m.place(f.root).isRoot(f.dir) {
		return r.root(f.root)
	}
	dir, _ := split(f.dir)
	r.dirtyDir(hint{f.root, dir}, frame{root: f.root, force: true})
	return nil
}
