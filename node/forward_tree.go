package node

import (
	"context"
	"errors"
	"fmt"

	"understudy/applier"
	"understudy/fileop"
	"understudy/mirror"
)

// forwardTree is a replica as the mirror reads it. Its locks are the applier's standstill.
type forwardTree struct {
	r    *applier.Reader
	over <-chan struct{} // closed when nothing is applied any more
}

// explained is an error in the mirror's words. Nothing is gone because the applier ended:
// whoever reads then waits for the end of the session.
func (t forwardTree) explained(err error) error {
	switch {
	case errors.Is(err, applier.ErrClosed):
		<-t.over
	case errors.Is(err, applier.ErrUnknown):
		return fmt.Errorf("%w: %w", mirror.ErrGone, err)
	}
	return err
}

func (t forwardTree) hold(fn func() error) error {
	err := t.r.Hold(context.Background(), fn)
	if errors.Is(err, applier.ErrClosed) {
		<-t.over
	}
	return err
}

func (t forwardTree) self(id fileop.ObjID) (fileop.Entry, error) {
	e, err := t.r.Self(id)
	return e, t.explained(err)
}

// Root describes the root directory.
func (t forwardTree) Root() (fileop.Entry, error) { return t.Lookup("") }

// Lookup finds an entry by its path.
func (t forwardTree) Lookup(path string) (fileop.Entry, error) {
	e, err := t.r.Lookup(path)
	return e, t.explained(err)
}

// Dir opens a directory.
func (t forwardTree) Dir(e fileop.Entry) (mirror.Dir, error) {
	if _, err := t.r.Path(e.Obj); err != nil {
		return nil, t.explained(err)
	}
	return forwardDir{t, e.Obj}, nil
}

// File opens a regular file.
func (t forwardTree) File(e fileop.Entry) (mirror.File, error) {
	f, err := t.r.File(e.Obj)
	if err != nil {
		return nil, t.explained(err)
	}
	return forwardFile{f, t, e.Obj}, nil
}

type forwardDir struct {
	t  forwardTree
	id fileop.ObjID
}

func (d forwardDir) WithLock(fn func() error) error { return d.t.hold(fn) }
func (d forwardDir) Self() (fileop.Entry, error)    { return d.t.self(d.id) }
func (d forwardDir) Close() error                   { return nil }

func (d forwardDir) Path() (string, error) {
	p, err := d.t.r.Path(d.id)
	return p, d.t.explained(err)
}

func (d forwardDir) Names() ([]string, error) {
	names, err := d.t.r.Names(d.id)
	return names, d.t.explained(err)
}

func (d forwardDir) Entry(name string) (fileop.Entry, error) {
	e, err := d.t.r.Child(d.id, name)
	return e, d.t.explained(err)
}

type forwardFile struct {
	*applier.ReplicaFile
	t  forwardTree
	id fileop.ObjID
}

func (f forwardFile) WithLock(fn func() error) error { return f.t.hold(fn) }
func (f forwardFile) Self() (fileop.Entry, error)    { return f.t.self(f.id) }
