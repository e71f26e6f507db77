package verifier

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"understudy/fileop"
)

// Bounds of asking again: of an object that changes at each look (trees without locks
// only), and of answers that were lost by a restart of the target.
const (
	maxLooks  = 20
	maxWaits  = 5 // looks that waited for changes to be told before
	lookAgain = 100 * time.Millisecond
	maxLost   = 5
	behindFor = time.Minute // after a wait in vain nothing is waited for
)

// newToken begins the numbers of a run's questions, so that those of another run are not
// taken for it.
func newToken() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])>>1 | 1
}

// errMoved: the object changed between two looks.
var errMoved = errors.New("changed meanwhile")

// ask puts a question into the queue. It is called under the lock of what it is about.
func (r *run) ask(q *fileop.Probe) (fileop.Seq, error) {
	q.Token = r.token.Add(1)
	seq, err := r.cfg.Log.Put(&fileop.Op{Kind: fileop.Barrier, Path: "verify", Data: q.Append(nil)})
	if err != nil {
		return 0, fatal{fmt.Errorf("ask in the queue: %w", err)}
	}
	return seq, nil
}

// exactly reads an object by read under a lock, asks the question read returns, and gives
// the answer. again reads it once more and reports whether nothing changed; it is asked
// where the lock excludes nobody.
func (r *run) exactly(root *Root, lock func(func() error) error, read func() (*fileop.Probe, error), again func() bool) (a fileop.ProbeReply, err error) {
	lost := 0
	for look := 0; ; look++ {
		q, seq, err := r.question(root, lock, read)
		if err != nil {
			return a, err
		}
		a, err = r.answer(q.Token, seq)
		switch {
		case errors.Is(err, errLost) && lost < maxLost:
			lost++
			continue
		case err != nil:
			return a, fatal{err}
		case a.Err != "":
			return a, fmt.Errorf("target: %s", a.Err)
		case root.Exact || a.Entry.Attr.Mtime != fileop.HalfSent && again():
			return a, nil
		case look >= maxLooks || root.Settle != nil && look >= maxWaits:
			return a, errMoved
		}
		select {
		case <-r.ctx.Done():
			return a, context.Cause(r.ctx)
		case <-time.After(lookAgain):
		}
	}
}

// surely looks once more at what seems to differ where no lock excludes writers: what was
// under way then is over, and what differs still does.
func (r *run) surely(root *Root, look func() (differs bool, err error)) error {
	differs, err := look()
	if err != nil || !differs || root.Exact || root.Settle == nil {
		return err
	}
	select {
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	case <-time.After(lookAgain):
	}
	_, err = look()
	return err
}

// question reads an object and asks about it. Where no lock holds it still, what led to
// the state that was read is waited for in between: it may not have been told yet.
func (r *run) question(root *Root, lock func(func() error) error, read func() (*fileop.Probe, error)) (q *fileop.Probe, seq fileop.Seq, err error) {
	if root.Exact || root.Settle == nil {
		err = lock(func() (err error) {
			if q, err = read(); err == nil {
				seq, err = r.ask(q)
			}
			return err
		})
		return q, seq, err
	}
	if q, err = read(); err != nil {
		return q, 0, err
	}
	if time.Now().UnixNano() < r.behind.Load() {
		return q, 0, errMoved
	}
	if err = root.Settle(r.ctx); r.ctx.Err() != nil {
		return q, 0, context.Cause(r.ctx)
	}
	if err != nil {
		r.behind.Store(time.Now().Add(behindFor).UnixNano())
		r.log.Debug("not settled", "err", err)
		return q, 0, errMoved
	}
	seq, err = r.ask(q)
	return q, seq, err
}

// errLost: the target went past a question and has no answer: it was restarted.
var errLost = fmt.Errorf("%w: the answer was lost", ErrBehind)

// answer waits until the target has come to the question. A target that is behind is
// waited for as long as the run goes on.
func (r *run) answer(token uint64, seq fileop.Seq) (fileop.ProbeReply, error) {
	for {
		a, err := r.cfg.Target.Answer(r.ctx, token)
		switch {
		case r.ctx.Err() != nil:
			return a, context.Cause(r.ctx)
		case err != nil:
			return a, fmt.Errorf("%w: %w", ErrBehind, err)
		case a.Ready && a.Applied == seq:
			return a, nil
		case a.Ready || a.Applied >= seq:
			return a, errLost
		}
	}
}

