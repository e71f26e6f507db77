package stacked

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"understudy/fileop"
)

// An intent is what a request that must not be done twice is going to do. It is noted
// under the locks of the request, before the system call, with what is needed to see
// afterwards whether it took effect: nobody else changes the directories meanwhile,
// because the kernel above holds them until it has the answer; a new name was not there,
// as the kernel had asked. It is freed after the
// answer is written. Its states, each one store:
//
//	noted    the system call may or may not have taken effect
//	told     it took effect and every sink was given the operation
//
// A request that fails frees its intent before it is answered. Writes, truncations and
// attributes need none: they are done again.
type intent struct {
	state  atomic.Uint32
	kind   fileop.Kind
	unique uint64
	token  uint64

	parent, parent2 uint64 // directories
	node            uint64 // of a link and of attributes
	obj             fileop.ObjID
	over            fileop.ObjID // what had the new name of a rename
	overMode        uint32
	flags           uint32 // of a rename
	mode            uint32 // asked for, of a new object
	last            bool   // obj of a removal, over of a rename, loses its last name
	acl             bool   // mode comes from a default ACL
	nameLen         uint16
	name2Len        uint16
	name, name2     [256]byte

	slot int // number of this intent
}

const (
	intentFree = iota
	intentNoted
	intentTold
)

const (
	intentSize = 1 << 10
	// maxIntents is how many requests on names are served at the same time; more wait.
	// With two operations of a request and eight mounts they fit fileop.TokenSlots.
	maxIntents = maxServing
)

func (it *intent) names() (string, string) {
	return string(it.name[:it.nameLen]), string(it.name2[:it.name2Len])
}

func (s *shared) intent(i int) *intent {
	return (*intent)(unsafe.Pointer(&s.mem[intentsAt+i*intentSize]))
}

// unanswered are the requests being served that noted something, by number.
type unanswered struct {
	minor uint32
	tab   *shared // nil: nothing is noted
	free  chan int

	mu sync.Mutex
	m  map[uint64]*notes // guarded by mu
	// former is what processes before this one noted; guarded by mu. The requests among
	// them that were not answered come again.
	former map[uint64]*notes
}

// notes of one request.
type notes struct {
	grants []place
	it     *intent

	files, dirs []uint64 // handles it opened, of a process before this one
}

func newUnanswered(tab *shared, minor uint32) *unanswered {
	u := &unanswered{minor: minor, tab: tab, free: make(chan int, maxIntents),
		m: map[uint64]*notes{}, former: map[uint64]*notes{}}
	for i := range maxIntents {
		if tab != nil && tab.intent(i).state.Load() == intentFree {
			u.free <- i
		}
	}
	return u
}

// resent is set in the number of a request that a process before this one had read.
const resent = 1 << 63

// of gives the notes of a request, making them. Under mu.
func (u *unanswered) of(unique uint64) *notes {
	n := u.m[unique&^resent]
	if n == nil {
		n = &notes{}
		u.m[unique&^resent] = n
	}
	return n
}

func (u *unanswered) grant(unique uint64, p place) {
	if p == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.of(unique)
	n.grants = append(n.grants, p)
}

// intend notes an intent; fill has its fields but number and token.
func (u *unanswered) intend(unique uint64, name, name2 string, fill intentFields) *intent {
	if u.tab == nil {
		return nil
	}
	failPoint("before intent")
	slot := <-u.free
	it := u.tab.intent(slot)
	fill.set(it)
	it.unique, it.slot = unique&^resent, slot
	it.token = it.unique>>1<<12 | uint64(u.minor%8)<<9 | uint64(slot)<<1
	it.nameLen, it.name2Len = uint16(copy(it.name[:], name)), uint16(copy(it.name2[:], name2))
	it.state.Store(intentNoted)
	u.mu.Lock()
	u.of(unique).it = it
	u.mu.Unlock()
	failPoint("after intent")
	return it
}

