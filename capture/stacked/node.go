package stacked

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// node is an object the kernel knows. It is found below by its handle, so the pair of
// node number and handle is all that has to survive this process.
type node struct {
	id     uint64 // the kernel's name of it; never reused while mounted
	obj    fileop.ObjID
	handle fsx.Handle // empty: found by its descriptor only, which is pinned
	isDir  bool

	// Guarded by nodes.mu.
	lookups uint64  // references the kernel holds
	names   []alias // names it was seen under, the last one kept when it goes; none for the root
	named   bool    // names are present ones, not a last one
	at      place   // in shared memory

	// Guarded by descriptors.mu.
	fd         int  // O_PATH descriptor, -1: none
	users      int  // calls using fd
	pinned     bool // fd is the only way to the object, or will be
	gone       bool // forgotten by the kernel
	prev, next *node

	acl aclState // of a directory: guarded by its lock

	opens  atomic.Int32 // open files and directories
	orphan atomic.Bool  // its last name is being taken or was: an open one is handed to the keeper
	handed atomic.Bool  // and was
}

// aclState says whether a directory has a default ACL.
type aclState uint8

const (
	aclUnknown aclState = iota
	aclNone
	aclDefault
)

// alias is one name of a node.
type alias struct {
	parent *node
	name   string
	at     place // in shared memory
}

func (a alias) is(b alias) bool { return a.parent == b.parent && a.name == b.name }

// maxAliases bounds the names remembered of a file with many hard links.
const maxAliases = 8

// nodes is the table of what the kernel knows, bounded by the kernel's own cache.
type nodes struct {
	mu    sync.RWMutex
	byID  map[uint64]*node       // guarded by mu
	byObj map[fileop.ObjID]*node // guarded by mu
	last  uint64                 // guarded by mu
	tab   *shared                // nil: nothing outlives this process
}

func newNodes(root *node) *nodes {
	root.id = fuse.FUSE_ROOT_ID
	root.lookups = 1
	return &nodes{
		byID:  map[uint64]*node{root.id: root},
		byObj: map[fileop.ObjID]*node{root.obj: root},
		last:  root.id,
	}
}

// get is the node the kernel calls id. Nil only if the kernel forgot it meanwhile.
func (t *nodes) get(id uint64) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// find is the node of an object, nil if the kernel does not know it.
func (t *nodes) find(obj fileop.ObjID) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byObj[obj]
}

// refer returns the node of obj, found as name in parent, with one more reference of
// the kernel, which the answer to the request unique gives it; a note of that is the
// second result. An empty name is no name.
func (t *nodes) refer(unique uint64, obj fileop.ObjID, h fsx.Handle, mode uint32, parent *node, name string) (*node, place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byObj[obj]
	if n == nil {
		t.last++
		n = &node{id: t.last, obj: obj, handle: compact(h), isDir: isDir(mode), fd: -1}
		t.byID[n.id] = n
		t.byObj[obj] = n
	}
	if n.lookups++; n.lookups == 1 {
		t.tab.addNode(n)
	} else {
		t.tab.setLookups(n)
	}
	t.addName(n, parent, name)
	return n, t.tab.grant(unique, n)
}

// compact copies a handle out of the larger buffer it was read into.
func compact(h fsx.Handle) fsx.Handle {
	if len(h.Bytes) == 0 {
		return fsx.Handle{}
	}
	return fsx.Handle{Type: h.Type, Bytes: append(make([]byte, 0, len(h.Bytes)), h.Bytes...)}
}

// forget takes references back and returns the node if none is left.
func (t *nodes) forget(id, count uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil || id == fuse.FUSE_ROOT_ID {
		return nil
	}
	if n.lookups > count {
		n.lookups -= count
		t.tab.setLookups(n)
		return nil
	}
	n.lookups = 0
	t.tab.dropNode(n)
	delete(t.byID, id)
	delete(t.byObj, n.obj)
	return n
}

// all takes every node out of the table.
func (t *nodes) all() []*node {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*node, 0, len(t.byID))
	for _, n := range t.byID {
		out = append(out, n)
	}
	clear(t.byID)
	clear(t.byObj)
	return out
}

// addName remembers that n is name in parent. Under mu.
func (t *nodes) addName(n *node, parent *node, name string) {
	if name == "" && n.names != nil {
		return
	}
	a := alias{parent: parent, name: name}
	var gone place
	switch last := len(n.names) - 1; {
	case !n.named:
		if last >= 0 {
			gone = n.names[0].at
		}
		n.names, n.named = append(n.names[:0], a), name != ""
	case slices.ContainsFunc(n.names, a.is):
		return
	case len(n.names) == maxAliases || n.isDir:
		gone = n.names[last].at
		n.names[last] = a
	default:
		n.names = append(n.names, a)
	}
	t.tab.setNames(n, gone)
}

// removeName forgets a name; the last one stays as what it was called. Under mu.
func (t *nodes) removeName(n *node, parent *node, name string) {
	i := slices.IndexFunc(n.names, alias{parent: parent, name: name}.is)
	if i < 0 {
		return
	}
	var gone place
	if len(n.names) == 1 {
		n.named = false
	} else {
		gone = n.names[i].at
		n.names[i] = n.names[len(n.names)-1]
		n.names = n.names[:len(n.names)-1]
	}
	t.tab.setNames(n, gone)
}

// linked, unlinked and renamed keep the names of nodes; a nil node is one the kernel
// does not know.
func (t *nodes) unlinked(n *node, parent *node, name string) {
	if n == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeName(n, parent, name)
}

// renamed: from became to; over, which had that name, lost it or, in an exchange, got
// the other one.
func (t *nodes) renamed(n, over *node, from, to alias, exchange bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if over != nil {
		t.removeName(over, to.parent, to.name)
		if exchange {
			t.addName(over, from.parent, from.name)
		}
	}
	if n != nil {
		t.removeName(n, from.parent, from.name)
		t.addName(n, to.parent, to.name)
	}
}

// maxDepth ends the way up of a path whose names have become a circle, which only
// changes behind our back can make.
const maxDepth = 4096

// path is a present path of n relative to the root; of an object without a name its
// last one, of an O_TMPFILE object "".
func (t *nodes) path(n *node) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.pathLocked(n)
}

// pathIn is the path of name in the directory n.
func (t *nodes) pathIn(n *node, name string) string { return join(t.path(n), name) }

func (t *nodes) pathLocked(n *node) string {
	if len(n.names) > 0 && n.names[0].name == "" && n.names[0].parent != nil {
		return "" // made without a name
	}
	var parts [32]string
	names := parts[:0]
	size := 0
	for depth := 0; len(n.names) > 0 && depth < maxDepth; depth++ {
		a := n.names[0]
		if a.name != "" {
			names = append(names, a.name)
			size += len(a.name) + 1
		}
		n = a.parent
	}
	if size == 0 {
		return ""
	}
	b := make([]byte, 0, size)
	for i := len(names) - 1; i >= 0; i-- {
		b = append(b, names[i]...)
		if i > 0 {
			b = append(b, '/')
		}
	}
	return string(b)
}

func join(dir, name string) string {
	switch {
	case dir == "":
		return name
	case name == "":
		return dir
	}
	return dir + "/" + name
}
