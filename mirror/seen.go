package mirror

import (
	"sync"

	"understudy/fileop"
)

// maxSeen bounds the objects one run remembers: some 40 bytes each, so 80 MB.
const maxSeen = 2 << 20

// What a run knows of an object.
const (
	seenEntry uint8 = 1 << iota // its entry was sent in this run, or the target holds it equal
	seenWalk                    // a directory that was walked in this run
	seenDir                     // it is a directory
	seenOpen                    // a file whose content is on the work list
)

type seenKey struct {
	root int
	obj  fileop.ObjID
}

// seenSet remembers what the target knows because of this run. Forgetting costs
// repeated work only, as long as exact tells of it; claiming too much would lose
// changes. It is guarded by Mirror.mu.
type seenSet struct {
	of      map[seenKey]uint8
	exact   bool   // a directory that is not in here was never sent
	gen     uint64 // counts removals
	forgets uint64 // counts forget
}

func newSeen(exact bool) seenSet { return seenSet{of: map[seenKey]uint8{}, exact: exact} }

func (s *seenSet) has(k seenKey, bit uint8) bool { return s.of[k]&bit != 0 }

func (s *seenSet) add(k seenKey, bits uint8) {
	if old, ok := s.of[k]; ok || len(s.of) < maxSeen {
		s.of[k] = old | bits
		return
	}
	s.exact = false
}

func (s *seenSet) clear(k seenKey, bits uint8) {
	if v, ok := s.of[k]; ok {
		s.of[k] = v &^ bits
	}
}

// remove forgets one object, whose names the target may have seen vanish.
func (s *seenSet) remove(k seenKey) {
	delete(s.of, k)
	s.gen++
}

// forget forgets everything: a directory left the set with what is below it.
func (s *seenSet) forget() {
	clear(s.of)
	s.exact = false
	s.gen++
	s.forgets++
}

// learn adds an object that was sent as an entry of parent, or that the target held
// there, unless parent may have been lost on the target since forgets was read.
func (s *seenSet) learn(root int, parent, obj fileop.ObjID, bits uint8, forgets uint64) {
	if s.forgets == forgets && (parent.IsZero() || s.has(seenKey{root, parent}, seenEntry)) {
		s.add(seenKey{root, obj}, bits)
	} else if bits&seenDir != 0 {
		s.exact = false
	}
}

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

func (s *shiftLog) last(k seenKey) fileop.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.floor, s.at[k])
}
