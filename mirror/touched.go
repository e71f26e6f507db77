package mirror

import (
	"sync"
	"sync/atomic"

	"understudy/fileop"
)

// maxTouched bounds the files remembered as changed before they were compared, some 40
// bytes each; with more, all count as changed.
const maxTouched = 1 << 20

// touchedSet remembers the files that live operations reached while the target's copy
// may be older than they assume. Such an operation gives the target's file the source's
// modification time, so that date and size prove nothing any more.
type touchedSet struct {
	off atomic.Bool // the target's copies are known to be right

	mu  sync.Mutex
	of  map[seenKey]struct{}
	all bool
}

func (t *touchedSet) add(k seenKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[seenKey]struct{}{}
	}
	if _, ok := t.of[k]; ok || t.all {
		return
	}
	if len(t.of) >= maxTouched {
		t.of, t.all = nil, true
		return
	}
	t.of[k] = struct{}{}
}

func (t *touchedSet) addAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of, t.all = nil, true
}

func (t *touchedSet) has(k seenKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.of[k]
	return ok || t.all
}

func (t *touchedSet) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of, t.all = nil, false
	t.off.Store(true)
}

// touch is called before an operation that gives an object its modification time is
// put, so that the target never shows it sooner than touched tells of it.
func (b *Border) touch(o *fileop.Op, obj fileop.ObjID) {
	m := b.m
	if m.touched.off.Load() || !o.Kind.IsData() && o.Kind != fileop.SetAttr {
		return
	}
	k := seenKey{b.root, obj}
	m.mu.Lock()
	known := m.run != nil && m.run.seen.has(k, seenEntry)
	m.mu.Unlock()
	if !known {
		m.touched.add(k)
	}
}

// leaves notes which files of a run that did not reach its end prove nothing by date
// and size: those whose content was under way and, if records were lost, all it sent.
// m.mu is held.
func (r *run) leaves(lost bool) {
	bits := seenOpen
	if lost {
		bits |= seenSent
	}
	r.seen.with(bits, r.m.touched.add)
	if !r.seen.exact && len(r.seen.of) >= maxSeen {
		r.m.touched.addAll()
	}
}

// doubt notes that the target may be older than live operations assume. m.mu is held.
func (m *Mirror) doubt() {
	m.unquiet(false)
	m.whole = false
	m.touched.off.Store(false)
}

// Doubt says that operations were lost on the way to the target: until the next mirror
// ends, equal dates and sizes prove nothing about files that change from now on.
func (m *Mirror) Doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubt()
}
