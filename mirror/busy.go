package mirror

import (
	"sync"
	"sync/atomic"

	"understudy/fileop"
)

// What a successor of this process has to know: whether the moment is quiet, so that
// single live operations are all there is.

// quiet is what Config.Busy was told last.
type quiet struct {
	hints atomic.Bool // a batch of hints is being sent

	mu     sync.Mutex // guards what follows; taken under Mirror.mu or alone
	busy   bool
	hinted bool // the batch has sent something
}

// unquiet says that more than single operations begins. m.mu is held.
func (m *Mirror) unquiet(all bool) {
	q := &m.quiet
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.busy || all {
		m.tellBusy(true, all)
	}
}

// tellBusy tells who wants to know. quiet.mu is held.
func (m *Mirror) tellBusy(busy, all bool) {
	m.quiet.busy = busy
	if m.cfg.Busy != nil {
		m.cfg.Busy(busy, all)
	}
}

// calm says that it is quiet, if it is. m.mu is held.
func (m *Mirror) calm() {
	if !m.whole || m.run != nil || m.works > 0 || m.entries > 0 {
		return
	}
	q := &m.quiet
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy && !q.hinted {
		m.tellBusy(false, false)
	}
}

// hinting marks a batch of hints until done is called with what came of it. Most of those beneath a stacked
// mount turn out to concern nothing; only what is sent ends the quiet.
func (m *Mirror) hinting() (done func(error)) {
	m.quiet.hints.Store(true)
	return func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.quiet.hints.Store(false)
		m.quiet.mu.Lock()
		m.quiet.hinted = m.quiet.hinted && err != nil // what is missing is tried again
		m.quiet.mu.Unlock()
		m.calm()
	}
}

// hinted notes, before it is put, that hints send something.
func (m *Mirror) hinted() {
	if !m.quiet.hints.Load() {
		return
	}
	q := &m.quiet
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hinted = true
	if !q.busy {
		m.tellBusy(true, false)
	}
}

// work marks a border operation that may put several records, until done is called.
func (m *Mirror) work() (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.works++
	m.unquiet(false)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.works--
		m.calm()
	}
}

// Continue begins where the mirror of a former process ended, behind queue record last.
// whole: the moment was quiet. If not, that one's records may be lost, and a difference
// mirror has to follow. It is called before any border is used.
func (m *Mirror) Continue(last fileop.Seq, whole bool) {
	raise(&m.last, uint64(last))
	m.shifts.below(last)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !whole {
		m.put(&fileop.Op{Kind: fileop.MirrorAbort}) // of whatever run
		return
	}
	m.whole = true
	m.touched.clear()
	m.calm()
}

// Logged reports whether the operation of a request is logged already, by a former
// process (capture.Resumed). Of one that took several records some may be missing; then
// the moment was not quiet, and a mirror follows.
func (b *Border) Logged(token uint64) bool {
	log, ok := b.m.cfg.Log.(interface {
		Logged(tree uint32, token uint64) bool
	})
	return ok && log.Logged(b.m.cfg.Roots[b.root].Index, token)
}
