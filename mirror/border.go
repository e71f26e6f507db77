package mirror

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// Border takes the captured operations of one tree and passes on what concerns one
// root of the set (B5.26). It is a capture.Sink: Put comes under the capture's locks of
// the directories, or of the file, concerned.
type Border struct {
	m    *Mirror
	root int
}

// Border is the sink for the tree of root number i of Config.Roots. Two roots in one
// tree each get every operation, so a rename between them is a removal and an arrival.
func (m *Mirror) Border(i int) *Border { return &Border{m, i} }

// Pace tells how long a writer should wait first.
func (b *Border) Pace() time.Duration {
	if b.m.cfg.Pace == nil {
		return 0
	}
	return b.m.cfg.Pace()
}

// Put passes, changes or drops one operation.
func (b *Border) Put(op *fileop.Op) {
	o := *op
	o.Tree = b.m.cfg.Roots[b.root].Index
	p := b.m.place(b.root)
	switch {
	case o.Kind == fileop.Rename:
		b.rename(p, &o)
	case o.Kind == fileop.Link:
		b.link(p, &o)
	case o.Kind.IsName():
		b.name(p, &o)
	case o.Kind == fileop.CopyRange:
		b.copyRange(p, &o)
	case b.concerns(p, &o):
		b.touch(&o, o.Obj)
		seq := b.m.put(&o)
		if shifting(&o) {
			b.m.shifts.note(seenKey{b.root, o.Obj}, seq)
		}
	}
}

// concerns reports whether a change to an object, or a mark, is passed on. One of
// several links may be in the set under another name: the target drops what it does
// not know.
func (b *Border) concerns(p place, o *fileop.Op) bool {
	if o.Nlink > 1 && (o.Attr == nil || !isDir(o.Attr.Mode)) || o.Kind == fileop.Barrier || o.Kind == fileop.Task {
		return true
	}
	if o.Path == "" { // no name, or none the capture knows: a file made without one gets it later
		return true
	}
	if o.Kind.IsData() {
		return p.carries(o.Path, false)
	}
	if o.Attr != nil {
		return p.carries(o.Path, isDir(o.Attr.Mode))
	}
	return p.carries(o.Path, true) || p.carries(o.Path, false)
}

// shifting reports that an operation moves or cuts content.
func shifting(o *fileop.Op) bool {
	const moves = unix.FALLOC_FL_COLLAPSE_RANGE | unix.FALLOC_FL_INSERT_RANGE
	return o.Kind == fileop.Truncate || o.Kind == fileop.Fallocate && o.Flags&moves != 0
}