// intentFields are what the request says and what was seen before.
type intentFields struct {
	kind            fileop.Kind
	parent, parent2 *node
	node            *node
	obj, over       fileop.ObjID
	overMode        uint32
	flags, mode     uint32
	last, acl       bool
}

func (f intentFields) set(it *intent) {
	number := func(n *node) uint64 {
		if n == nil {
			return 0
		}
		return n.id
	}
	it.kind, it.parent, it.parent2, it.node = f.kind, number(f.parent), number(f.parent2), number(f.node)
	it.obj, it.over, it.overMode = f.obj, f.over, f.overMode
	it.flags, it.mode, it.last, it.acl = f.flags, f.mode, f.last, f.acl
}

// withdraw frees the intent of a request that failed.
func (u *unanswered) withdraw(it *intent) {
	if it == nil {
		return
	}
	u.mu.Lock()
	if n := u.m[it.unique]; n != nil {
		n.it = nil
	}
	u.mu.Unlock()
	u.release(it)
}

func (u *unanswered) release(it *intent) {
	it.state.Store(intentFree)
	u.free <- it.slot
}

// answered frees what a request noted, once its answer is written.
func (u *unanswered) answered(unique uint64) {
	if u.tab == nil {
		return
	}
	unique &^= resent
	u.mu.Lock()
	n := u.m[unique]
	delete(u.m, unique)
	u.mu.Unlock()
	u.forget(n)
}

func (u *unanswered) forget(n *notes) {
	if n == nil {
		return
	}
	for _, p := range n.grants {
		u.tab.free(p)
	}
	if n.it != nil {
		u.release(n.it)
	}
}

// settled is the intent of a request that comes again and has taken effect, nil for any
// other. Its caller answers as if it had just been done.
func (u *unanswered) settled(unique uint64) *intent {
	if unique&resent == 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := u.former[unique&^resent]; n != nil {
		return n.it
	}
	return nil
}

// takeFormer takes out what the process before noted for a request that comes again.
func (u *unanswered) takeFormer(unique uint64) *notes {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := u.former[unique&^resent]
	delete(u.former, unique&^resent)
	return n
}

// dropFormer frees what belongs to requests that will not come again: their answers
// had been written, or who asked was killed.
func (u *unanswered) dropFormer() {
	u.mu.Lock()
	old := u.former
	u.former = map[uint64]*notes{}
	u.mu.Unlock()
	for _, n := range old {
		u.forget(n)
	}
}

// failPoint lets tests end the process at a step of a request's life.
var failPoint = func(step string) {}

// emitFor gives out the operations of a request with an intent; nil: of one without.
func (f *fileSystem) emitFor(it *intent, ops ...*fileop.Op) {
	if it != nil {
		for i, op := range ops {
			op.Token = it.token + uint64(i)
		}
	}
	f.sinks.emit(ops...)
}

// told says that every sink has the operation.
func (it *intent) told() {
	if it != nil {
		it.state.Store(intentTold)
		failPoint("after emit")
	}
}

// reply is called before the answer to a request is written: what the process before
// granted in an answer it did not write is taken back.
func (f *fileSystem) reply(unique uint64) {
	if unique&resent != 0 {
		if n := f.open.takeFormer(unique); n != nil {
			f.takeBack(n)
			f.open.adopt(unique, n.it)
		}
	}
	failPoint("before answer")
}

func (f *fileSystem) takeBack(n *notes) {
	for _, p := range n.grants {
		r, _ := f.tab.at(p)
		id := r.b
		f.tab.free(p)
		f.Forget(id, 1)
	}
	for _, fh := range n.files {
		f.Release(nil, &fuse.ReleaseIn{Fh: fh})
	}
	for _, fh := range n.dirs {
		f.ReleaseDir(&fuse.ReleaseIn{Fh: fh})
	}
}

// adopt has a settled intent freed after the answer.
func (u *unanswered) adopt(unique uint64, it *intent) {
	if it == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of(unique).it = it
}
