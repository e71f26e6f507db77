package mirror

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// end is one end of a rename.
type end struct {
	parent fileop.ObjID
	name   string
	path   string
	pmtime fileop.Time
}

// rename judges a rename by both ends (B5.26).
func (b *Border) rename(p place, o *fileop.Op) {
	from := end{o.Parent, o.Name, o.Path, o.PMtime}
	to := end{o.Parent2, o.Name2, o.Path2, o.PMtime2}
	if from.path == to.path { // two names of one place: nothing happened
		return
	}
	swap := o.Flags&fileop.RenameExchange != 0
	b.rootMoved(p, from, to, swap)
	if p.leadsToRoot(from.path) || p.leadsToRoot(to.path) {
		return // those names are outside
	}
	dir, file := p.carries(from.path, true), p.carries(from.path, false)
	switch same := p.same(from.path, to.path); {
	case same && !dir && !file:
		return
	case same && dir && file: // whatever it is
		b.pass(p, o, from, to)
		return
	case !swap:
		defer b.m.work()()
		b.move(p, o, from, to)
	default:
		defer b.m.work()()
		b.exchange(p, o, from, to)
	}
}

// rootMoved handles a rename of the set's root directory or of one above it: all that
// was below leaves the set (B5.25), and what is there now comes in.
func (b *Border) rootMoved(p place, from, to end, swap bool) {
	if p.leadsToRoot(from.path) {
		b.leftRoot(p, to.path+strings.TrimPrefix(p.rel(), from.path))
	} else if swap && p.leadsToRoot(to.path) {
		b.leftRoot(p, from.path+strings.TrimPrefix(p.rel(), to.path))
	}
	if p.leadsToRoot(from.path) || p.leadsToRoot(to.path) {
		b.newRoot(p)
	}
}

// leftRoot empties the target: the root directory went to path.
func (b *Border) leftRoot(p place, path string) {
	e, err := p.Tree.Lookup(path)
	if err != nil || !isDir(e.Attr.Mode) {
		return
	}
	m := b.m
	m.log.Warn("root directory of the set moved away", "path", p.Dir)
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.follow()
	r.seen.remove(seenKey{b.root, e.Obj})
	_, _ = m.putMirror(&fileop.Op{Kind: fileop.MirrorDir, Tree: p.Index, Obj: e.Obj})
}

// newRoot makes the directory that is at the set's root now the root.
func (b *Border) newRoot(p place) {
	e, err := p.Tree.Lookup(p.rel())
	if err != nil || !isDir(e.Attr.Mode) {
		return
	}
	m := b.m
	m.mu.Lock()
	r := m.follow()
	m.entries++
	m.mu.Unlock()
	defer m.sent()
	e.Name = ""
	seq, err := r.putDir(b.root, fileop.ObjID{}, &e, fileop.Time{})
	if err == nil {
		r.bring(frame{root: b.root, e: e, after: seq, force: true, sent: true})
	}
}

// pass passes a rename within the set, with what the target may not know.
func (b *Border) pass(p place, o *fileop.Op, from, to end) {
	m := b.m
	swap := o.Flags&fileop.RenameExchange != 0
	m.mu.Lock()
	m.put(o)
	r := m.run
	if r != nil && !swap && !o.Obj2.IsZero() {
		r.seen.remove(seenKey{b.root, o.Obj2})
	}
	need := b.needs(r, o.Obj, to.parent)
	need2 := swap && b.needs(r, o.Obj2, from.parent)
	if r != nil {
		r.moves++
		r.seen.move(seenKey{b.root, o.Obj}, to.parent)
		if swap {
			r.seen.move(seenKey{b.root, o.Obj2}, from.parent)
		}
	}
	if !need && !need2 {
		m.mu.Unlock()
		return
	}
	m.entries++
	m.mu.Unlock()
	defer m.sent()
	if need {
		b.arrive(r, b.arrival(p, o.Obj, to))
	}
	if need2 {
		b.arrive(r, b.arrival(p, o.Obj2, from))
	}
}

func (b *Border) arrival(p place, obj fileop.ObjID, at end) arrival {
	return arrival{place: p, at: b.spot(at.parent, at.path, at.pmtime), path: at.path, obj: obj}
}

