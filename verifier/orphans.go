package verifier

import (
	"errors"

	"understudy/fileop"
)

// orphan tells of something only the target has, and has it treated if that is asked for.
func (r *run) orphan(f *frame, l *listed, name string, a *fileop.ProbeReply) error {
	d := Difference{Path: f.root.abs(join(l.dir, name)), Kinds: []Kind{Orphan}, Bytes: a.Entry.Size, Seq: a.Applied}
	if isDir(a.Entry.Attr.Mode) {
		d.Bytes = 0
	}
	if r.opts.Treat {
		reply, err := r.treat(f, l, name)
		switch {
		case errors.Is(err, errMoved):
			return nil // the source has it now
		case err != nil:
			return err
		}
		d.Treated = treatedWords[reply.Treated]
		if reply.Treated == fileop.Spared {
			r.count(func(t *Totals) { t.Spared++ })
		} else {
			d.Bytes = int64(reply.Bytes)
			r.count(func(t *Totals) { t.Treated++; t.TreatedBytes += reply.Bytes })
		}
	}
	r.count(func(t *Totals) { t.Different++; t.Orphans++ })
	r.found(d)
	return nil
}

var treatedWords = map[fileop.Treated]string{fileop.Untouched: "", fileop.Removed: "removed", fileop.SetAside: "moved", fileop.Spared: "spared"}

// treat has one orphan removed or set aside. The source is looked at once more: the root
// directory is the one the connection protects, the directory was read whole, and the name
// is not there, while its lock is held.
func (r *run) treat(f *frame, l *listed, name string) (fileop.ProbeReply, error) {
	if _, err := r.look(f.root); err != nil {
		return fileop.ProbeReply{}, fatal{err}
	}
	read := func() (*fileop.Probe, error) {
		if _, err := l.d.Names(); err != nil {
			return nil, err
		}
		switch _, err := l.d.Entry(name); {
		case err == nil:
			return nil, errMoved
		case !r.cfg.Gone(err):
			return nil, err
		}
		if self, err := l.d.Self(); err != nil || self.Obj != f.e.Obj {
			return nil, errMoved // the directory itself is gone: its parent knows of it
		}
		return &fileop.Probe{Tree: f.root.Index, Obj: f.e.Obj, Name: name, Treat: true, MinAge: int64(r.opts.MinAge.Seconds())}, nil
	}
	root := *f.root
	root.Exact = true // one look: nothing is done unless the source has nothing there
	return r.exactly(&root, l.d.WithLock, read, nil)
}
