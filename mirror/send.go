package mirror

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"understudy/fileop"
)

// smallFile is the size up to which a file travels as one record, read under one lock
// hold.
const smallFile = 64 << 10

// movedFile is smallFile for one that the target is likely to hold: comparing costs a
// round trip and some 100 bytes for a block.
const movedFile = 4 << 10

// recordOverhead is a generous guess of a record's bytes beside content and names.
const recordOverhead = 256

var buffers = sync.Pool{New: func() any { b := make([]byte, fileop.MaxData); return &b }}

// spot is the place of an entry: which root, which directory, and what of it.
type spot struct {
	root   int
	parent fileop.ObjID
	dir    string      // path of the directory, for hints and rules
	pmtime fileop.Time // the directory's, if the record has to carry it
}

func (r *run) key(root int, o fileop.ObjID) seenKey { return seenKey{root, o} }

func (r *run) entryOp(at spot, e *fileop.Entry) fileop.Op {
	return fileop.Op{Kind: fileop.MirrorEntry, Tree: r.m.cfg.Roots[at.root].Index, Obj: e.Obj, Parent: at.parent,
		Name: e.Name, Len: e.Size, Nlink: e.Nlink, Attr: &e.Attr, Xattrs: e.Xattrs, PMtime: at.pmtime,
		Path: join(at.dir, e.Name)}
}

// putDir sends a directory's entry and remembers that the target knows it.
func (r *run) putDir(root int, parent fileop.ObjID, e *fileop.Entry, pmtime fileop.Time) (fileop.Seq, error) {
	return r.putDirAt(spot{root: root, parent: parent, pmtime: pmtime}, e)
}

func (r *run) putDirAt(at spot, e *fileop.Entry) (fileop.Seq, error) {
	o := r.entryOp(at, e)
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	seq, err := r.m.putMirror(&o)
	r.seen.add(r.key(at.root, e.Obj), at.parent, r.seen.life(r.key(at.root, at.parent)), 0)
	return seq, err
}

// putNode sends a symbolic link, fifo, socket or device. There is no lock for its
// attributes, so it is looked at again and sent again until it did not change.
func (r *run) putNode(at spot, e fileop.Entry, look func() (fileop.Entry, error)) error {
	for range 100 {
		o := r.entryOp(at, &e)
		if isLnk(e.Attr.Mode) {
			o.Data = []byte(r.linkTarget(at, &e))
		}
		life := r.life(at.root, at.parent)
		if _, err := r.m.putMirror(&o); err != nil {
			return err
		}
		r.mark(at, e.Obj, life)
		now, err := look()
		if err != nil || now.Obj != e.Obj || sameAttrs(&now, &e) {
			return err
		}
		now.Name = e.Name
		e = now
	}
	return nil
}

func (r *run) linkTarget(at spot, e *fileop.Entry) string {
	if f := r.m.cfg.LinkTarget; f != nil {
		return f(r.m.cfg.Roots[at.root].abs(join(at.dir, e.Name)), e.Target)
	}
	return e.Target
}

// mark notes that the target knows an object; life is that of its directory, before it
// was sent or the target was asked.
func (r *run) mark(at spot, o fileop.ObjID, life uint64) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.seen.add(r.key(at.root, o), at.parent, life, 0)
}

func (r *run) life(root int, dir fileop.ObjID) uint64 {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.seen.life(r.key(root, dir))
}

// putFile sends a regular file's entry: whole up to limit bytes, else without content;
// then open is the entry's number, and the file belongs on the work list. The
// directory's lock is held.
func (r *run) putFile(at spot, e fileop.Entry, f File, limit int) (open fileop.Seq, n int, err error) {
	err = f.WithLock(func() error {
		if e.Nlink > 1 {
			if done, err := r.putAgain(at, &e, f); done || err != nil {
				return err
			}
		}
		if e.Size <= int64(limit) {
			var done bool
			if done, n, err = r.putWhole(at, e, f, limit); done || err != nil {
				r.m.prog.contents.Add(1)
				return err
			}
		}
		open, err = r.putOpen(at, &e)
		return err
	})
	return open, n, err
}

// putOpen sends the entry of a file whose content will follow. Its record says in Mtime
// which time the file has on the source: for a rebuild that ends here.
func (r *run) putOpen(at spot, e *fileop.Entry) (fileop.Seq, error) {
	o, attr := r.entryOp(at, e), e.Attr
	attr.Mtime, o.Mtime = fileop.HalfSent, attr.Mtime
	o.Attr = &attr
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	seq, err := r.m.putMirror(&o)
	r.seen.add(r.key(at.root, e.Obj), at.parent, r.seen.life(r.key(at.root, at.parent)), seenOpen|seenSent)
	return seq, err
}

// putAgain sends a further name of a file whose content the target has or is getting.
// The file is locked. That its content was sent and that its names did not all vanish
// meanwhile is one fact, so both are done under m.mu.
func (r *run) putAgain(at spot, e *fileop.Entry, f File) (done bool, err error) {
	k := r.key(at.root, e.Obj)
	self, err := f.Self()
	if err != nil {
		return false, err
	}
	self.Name = e.Name
	o := r.entryOp(at, &self)
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if !r.seen.has(k, seenEntry) {
		return false, nil
	}
	open := r.seen.has(k, seenOpen)
	if open {
		attr := self.Attr
		attr.Mtime, o.Mtime = fileop.HalfSent, attr.Mtime
		o.Attr = &attr
	}
	if _, err := r.m.putMirror(&o); err != nil || open {
		return true, err
	}
	end := r.endOp(at, &self)
	_, err = r.m.putMirror(&end)
	return true, err
}

func (r *run) endOp(at spot, self *fileop.Entry) fileop.Op {
	return fileop.Op{Kind: fileop.MirrorFileEnd, Tree: r.m.cfg.Roots[at.root].Index, Obj: self.Obj,
		Len: self.Size, Nlink: self.Nlink, Attr: &self.Attr, Xattrs: self.Xattrs, Path: join(at.dir, self.Name)}
}

// putWhole sends a file of at most limit bytes as one record. done is false if it is
// larger or has holes. The file is locked.
func (r *run) putWhole(at spot, e fileop.Entry, f File, limit int) (done bool, n int, err error) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	n, err = f.ReadAt((*b)[:limit+1], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, 0, fmt.Errorf("read file: %w", err)
	}
	if n > limit || sparse(f, int64(n)) {
		return false, 0, nil
	}
	self, err := f.Self()
	if err != nil {
		return false, 0, err
	}
	self.Name, self.Size = e.Name, int64(n)
	o := r.entryOp(at, &self)
	o.Flags, o.Data = fileop.FlagWhole, (*b)[:n]
	life := r.life(at.root, at.parent)
	if _, err := r.m.putMirror(&o); err != nil {
		return false, 0, err
	}
	r.m.prog.sent.Add(uint64(n))
	r.m.prog.bytes.Add(uint64(n))
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.seen.add(r.key(at.root, e.Obj), at.parent, life, seenSent)
	r.seen.clear(r.key(at.root, e.Obj), seenOpen)
	return true, n, nil
}

// sparse reports whether a file of size bytes has holes. Below a page nothing has.
func sparse(f File, size int64) bool {
	if size < 4096 {
		return false
	}
	start, end, err := f.Data(0)
	return err != nil || start > 0 || end < size
}
