package stacked

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"understudy/fileop"
)

// lockTable has a lock for every object, existing only while somebody wants it. Locks
// are taken directories first, then files, each group in the order of identities.
type lockTable struct {
	shards [64]lockShard
	// shifts counts, per hash of an identity, what moved or cut content. Two objects in
	// one place only make a mirror ask for digests once more.
	shifts [1 << 16]atomic.Uint32
}

type lockShard struct {
	mu   sync.Mutex
	held map[fileop.ObjID]*objLock // guarded by mu
	free []*objLock                // guarded by mu; at most maxFree
}

const maxFree = 16

type objLock struct {
	mu   sync.Mutex
	id   fileop.ObjID
	refs int // holder and waiters; guarded by the shard's mu
}

func newLockTable() *lockTable {
	t := &lockTable{}
	for i := range t.shards {
		t.shards[i].held = map[fileop.ObjID]*objLock{}
	}
	return t
}

func hash(id fileop.ObjID) uint64 {
	h := (id.Ino ^ id.Gen) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}

func (t *lockTable) shard(id fileop.ObjID) *lockShard {
	return &t.shards[hash(id)%uint64(len(t.shards))]
}

func (t *lockTable) lock(id fileop.ObjID) *objLock {
	s := t.shard(id)
	s.mu.Lock()
	l := s.held[id]
	if l == nil {
		if n := len(s.free); n > 0 {
			l, s.free = s.free[n-1], s.free[:n-1]
		} else {
			l = &objLock{}
		}
		l.id = id
		s.held[id] = l
	}
	l.refs++
	s.mu.Unlock()
	l.mu.Lock()
	return l
}

func (t *lockTable) unlock(l *objLock) {
	l.mu.Unlock()
	s := t.shard(l.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.refs--; l.refs == 0 {
		delete(s.held, l.id)
		if len(s.free) < maxFree {
			s.free = append(s.free, l)
		}
	}
}

// lockSet are locks held together.
type lockSet struct {
	t *lockTable
	l [4]*objLock
	n int
}

// lockAll locks the directories, then the files; zero identities and repeats count
// once or not at all.
func (t *lockTable) lockAll(dirs, files []fileop.ObjID) *lockSet {
	s := &lockSet{t: t}
	for _, ids := range [2][]fileop.ObjID{dirs, files} {
		slices.SortFunc(ids, compareID)
		for i, id := range ids {
			if id.IsZero() || i > 0 && id == ids[i-1] {
				continue
			}
			s.l[s.n] = t.lock(id)
			s.n++
		}
	}
	return s
}

func (s *lockSet) unlock() {
	for s.n > 0 {
		s.n--
		s.t.unlock(s.l[s.n])
	}
}

func compareID(a, b fileop.ObjID) int {
	return cmp.Or(cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.Gen, b.Gen))
}

// namesOf is the lock for the names of a file, apart from the one for its content: a
// sink that is told of a link or a rename may have to read the file, under the lock
// for its content, before the names may change again.
func namesOf(file fileop.ObjID) fileop.ObjID {
	if file.IsZero() {
		return file
	}
	return fileop.ObjID{Ino: file.Ino, Gen: ^file.Gen}
}

// LockDir excludes captured operations on the names and attributes of a directory.
func (t *lockTable) LockDir(id fileop.ObjID) (unlock func()) { return t.LockFile(id) }

// LockFile excludes captured operations on content and attributes of an object.
func (t *lockTable) LockFile(id fileop.ObjID) (unlock func()) {
	l := t.lock(id)
	return func() { t.unlock(l) }
}

// Shifts counts what moved or cut the content of id, and now and then of another.
func (t *lockTable) Shifts(id fileop.ObjID) uint64 {
	return uint64(t.shifts[hash(id)%uint64(len(t.shifts))].Load())
}

// shifted is called under the lock of id.
func (t *lockTable) shifted(id fileop.ObjID) { t.shifts[hash(id)%uint64(len(t.shifts))].Add(1) }