// name passes the creation or removal of a name.
func (b *Border) name(p place, o *fileop.Op) {
	dir := o.Kind == fileop.Mkdir || o.Kind == fileop.Rmdir
	if o.Name != "" && dir && p.isRoot(o.Path) {
		if o.Kind == fileop.Mkdir {
			b.newRoot(p)
		}
		return
	}
	if o.Name != "" && !p.names(o.Path, dir) {
		return
	}
	m := b.m
	if f := m.cfg.LinkTarget; f != nil && o.Kind == fileop.Symlink {
		o.Data = []byte(f(p.abs(o.Path), string(o.Data)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(o)
	if r := m.run; r != nil {
		b.noteName(r, o)
	}
}

// noteName keeps what a run knows in step with a live change of names. m.mu is held.
func (b *Border) noteName(r *run, o *fileop.Op) {
	k := seenKey{b.root, o.Obj}
	switch o.Kind {
	case fileop.Unlink, fileop.Rmdir:
		r.moves++
		r.seen.remove(k)
	case fileop.Mkdir:
		r.seen.add(k, o.Parent, b.life(r, o.Parent), seenWalk) // empty, and all that follows in it is captured
	default:
		if o.Name == "" {
			r.seen.add(k, fileop.ObjID{}, 0, 0)
		} else {
			r.seen.add(k, o.Parent, b.life(r, o.Parent), 0)
		}
	}
}

// life is not 0 if the target surely knows a directory. m.mu is held.
func (b *Border) life(r *run, dir fileop.ObjID) uint64 { return r.seen.life(seenKey{b.root, dir}) }

// needs reports that the object of a rename or link into a directory has to be sent
// at once: it was not sent in this run, and the directory's names may have been sent
// already. m.mu is held.
func (b *Border) needs(r *run, obj, dir fileop.ObjID) bool {
	if r == nil || r.seen.has(seenKey{b.root, obj}, seenEntry) {
		return false
	}
	return !r.seen.exact || b.life(r, dir) != 0
}

// link passes a further name. What the target knows the object by may lie outside the
// set; then the name comes with content.
func (b *Border) link(p place, o *fileop.Op) {
	if !p.names(o.Path, false) {
		return
	}
	m := b.m
	m.mu.Lock()
	r := m.run
	if r == nil && !m.everything(p) {
		m.unquiet(false)
	}
	m.put(o)
	need := b.needs(r, o.Obj, o.Parent)
	if r == nil && !m.everything(p) {
		need, r = true, m.follow()
	}
	if !need {
		m.mu.Unlock()
		return
	}
	m.entries++
	m.mu.Unlock()
	defer m.sent()
	b.arrive(r, arrival{place: p, at: b.spot(o.Parent, o.Path, o.PMtime), path: o.Path, obj: o.Obj})
}

// everything reports that all below the set's root is selected, so that the target
// knows every object it could hear of.
func (m *Mirror) everything(p place) bool {
	r, ok := p.rules.(interface{ Everything(dir string) bool })
	return ok && p.Dir == p.TreePath && r.Everything(p.Dir)
}

// spot is where the name at path is.
func (b *Border) spot(parent fileop.ObjID, path string, pmtime fileop.Time) spot {
	dir, _ := split(path)
	return spot{root: b.root, parent: parent, dir: dir, pmtime: pmtime}
}

func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// sent ends what m.entries counted.
func (m *Mirror) sent() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries--; m.entries == 0 {
		m.idle.Broadcast()
		m.calm()
	}
}

// copyRange passes a copy between two files only where the target surely holds what
// is copied; else what was copied is sent.
func (b *Border) copyRange(p place, o *fileop.Op) {
	to := o.Path2
	if to == "" {
		to = o.Path
	}
	if !p.carries(to, false) && o.Nlink <= 1 {
		return
	}
	m := b.m
	b.touch(o, o.Obj2)
	m.mu.Lock()
	if m.whole && m.run == nil && p.carries(o.Path, false) && m.everything(p) {
		m.put(o)
		m.mu.Unlock()
		return
	}
	m.unquiet(false)
	m.entries++
	m.mu.Unlock()
	defer m.sent()
	if err := b.copied(p, o, to); err != nil {
		b.lostSight(p, to, err)
	}
}

// copied sends the range that was copied as writes. Its file is locked by the capture.
func (b *Border) copied(p place, o *fileop.Op, to string) error {
	e, err := p.Tree.Lookup(to)
	if err == nil && e.Obj != o.Obj2 {
		err = ErrGone
	}
	if err != nil {
		return err
	}
	f, err := p.Tree.File(e)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.writes(f, fileop.Op{Tree: o.Tree, Obj: o.Obj2, Path: to, Mtime: o.Mtime, Nlink: o.Nlink, Token: o.Token}, o.Off2, o.Off2+o.Len)
}

// writes sends the content of f from off to end as write operations like like.
func (b *Border) writes(f File, like fileop.Op, off, end int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for off < end {
		n, err := f.ReadAt((*buf)[:min(end-off, int64(len(*buf)))], off)
		if n > 0 {
			w := like
			w.Kind, w.Off, w.Data = fileop.Write, off, (*buf)[:n]
			b.m.put(&w)
			off += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read at byte %d: %w", off, err)
		}
	}
	return nil
}