// confirm compares one name exactly.
func (r *run) confirm(f *frame, l *listed, name string) error {
	var e fileop.Entry
	var have bool
	var at string // a directory on its way has no names on the target for a moment
	read := func() (*fileop.Probe, error) {
		var err error
		if at, err = l.d.Path(); err != nil {
			return nil, err
		}
		if e, err = l.d.Entry(name); err != nil && !r.cfg.Gone(err) {
			return nil, err
		}
		have = err == nil && r.carries(f.root, join(l.dir, name), isDir(e.Attr.Mode))
		return &fileop.Probe{Tree: f.root.Index, Obj: f.e.Obj, Name: name}, nil
	}
	again := func() bool {
		now, err := l.d.Entry(name)
		place, moved := l.d.Path()
		return moved == nil && place == at && have == (err == nil) && (err != nil || now.Obj == e.Obj && now.Ctime == e.Ctime)
	}
	var a fileop.ProbeReply
	err := r.surely(f.root, func() (differs bool, err error) {
		if a, err = r.exactly(f.root, l.d.WithLock, read, again); err == nil {
			_, differs = placed(&e, have, &a)
		}
		return differs, err
	})
	if errors.Is(err, errMoved) {
		r.count(func(t *Totals) { t.Unsettled++ })
		return nil
	}
	if err != nil {
		return err
	}
	kind, differs := placed(&e, have, &a)
	switch {
	case !differs && !have:
		return nil
	case kind == Orphan:
		return r.orphan(f, l, name, &a)
	case r.opts.OrphansOnly:
		return nil
	case differs:
		r.tell(f.root, l.dir, &e, Difference{Kinds: []Kind{kind}, Seq: a.Applied})
		if isDir(e.Attr.Mode) {
			r.push(frame{root: f.root, e: e, absent: kind != Replaced || !a.Known})
		}
		return nil
	case isDir(e.Attr.Mode):
		r.push(frame{root: f.root, e: e})
		return r.dir(f.root, join(l.dir, name), e)
	case isReg(e.Attr.Mode):
		r.count(func(t *Totals) { t.Files++; t.Bytes += uint64(e.Size) })
		return r.object(f.root, l.dir, e, false)
	}
	r.count(func(t *Totals) { t.Files++ })
	return r.special(f, l, e)
}

// tell reports a difference of an object of the source.
func (r *run) tell(root *Root, dir string, e *fileop.Entry, d Difference) {
	d.Path, d.Obj = root.abs(join(dir, e.Name)), e.Obj
	whole := d.Kinds[0] == Missing || d.Kinds[0] == Type || d.Kinds[0] == Replaced
	if whole && isReg(e.Attr.Mode) {
		d.Bytes = e.Size
	}
	r.count(func(t *Totals) {
		if whole && !isDir(e.Attr.Mode) {
			t.Files++
		}
		t.Different++
		if d.Kinds[0] == Missing {
			t.Missing++
		}
		t.ToSend += uint64(d.Bytes)
	})
	r.found(d)
}

// dir compares a directory's own attributes, under its own lock.
func (r *run) dir(root *Root, path string, e fileop.Entry) error {
	d, err := root.Tree.Dir(e)
	if err != nil {
		return err
	}
	defer d.Close()
	return r.attributes(root, path, e, d.WithLock, d.Self)
}

// special compares what is neither file nor directory. No lock covers its attributes, so
// it is read before and after.
func (r *run) special(f *frame, l *listed, e fileop.Entry) error {
	root := *f.root
	root.Exact = false
	return r.attributes(&root, join(l.dir, e.Name), e, func(fn func() error) error { return fn() },
		func() (fileop.Entry, error) { return l.d.Entry(e.Name) })
}

// attributes compares an object's attributes exactly.
func (r *run) attributes(root *Root, path string, e fileop.Entry, lock func(func() error) error, self func() (fileop.Entry, error)) error {
	var now fileop.Entry
	var a fileop.ProbeReply
	var kinds []Kind
	dir, name := splitPath(path)
	read := func() (q *fileop.Probe, err error) {
		if now, err = self(); err == nil && now.Obj != e.Obj {
			err = errMoved
		}
		return &fileop.Probe{Tree: root.Index, Obj: e.Obj}, err
	}
	again := func() bool {
		again, err := self()
		return err == nil && again.Ctime == now.Ctime && again.Obj == e.Obj
	}
	err := r.surely(root, func() (differs bool, err error) {
		if a, err = r.exactly(root, lock, read, again); err != nil || !a.There { // its name tells of it
			return false, err
		}
		now.Name = name
		ours := r.asTarget(root, dir, &now)
		kinds = attrs(&ours, &a.Entry)
		return len(kinds) > 0, nil
	})
	if errors.Is(err, errMoved) {
		r.count(func(t *Totals) { t.Unsettled++ })
		return nil
	}
	if err != nil {
		return err
	}
	if a.There && len(kinds) > 0 {
		r.tell(root, dir, &now, Difference{Kinds: kinds, Seq: a.Applied})
	}
	return nil
}
