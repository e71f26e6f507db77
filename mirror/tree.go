package mirror

import (
	"context"
	"errors"

	"understudy/fileop"
)

// ErrGone: the object no longer exists in the tree.
var ErrGone = errors.New("object is gone")

// Tree is the source directory as the mirror reads it, beside live changes. A stacked
// capture implements it with the locks its own operations take, so what is read and
// logged inside a lock has one exact place in the order. A tree without capture
// implements it without excluding writers; then only later passes converge.
//
// All methods may be called by several goroutines at once.
type Tree interface {
	// Root describes the root directory; Name is "".
	Root() (fileop.Entry, error)
	// Dir opens a directory by the entry it was listed with (or Root's).
	Dir(e fileop.Entry) (Dir, error)
	// File opens a regular file by its entry. It does not change access times where
	// it can be helped.
	File(e fileop.Entry) (File, error)
	// Lookup finds an entry by its path relative to the root. The path is resolved
	// beneath the root without following links. ErrGone if there is none.
	Lookup(path string) (fileop.Entry, error)
}

// Dir is an open directory.
type Dir interface {
	// WithLock calls fn while no captured operation can change the names in this
	// directory. fn must not wait for anything but other locks of this tree, taken in
	// the order directory before file.
	WithLock(fn func() error) error
	// Path is the directory's present path relative to the root.
	Path() (string, error)
	// Names lists all names but . and .., in no order.
	Names() ([]string, error)
	// Entry looks at one name without following it. ErrGone if it is not there.
	// Xattrs are complete.
	Entry(name string) (fileop.Entry, error)
	// Self is the directory's own entry (attributes and xattrs; Name is "").
	Self() (fileop.Entry, error)
	Close() error
}

// File is an open regular file.
type File interface {
	// WithLock calls fn while no captured operation can change the file.
	WithLock(fn func() error) error
	ReadAt(p []byte, off int64) (int, error)
	// Data finds the next range at or after off that is not a hole. At the end of the
	// file it returns io.EOF.
	Data(off int64) (start, end int64, err error)
	// Self is the present state; Name is "".
	Self() (fileop.Entry, error)
	// Shifts counts the operations on this file that moved content to other offsets
	// (collapse, insert) or cut it (truncate): digests asked before one of them are
	// worthless after it. 0 for ever where the tree cannot know.
	Shifts() uint64
	Close() error
}

// Log takes a connection's records in their one order; stream.Journal is one.
type Log interface {
	// Put appends to the queue lane. It copies what it needs of op, sets op.Seq and
	// op.Other, and never blocks.
	Put(op *fileop.Op) (fileop.Seq, error)
	// PutMirror appends to the mirror lane, as Put.
	PutMirror(op *fileop.Op) (fileop.Seq, error)
	// Credit waits until n more bytes of mirror records may be under way. Ask before
	// taking a lock.
	Credit(ctx context.Context, n int) error
}

// Target answers what the replica holds.
type Target interface {
	List(ctx context.Context, q fileop.ListQuery) (fileop.ListReply, error)
	Digests(ctx context.Context, q fileop.DigestQuery) (fileop.DigestReply, error)
}