// move handles a rename for whose ends the rules differ.
func (b *Border) move(p place, o *fileop.Op, from, to end) {
	e, err := b.find(p, to.path, o.Obj)
	if err != nil {
		b.remove(o, o.Obj, from, fileop.Entry{Attr: fileop.Attr{Mode: unix.S_IFDIR}})
		b.lostSight(p, to.path, err)
		return
	}
	dir := isDir(e.Attr.Mode)
	in, out := p.names(from.path, dir), p.names(to.path, dir)
	switch {
	case in && out:
		b.pass(p, o, from, to)
		if !p.same(from.path, to.path) {
			b.again(p, e)
		}
	case in:
		b.remove(o, o.Obj, from, e)
	case out:
		b.enter(p, o, e, to, o.Obj2, o.Last)
	}
}

// exchange handles an exchange for whose ends the rules differ: each object is judged
// on its own.
func (b *Border) exchange(p place, o *fileop.Op, from, to end) {
	e1, err1 := b.find(p, to.path, o.Obj)
	e2, err2 := b.find(p, from.path, o.Obj2)
	if err1 != nil || err2 != nil {
		whole := fileop.Entry{Attr: fileop.Attr{Mode: unix.S_IFDIR}}
		b.remove(o, o.Obj, from, whole)
		b.remove(o, o.Obj2, to, whole)
		b.lostSight(p, to.path, fmt.Errorf("exchange: %w", ErrGone))
		return
	}
	d1, d2 := isDir(e1.Attr.Mode), isDir(e2.Attr.Mode)
	in1, out1 := p.names(from.path, d1), p.names(to.path, d1)
	in2, out2 := p.names(to.path, d2), p.names(from.path, d2)
	if in1 && out1 && in2 && out2 {
		b.pass(p, o, from, to)
		if !p.same(from.path, to.path) {
			b.again(p, e1)
			b.again(p, e2)
		}
		return
	}
	// Not both stay: take away what leaves or moves, then bring what is there now.
	if in1 {
		b.remove(o, o.Obj, from, e1)
	}
	if in2 {
		b.remove(o, o.Obj2, to, e2)
	}
	if out1 {
		b.enter(p, o, e1, to, fileop.ObjID{}, false)
	}
	if out2 {
		b.enter(p, o, e2, from, fileop.ObjID{}, false)
	}
}

// find looks up what a rename brought to path.
func (b *Border) find(p place, path string, obj fileop.ObjID) (fileop.Entry, error) {
	e, err := p.Tree.Lookup(path)
	if err == nil && e.Obj != obj {
		err = fmt.Errorf("another object is there: %w", ErrGone)
	}
	return e, err
}

// remove takes a name away that left the set.
func (b *Border) remove(o *fileop.Op, obj fileop.ObjID, from end, e fileop.Entry) {
	dir := isDir(e.Attr.Mode)
	u := fileop.Op{Kind: fileop.Unlink, Tree: o.Tree, Time: o.Time, Obj: obj, Parent: from.parent, Name: from.name,
		PMtime: from.pmtime, Path: from.path, Last: dir || e.Nlink <= 1, Token: o.Token}
	if dir {
		u.Kind, u.Flags = fileop.Rmdir, fileop.FlagTree
	}
	m := b.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(&u)
	if m.run != nil {
		m.run.moves++
		m.run.seen.remove(seenKey{b.root, obj})
	}
}

// again puts a directory on the work list below which the rules say something else
// now.
func (b *Border) again(p place, e fileop.Entry) {
	if !isDir(e.Attr.Mode) {
		return
	}
	m := b.m
	m.mu.Lock()
	r := m.follow()
	m.mu.Unlock()
	e.Name = ""
	r.bring(frame{root: b.root, e: e, force: true, sent: true})
}

// lostSight notes that the place of an object changed while it was looked for: what it
// is now, a comparison of everything finds out.
func (b *Border) lostSight(p place, path string, err error) {
	m := b.m
	m.log.Warn("object moved on while it crossed the border, comparing all", "path", p.abs(path), "err", err)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.follow().over = true
}
