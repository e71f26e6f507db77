package inotify

import "strings"

// watches mirrors which directories fsnotify watches, under which names: fsnotify
// knows a watch by the path it was added with and gives the kernel's watch of a moved
// directory, or of one below it, no new path. Its size is bounded by
// fs.inotify.max_user_watches.
type watches struct {
	top   *node
	byIno map[uint64]*node
}

// node is a directory on the way to a watched one, or watched itself (ino not 0).
type node struct {
	name   string
	parent *node
	below  map[string]*node
	ino    uint64
}

func newWatches() watches {
	return watches{top: &node{}, byIno: map[uint64]*node{}}
}

// set notes that path is watched and is directory ino.
func (w *watches) set(path string, ino uint64) {
	n := w.top
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue // the root
		}
		next := n.below[name]
		if next == nil {
			next = &node{name: name, parent: n}
			if n.below == nil {
				n.below = map[string]*node{}
			}
			n.below[name] = next
		}
		n = next
	}
	n.ino = ino
	w.byIno[ino] = n
}

func (w *watches) find(path string) *node {
	n := w.top
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || n == nil {
			continue
		}
		n = n.below[name]
	}
	return n
}

// inode is that of the watched directory path, 0 if it is not watched.
func (w *watches) inode(path string) uint64 {
	if n := w.find(path); n != nil {
		return n.ino
	}
	return 0
}

// where is the path under which directory ino is watched.
func (w *watches) where(ino uint64) (string, bool) {
	n := w.byIno[ino]
	if n == nil {
		return "", false
	}
	return n.path(), true
}

func (n *node) path() string {
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
		names[i], names[j] = names[j], names[i]
	}
	return strings.Join(names, "/")
}

// drop forgets path and everything below it and calls each with the paths that were
// watched.
func (w *watches) drop(path string, each func(path string)) {
	n := w.find(path)
	if n == nil {
		return
	}
	w.dropNode(n, path, each)
	for n.parent != nil && len(n.below) == 0 && n.ino == 0 {
		delete(n.parent.below, n.name)
		n = n.parent
	}
}

func (w *watches) dropNode(n *node, path string, each func(path string)) {
	for name, child := range n.below {
		w.dropNode(child, path+"/"+name, each)
	}
	n.below = nil
	if n.ino != 0 {
		if w.byIno[n.ino] == n {
			delete(w.byIno, n.ino)
		}
		n.ino = 0
		each(path)
	}
}
