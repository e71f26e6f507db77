// Package capture is the first floor: it turns what happens below a directory into
// ordered operations. Three backends stand behind one interface; each states its
// Fidelity, and whatever needs more refuses it.
package capture

import (
	"context"
	"errors"
	"time"

	"understudy/fileop"
)

// Fidelity is what a backend can promise about order and completeness.
type Fidelity uint8

const (
	// Hints may miss anything: "look here", with a periodic rescan (inotify).
	Hints Fidelity = iota + 1
	// DirtyObjects names every changed object; content is read again (fanotify).
	DirtyObjects
	// WriteOrder is every operation with its exact bytes, in effect order (stacked).
	WriteOrder
)

func (f Fidelity) String() string {
	switch f {
	case Hints:
		return "hints"
	case DirtyObjects:
		return "dirty objects"
	case WriteOrder:
		return "write order"
	}
	return "none"
}

// Sink takes what a WriteOrder backend captures.
type Sink interface {
	// Put is called under the locks of the objects concerned, after the change took
	// effect and before the application is answered. It does not block and does not
	// keep op, op.Data or anything op points to. The calls for one object come in
	// effect order; calls for different objects may come at the same time. What Put
	// does about a full queue is its own affair: the application is answered all the
	// same.
	//
	// Seq, Other and Tree are not set. Path (and Path2 of a rename) is the path of the
	// object or name, relative to the tree's root, "" for the root itself.
	Put(op *fileop.Op)
	// Pace is asked before a write takes its locks: how long to wait first, so that a
	// writer faster than the queue's disk is slowed a little rather than overflowing
	// memory. Mostly 0, never more than some milliseconds.
	Pace() time.Duration
}

// Resumed is a Sink that may have outlived the daemon that captured. It is asked before
// anything new is put.
type Resumed interface {
	// Logged reports whether the operation with a Token, which the former daemon took on
	// and did not answer, is logged already. If not, it is put again, to this sink.
	Logged(token uint64) bool
}

// HintSink takes what a Hints or DirtyObjects backend notices.
type HintSink interface {
	// Dirty says that something at path (relative to the root, "" for the root) may
	// have changed: its entry in its parent, its content or, of a directory, its list
	// of names. deep: everything below too. It does not block.
	Dirty(path string, deep bool)
}

// MoveSink is a HintSink that can make use of renames.
type MoveSink interface {
	HintSink
	// Moved is Dirty for an object that came to path by a rename from elsewhere in the
	// root: it is likely to be on the target, content and all.
	Moved(path string, deep bool)
}

// ObjectSink is a HintSink that finds files by their handle.
type ObjectSink interface {
	HintSink
	// Object says that the content or attributes of a regular file may have changed, of
	// which no name below the root is known, if it has one. The handle is the kernel's:
	// four bytes of type in native order, then what open_by_handle_at(2) takes. It is the
	// sink's from then on. content is false if only attributes may have. Object does not
	// block.
	Object(handle []byte, content bool)
}

// Foreign is a process that holds a descriptor opened before capture began; what it
// writes through that descriptor is not captured.
type Foreign struct {
	PID     int
	Command string
	Path    string
	Write   bool
}

// Stats of one capture, a plain copy.
type Stats struct {
	Ops        uint64 // operations handed to sinks
	WriteBytes uint64
	Requests   uint64 // file system requests served
	Overflows  uint64 // events lost, a rescan followed
	Unwatched  uint64 // directories that could not be watched and are polled
	Foreign    uint64 // changes that went past a stacked mount
}

// ErrLeave, as the cause with which the context of Run ends, means that another process
// goes on with the capture: what a Backend can leave to it stays as it is.
var ErrLeave = errors.New("another process goes on")

// ErrBusy: the directory is captured already, here or by another daemon.
var ErrBusy = errors.New("directory is captured already")

// Backend is a running capture of one directory.
type Backend interface {
	Root() string // absolute path of the captured directory
	Fidelity() Fidelity
	// Run serves until ctx ends, then detaches and returns nil; or returns what
	// stopped it.
	Run(ctx context.Context) error
	Stats() Stats
}
