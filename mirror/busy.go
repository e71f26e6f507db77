package mirror

import "understudy/fileop"

// What a successor of this process has to know: whether the moment is quiet, so that
// single live operations are all there is.

// unquiet says that more than single operations begins. m.mu is held.
func (m *Mirror) unquiet(all bool) {
	if m.busy && !all {
		return
	}
	m.busy = true
	if m.cfg.Busy != nil {
		m.cfg.Busy(true, all)
	}
}

// calm says that it is quiet, if it is. m.mu is held.
func (m *Mirror) calm() {
	if !m.busy || !m.whole || m.run != nil || m.works > 0 || m.entries > 0 {
		return
	}
	m.busy = false
	if m.cfg.Busy != nil {
		m.cfg.Busy(false, false)
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
