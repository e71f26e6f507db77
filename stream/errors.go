package stream

import (
	"errors"
	"fmt"
)

// Errors a caller can act on. All are wrapped with what was found.
var (
	// ErrClosed: the server, journal, link or receiver was closed.
	ErrClosed = errors.New("closed")
	// ErrInUse: another daemon holds the store directory.
	ErrInUse = errors.New("store directory is in use")
	// ErrPort: the address to listen on cannot be had.
	ErrPort = errors.New("cannot listen")
	// ErrFull: the queue is exhausted (memory, queue limit or disk). The journal takes
	// nothing any more; the connection needs a new epoch.
	ErrFull = errors.New("queue is full")
	// ErrStore: the queue's store refused or did not answer. The journal takes nothing
	// any more; restart the Server, then begin a new epoch.
	ErrStore = errors.New("queue store failed")
	// ErrBroken: the stored frames are not the unbroken history they should be. The
	// connection needs a new epoch and a difference mirror.
	ErrBroken = errors.New("queue is broken")
	// ErrNoCredit: more mirror bytes were logged than any credit allows.
	ErrNoCredit = errors.New("mirror record without credit")
	// ErrMirrorLost: mirror frames are missing; this run of the mirror cannot finish.
	ErrMirrorLost = errors.New("mirror frames lost")
	// ErrDown: the link to the peer is down at the moment.
	ErrDown = errors.New("link is down")
	// ErrRefused: the peer does not let this machine in.
	ErrRefused = errors.New("peer refused the login")
	// ErrNoAnswer: nobody at the peer serves the subject, or not in time.
	ErrNoAnswer = errors.New("no answer")
)

// errTargetFull: T refused a frame at its limit. The transmitter waits and tries again.
var errTargetFull = errors.New("target queue is full")

// RemoteError is what a Handle function at the peer returned, as text.
type RemoteError struct {
	Subject string
	Text    string
}

func (e *RemoteError) Error() string { return fmt.Sprintf("%s: peer says: %s", e.Subject, e.Text) }

// RefusedError is ErrRefused with what the peer said.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return ErrRefused.Error() + ": " + e.Why }

func (e *RefusedError) Is(target error) bool { return target == ErrRefused }
