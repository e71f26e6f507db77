package mirror

import (
	"sync"

	"understudy/fileop"
)

// maxSeen bounds the objects one run remembers: some 100 bytes each.
const maxSeen = 1 << 20

// What a run knows of an object.
const (
	seenEntry uint8 = 1 << iota // its entry was sent in this run, or the target holds it equal
	seenWalk                    // a directory that was walked in this run
	seenOpen                    // a file whose content is on the work list
	seenSent                    // a file that was sent, not found equal
)

type seenKey struct {
	root int
	obj  fileop.ObjID
}

// seenNode is an object as the target got it: as a child of parent, when that was
// given the number parentLife.
type seenNode struct {
	bits       uint8
	life       uint64 // changes when the object is sent again after it was lost
	parent     fileop.ObjID
	parentLife uint64
}

// seenSet remembers what the target knows because of this run. An object counts only
// while all directories above it do: what is lost on the target with a directory is
// forgotten by removing the directory. Forgetting costs repeated work only, as long as
// exact tells of it; claiming too much would lose changes. It is guarded by Mirror.mu.
type seenSet struct {
	of    map[seenKey]seenNode
	exact bool // a directory that does not count was never sent, or is lost
	lives uint64
}

func newSeen(exact bool) seenSet { return seenSet{of: map[seenKey]seenNode{}, exact: exact} }

// life is the number of an object that the target surely knows, 0 of any other.
func (s *seenSet) life(k seenKey) uint64 {
	n, ok := s.of[k]
	if !ok {
		return 0
	}
	life, at := n.life, k
	for range maxDepth {
		if n.parent.IsZero() {
			return life
		}
		at.obj = n.parent
		up, ok := s.of[at]
		if !ok || up.life != n.parentLife {
			return 0
		}
		n = up
	}
	return 0
}

// maxDepth bounds the walk up: PATH_MAX allows no deeper directory.
const maxDepth = 2048

func (s *seenSet) has(k seenKey, bit uint8) bool {
	return s.of[k].bits&bit != 0 && s.life(k) != 0
}

// add notes that the target knows an object as a child of parent, which counted with
// the number parentLife when the target was told or asked; a root has none.
func (s *seenSet) add(k seenKey, parent fileop.ObjID, parentLife uint64, bits uint8) {
	if !parent.IsZero() && (parentLife == 0 || s.life(seenKey{k.root, parent}) != parentLife) {
		return // it went down with its directory
	}
	n, ok := s.of[k]
	if !ok && len(s.of) >= maxSeen {
		s.exact = false
		return
	}
	if s.life(k) == 0 {
		s.lives++
		n = seenNode{life: s.lives}
	}
	n.bits |= bits | seenEntry
	n.parent, n.parentLife = parent, parentLife
	s.of[k] = n
}

// set and clear change bits of an object that counts.
func (s *seenSet) set(k seenKey, bits uint8) {
	if n, ok := s.of[k]; ok && s.life(k) != 0 {
		n.bits |= bits
		s.of[k] = n
	}
}

func (s *seenSet) clear(k seenKey, bits uint8) {
	if n, ok := s.of[k]; ok {
		n.bits &^= bits
		s.of[k] = n
	}
}

// walkAgain forgets which directories were walked.
func (s *seenSet) walkAgain() {
	for k := range s.of {
		s.clear(k, seenWalk)
	}
}

// with calls f for all objects with one of the bits, whether they count or not.
func (s *seenSet) with(bits uint8, f func(seenKey)) {
	for k, n := range s.of {
		if n.bits&bits != 0 {
			f(k)
		}
	}
}

// move notes that an object got another parent, by a live operation.
func (s *seenSet) move(k seenKey, parent fileop.ObjID) {
	if s.life(k) == 0 {
		return
	}
	life := s.life(seenKey{k.root, parent})
	if life == 0 { // the target loses it, with all below it
		s.remove(k)
		return
	}
	n := s.of[k]
	n.parent, n.parentLife = parent, life
	s.of[k] = n
}

// remove forgets an object whose names vanish on the target, and all below it.
func (s *seenSet) remove(k seenKey) { delete(s.of, k) }

// maxShifts bounds the files whose last shift is remembered one by one.
const maxShifts = 4096

// shiftLog remembers where in the queue each file's content was last moved or cut.
// Digests that a target made before it applied that operation are worthless.
type shiftLog struct {
	mu    sync.Mutex
	at    map[seenKey]fileop.Seq
	floor fileop.Seq // of those that were forgotten
}

func (s *shiftLog) note(k seenKey, seq fileop.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil || len(s.at) >= maxShifts {
		for _, v := range s.at {
			s.floor = max(s.floor, v)
		}
		s.at = map[seenKey]fileop.Seq{}
	}
	s.at[k] = seq
}

// below says that any file may have been shifted up to an operation.
func (s *shiftLog) below(seq fileop.Seq) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, seq)
}

func (s *shiftLog) last(k seenKey) fileop.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.floor, s.at[k])
}
