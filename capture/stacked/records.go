package stacked

import (
	"fmt"
	"sync/atomic"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// Kinds of slots, and what their fields are. The rest of state: from bit 8 flags, from
// bit 16 the length of the tail in 16 bits, from bit 32 a number.
const (
	slotNode  = 1 // a: number, b: inode number, c: references of the kernel; tail: handle; number: its type
	slotAlias = 2 // a: node, b: directory; tail: name; number: place among the node's names
	slotGrant = 3 // a: request, b: node: a reference in an answer that is not yet written
	slotFile  = 4 // a: handle, b: node, c: request that opened it; number: flags
	slotDir   = 5 // a: handle, b: node, c: request

	flagDir  = 1 << 8 // of a node: it is a directory
	flagLast = 1 << 8 // of an alias: a name it had, none of its present ones
)

func slotState(kind, flags uint64, length int, number uint32) uint64 {
	return kind | flags | uint64(length)<<16 | uint64(number)<<32
}

func (r *slot) kind() uint64         { return r.state.Load() & 0xff }
func (r *slot) has(flag uint64) bool { return r.state.Load()&flag != 0 }
func (r *slot) number() uint32       { return uint32(r.state.Load() >> 32) }

func (r *slot) bytes(tail []byte) []byte {
	return tail[:min(int(uint16(r.state.Load()>>16)), len(tail))]
}

// note fills a slot and commits it.
func (s *shared) note(state uint64, a, b, c uint64, tail []byte) place {
	p := s.take(len(tail))
	if p == 0 {
		return 0
	}
	r, room := s.at(p)
	r.a, r.b = a, b
	atomic.StoreUint64(&r.c, c)
	copy(room, tail)
	r.state.Store(state)
	return p
}

// The methods below do nothing for a nil table: then nothing outlives this process.

// addNode notes a new node and its number.
func (s *shared) addNode(n *node) {
	if s == nil {
		return
	}
	if len(n.handle.Bytes) == 0 { // cannot be found again
		s.header().broken.Store(1)
		return
	}
	s.header().lastNode.Store(n.id)
	var flags uint64
	if n.isDir {
		flags = flagDir
	}
	n.at = s.note(slotState(slotNode, flags, len(n.handle.Bytes), uint32(n.handle.Type)), n.id, n.obj.Ino, n.lookups, n.handle.Bytes)
}

func (s *shared) setLookups(n *node) {
	if s != nil && n.at != 0 {
		r, _ := s.at(n.at)
		atomic.StoreUint64(&r.c, n.lookups)
	}
}

// dropNode forgets a node and then its names.
func (s *shared) dropNode(n *node) {
	if s == nil {
		return
	}
	s.free(n.at)
	n.at = 0
	for i := range n.names {
		s.free(n.names[i].at)
		n.names[i].at = 0
	}
}

// setNames notes the names of a node as they are now; those that are new have no place
// yet. gone are those that are no more.
func (s *shared) setNames(n *node, gone ...place) {
	if s == nil || n.at == 0 {
		return
	}
	for i := range n.names {
		a := &n.names[i]
		var flags uint64
		if !n.named {
			flags = flagLast
		}
		state := slotState(slotAlias, flags, len(a.name), uint32(i))
		if a.at == 0 {
			a.at = s.note(state, n.id, a.parent.id, 0, []byte(a.name))
			continue
		}
		if r, _ := s.at(a.at); r.state.Load() != state {
			r.state.Store(state)
		}
	}
	for _, p := range gone {
		s.free(p)
	}
}

// grant notes that the answer to a request will give the kernel a reference to n, after
// it was counted: a death in between leaves one too many, which costs a record.
func (s *shared) grant(unique uint64, n *node) place {
	if s == nil {
		return 0
	}
	return s.note(slotState(slotGrant, 0, 0, 0), unique&^resent, n.id, 0, nil)
}

// opened notes an open file or directory.
func (s *shared) opened(kind, fh, unique uint64, n *node, flags uint32) place {
	if s == nil {
		return 0
	}
	last := &s.header().lastFile
	if kind == slotDir {
		last = &s.header().lastDir
	}
	for old := last.Load(); old < fh && !last.CompareAndSwap(old, fh); old = last.Load() {
	}
	return s.note(slotState(kind, 0, 0, flags), fh, n.id, unique&^resent, nil)
}

func (s *shared) drop(p place) {
	if s != nil {
		s.free(p)
	}
}

// left is what a process that died had noted.
type left struct {
	nodes   map[uint64]*node
	aliases map[uint64][]leftAlias // by node
	grants  map[uint64][]leftGrant // by request
	files   []leftOpen
	dirs    []leftOpen
}

type leftAlias struct {
	parent uint64
	name   string
	order  uint32
	last   bool
	at     place
}

type leftGrant struct {
	node uint64
	at   place
}

type leftOpen struct {
	fh, node, unique uint64
	flags            uint32
	at               place
}

// read collects the records of a process that died. None of them is trusted to be
// whole, only committed.
func (s *shared) read() (*left, error) {
	if h := s.header(); h.magic.Load() != sharedMagic || h.broken.Load() != 0 {
		return nil, fmt.Errorf("session is of another version, or was not noted in full")
	}
	l := &left{nodes: map[uint64]*node{}, aliases: map[uint64][]leftAlias{}, grants: map[uint64][]leftGrant{}}
	err := s.scan(func(p place, r *slot, tail []byte) {
		switch r.kind() {
		case slotNode:
			h := compact(fsx.Handle{Type: int32(r.number()), Bytes: r.bytes(tail)})
			l.nodes[r.a] = &node{id: r.a, obj: h.Object(r.b), handle: h, isDir: r.has(flagDir), fd: -1, lookups: r.c, at: p}
		case slotAlias:
			l.aliases[r.a] = append(l.aliases[r.a], leftAlias{r.b, string(r.bytes(tail)), r.number(), r.has(flagLast), p})
		case slotGrant:
			l.grants[r.a] = append(l.grants[r.a], leftGrant{r.b, p})
		case slotFile:
			l.files = append(l.files, leftOpen{r.a, r.b, r.c, r.number(), p})
		case slotDir:
			l.dirs = append(l.dirs, leftOpen{r.a, r.b, r.c, 0, p})
		}
	})
	return l, err
}

// orphanName is under what an object without a name is handed to the keeper.
func orphanName(minor uint32, obj fileop.ObjID) string {
	return fmt.Sprintf("%s%s", orphanPrefix(minor), obj)
}

func orphanPrefix(minor uint32) string { return fmt.Sprintf("orphan/%d/", minor) }
