package sametree

import (
	"cmp"
	"slices"
)

// BlockSize is the granularity of content digests and of allocated extents, in bytes.
const BlockSize = 4096

// Sum is a digest of a block.
type Sum [16]byte

// Time is a file time.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Range is a piece of a file, in bytes.
type Range struct{ Start, End int64 }

// Node is what is known of one name.
type Node struct {
	Mode   uint32 // st_mode with type bits
	UID    uint32
	GID    uint32
	Rdev   uint64 // of devices
	Size   int64  // of regular files
	Mtime  Time
	Target string            // of symbolic links
	Xattrs map[string]string // nil if none
	// ID is equal for two names of one file and for no others in the tree.
	ID [2]uint64
	// Blocks has the digest of each block of a regular file that is not all zeros, by
	// block number. The last block counts as if filled up with zeros.
	Blocks map[int64]Sum
	// Extents is where data is allocated, rounded to blocks; Known says that it is known.
	Extents      []Range
	ExtentsKnown bool
}

// Tree is a remembered directory tree.
type Tree struct {
	// Nodes by path relative to the root; the root itself is ".".
	Nodes map[string]*Node
}

// Paths returns all paths, a directory before what is in it.
func (t *Tree) Paths() []string {
	paths := make([]string, 0, len(t.Nodes))
	for p := range t.Nodes {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, comparePaths)
	return paths
}

// comparePaths orders "." first, then by components: "a/b" before "a-b".
func comparePaths(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return cmp.Compare(rank(a[i]), rank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func rank(c byte) int {
	if c == '/' {
		return -1
	}
	return int(c)
}
