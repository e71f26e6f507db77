package stream

import (
	"understudy/fileop"
)

// Who may be busy with more than single operations.
const (
	UnquietMirror uint64 = 1 << iota // a mirror runs, something arrives, or the last mirror did not reach its end
	UnquietOrder                     // a mirror is ordered
)

// Doubts is what a difference mirror must not believe by date and size, after a kill at
// a moment that was not quiet.
type Doubts struct {
	All   bool
	Since fileop.Time // what changed from then on, in whole seconds; zero: no such doubt
}

func (d Doubts) since() uint64 {
	if d.Since.IsZero() {
		return 0
	}
	return uint64(max(1, d.Since.Sec))
}

// Unquiet says, before it begins, that more than single operations is under way, and
// what had to be doubted if it did not reach its end. Doubts add up until it is quiet.
// It may be called by several goroutines.
func (t *Tail) Unquiet(who uint64, d Doubts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data == nil {
		return
	}
	bits, since, all := t.load(wordUnquiet), d.since(), d.All
	if bits != 0 {
		all = all || t.load(wordDoubtAll) != 0
		if old := t.load(wordDoubtSince); old != 0 && (since == 0 || old < since) {
			since = old
		}
	}
	if all {
		t.store(wordDoubtAll, 1)
	}
	t.store(wordDoubtSince, since)
	if !all {
		t.store(wordDoubtAll, 0)
	}
	t.store(wordUnquiet, bits|who)
}

// Begin replaces all doubts: nothing was captured before. It is never quiet meanwhile.
func (t *Tail) Begin(d Doubts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data == nil {
		return
	}
	t.store(wordDoubtSince, d.since())
	if !d.All {
		t.store(wordDoubtAll, 0)
	}
}

// Quiet says that what Unquiet told of has reached its end, and all its records are logged.
func (t *Tail) Quiet(who uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data != nil {
		t.store(wordUnquiet, t.load(wordUnquiet)&^who)
	}
}

// State is what a successor goes by: whether the moment of the kill was quiet, and if
// not, what is to be doubted. A wall clock that was set meanwhile makes all doubtful.
func (t *Tail) State() (quiet bool, d Doubts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data == nil {
		return false, Doubts{All: true}
	}
	d.All = t.load(wordDoubtAll) != 0
	if s := t.load(wordDoubtSince); s != 0 {
		d.Since = fileop.Time{Sec: int64(s)}
	}
	const slack = 2 // seconds: rounding, and a leap second
	if diff := int64(clockOffset() - t.load(wordClock)); diff > slack || diff < -slack {
		d.All = true
	}
	return t.load(wordUnquiet) == 0, d
}

// logMirror notes that mirror records up to k may have been sent. The journal's lock is held.
func (t *Tail) logMirror(k fileop.Seq) { t.store(wordMirror, uint64(k)) }

// sealMirror notes the end of the last finished mirror frame. The journal's lock is held.
func (t *Tail) sealMirror(k fileop.Seq, chain fileop.Chain) {
	t.store(wordSealed, 0)
	t.store(wordChain, uint64(chain))
	t.store(wordSealed, uint64(k))
}

// mirrorEnd is the last mirror record logged and, if all are in finished frames, the
// chain of the last one.
func (t *Tail) mirrorEnd() (k fileop.Seq, chain fileop.Chain) {
	k = fileop.Seq(t.load(wordMirror))
	if t.load(wordSealed) == uint64(k) {
		chain = fileop.Chain(t.load(wordChain))
	}
	return k, chain
}
