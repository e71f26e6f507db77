package mirror

import (
	"errors"
	"fmt"
	"slices"

	"understudy/fileop"
)

// firstCredit is asked for before the first chunk, whose size nobody knows.
const firstCredit = 64 << 10

// Bounds of one lock hold of a directory: some milliseconds.
const (
	chunkNames = 64
	chunkBytes = 1 << 20
)

// maxFiles is the number of large files that may wait before they are sent.
const maxFiles = 256

// frame is one piece of work: a directory to walk, or a regular file whose content is
// to be sent. Only the topmost frames of a walk are unopened, so the stack holds at
// most chunkNames frames for each level of depth, and the names of the open ones.
type frame struct {
	root   int
	e      fileop.Entry
	after  fileop.Seq // mirror record by which the target knows it
	force  bool       // walk it even if it was walked in this run
	fresh  bool       // the target has nothing of it: nothing to compare
	sent   bool       // something of it was sent, so its end has to be
	gone   bool       // a listed name vanished before it was looked at
	only   bool       // names are given: no list of names, no end
	flat   bool       // directories below are not walked unless they are new
	moved  bool       // names are given whose files the target is likely to hold
	blocks bool       // a file: compare its blocks whatever the options say
	prune  bool       // only the list of names

	dir    string // path relative to the tree
	listed bool
	names  []string // selected names, sorted
	pos    int
	asked  *asked // Diff: what the target holds
}

func (r *run) push(f frame) { r.stack = append(r.stack, f) }

// walk works until the list is empty.
func (r *run) walk() error {
	for {
		if err := r.m.gate.pass(r.ctx); err != nil {
			return err
		}
		if r.m.failed.Load() {
			return ErrAborted
		}
		r.takeCome()
		r.askNext()
		switch {
		case len(r.files) > 0 && (len(r.files) >= maxFiles || !r.midway()):
			f := r.files[len(r.files)-1]
			r.files = r.files[:len(r.files)-1]
			if err := r.fate(&f, r.content(&f)); err != nil {
				return err
			}
		case len(r.stack) > 0:
			if err := r.step(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// midway reports whether the topmost directory has more names to look at: then its
// large files wait, so that a directory is read in one go.
func (r *run) midway() bool {
	if len(r.stack) == 0 {
		return false
	}
	f := &r.stack[len(r.stack)-1]
	return f.listed && f.pos < len(f.names)
}

// takeCome moves what the border brought onto the work lists.
func (r *run) takeCome() {
	r.m.mu.Lock()
	come := r.come
	r.come = nil
	r.m.mu.Unlock()
	for _, f := range come {
		if isDir(f.e.Attr.Mode) {
			r.push(f)
		} else {
			r.files = append(r.files, f)
		}
	}
}

// step does one lock hold's worth of the topmost directory. The directory is opened
// anew each time, so that a deep tree needs no descriptors.
func (r *run) step() error {
	i := len(r.stack) - 1
	f := &r.stack[i]
	d, err := r.m.cfg.Roots[f.root].Tree.Dir(f.e)
	if err != nil {
		r.stack = r.stack[:i]
		return r.fate(f, err)
	}
	defer d.Close()
	var found []frame
	over := false
	switch {
	case !f.listed:
		over, found, err = r.open(f, d)
	case f.pos < len(f.names):
		found, err = r.chunk(f, d)
	case f.gone && !f.only:
		// A live operation removed the name, but of the object that has it here; on the
		// target it may have been another one's. So the names are listed once more.
		f.gone, f.names = false, nil
		err = r.relist(f, d)
	default:
		over, err = true, r.endDir(f, d)
	}
	if over || err != nil {
		err = r.fate(f, err)
		r.stack = slices.Delete(r.stack, i, i+1) // hints may have pushed what is above it
	}
	r.stack = append(r.stack, found...)
	return err
}

// fatal is an error that has nothing to do with one object of the source.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// fate decides what an error about one object means for the run.
func (r *run) fate(f *frame, err error) error {
	var end fatal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &end):
		return end.error
	case gone(err):
		if t, ok := r.m.cfg.Roots[f.root].Tree.(interface{ Handles() bool }); ok && !t.Handles() {
			r.stale = true // it may have been moved: such a tree cannot tell
		}
		return nil
	}
	r.unread(f.root, join(f.dir, f.e.Name), err)
	return nil
}

// unread notes an object that could not be read.
func (r *run) unread(root int, path string, err error) {
	r.m.prog.errors.Add(1)
	r.m.mu.Lock()
	r.incomplete = true
	r.m.mu.Unlock()
	r.m.problem(&r.m.cfg.Roots[root], path, err)
}

func (r *run) credit(n int) error {
	if err := r.m.cfg.Log.Credit(r.ctx, n); err != nil {
		return fatal{fmt.Errorf("wait for mirror window: %w", err)}
	}
	return nil
}

// open lists a directory. over: there is nothing to do in it.
func (r *run) open(f *frame, d Dir) (over bool, found []frame, err error) {
	if f.dir, err = d.Path(); err != nil {
		return true, nil, err
	}
	if !r.m.place(f.root).carries(f.dir, true) || !r.enterDir(f) {
		return true, nil, nil // it left the set, or was walked already
	}
	r.m.prog.dirs.Add(1)
	r.m.prog.at(f.dir)
	if r.opts.Mode == Diff && !f.fresh && !f.prune {
		over, found, err = r.compare(f, d)
		if over || err != nil {
			return over, found, err
		}
	}
	if f.only {
		f.listed = true
		return false, nil, nil
	}
	if err := r.list(f, d); err != nil {
		return true, nil, err
	}
	if f.prune {
		f.pos, f.sent, f.gone = len(f.names), true, false
	}
	return false, nil, nil
}

// enterDir notes that f is walked now; never twice in a run, so that a directory that
// contains itself is no endless work (B5.21).
func (r *run) enterDir(f *frame) bool {
	k := r.key(f.root, f.e.Obj)
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.seen.has(k, seenWalk) && !f.force {
		return false
	}
	r.seen.set(k, seenWalk) // not if it is lost: whoever sends it again walks it again
	return true
}

// list sends the complete list of selected names, under the lock it was read in.
func (r *run) list(f *frame, d Dir) error {
	if err := r.credit(firstCredit); err != nil {
		return err
	}
	sent := 0
	err := d.WithLock(func() error {
		names, err := r.selected(f, d)
		if err != nil {
			return err
		}
		f.names = names
		switch {
		case r.opts.Mode == Diff && !f.prune && !f.extra():
		case r.quiet && !f.prune:
			r.prunes = append(r.prunes, frame{root: f.root, e: f.e, force: true, prune: true})
		default:
			sent, err = r.putNames(f)
		}
		return err
	})
	if err != nil {
		return err
	}
	f.listed = true
	if sent > firstCredit {
		return r.credit(sent - firstCredit)
	}
	return nil
}

// relist sends the list of names again after all entries.
func (r *run) relist(f *frame, d Dir) error {
	if r.quiet { // sent at the end anyway
		r.prunes = append(r.prunes, frame{root: f.root, e: f.e, force: true, prune: true})
		return nil
	}
	if err := r.credit(firstCredit); err != nil {
		return err
	}
	f.sent = true
	return d.WithLock(func() error {
		names, err := r.selected(f, d)
		if err != nil {
			return err
		}
		_, err = r.putNames(&frame{root: f.root, e: f.e, dir: f.dir, names: names})
		return err
	})
}

// selected reads the directory's names and keeps those in the set, sorted.
func (r *run) selected(f *frame, d Dir) ([]string, error) {
	all, err := d.Names()
	if err != nil {
		return nil, err
	}
	p := r.m.place(f.root)
	names := all[:0]
	for _, name := range all {
		path := join(f.dir, name)
		asDir, asFile := p.names(path, true), p.names(path, false)
		if asDir != asFile {
			e, err := d.Entry(name)
			if gone(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			asFile = p.names(path, isDir(e.Attr.Mode))
		}
		if asFile {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// nameBytes bounds the names in one record.
const nameBytes = 256 << 10

// putNames sends f.names as one or more MirrorDir records.
func (r *run) putNames(f *frame) (sent int, err error) {
	rest := f.names
	for {
		n, size := 0, 0
		for n < len(rest) && n < fileop.MaxNames && size < nameBytes {
			size += len(rest[n]) + 1
			n++
		}
		o := fileop.Op{Kind: fileop.MirrorDir, Tree: r.m.cfg.Roots[f.root].Index, Obj: f.e.Obj, Names: rest[:n], Path: f.dir}
		rest = rest[n:]
		if len(rest) > 0 {
			o.Flags = fileop.FlagMore
		}
		if _, err := r.m.putMirror(&o); err != nil {
			return sent, err
		}
		sent += size + recordOverhead
		if len(rest) == 0 {
			return sent, nil
		}
	}
}

// endDir sends the directory's own attributes after its entries, which changed its
// modification time on the target.
func (r *run) endDir(f *frame, d Dir) error {
	if !f.sent && (f.only || r.opts.Mode == Diff) {
		return nil
	}
	if err := r.credit(recordOverhead); err != nil {
		return err
	}
	return d.WithLock(func() error {
		self, err := d.Self()
		if err != nil {
			return err
		}
		_, err = r.m.putMirror(&fileop.Op{Kind: fileop.MirrorDirEnd, Tree: r.m.cfg.Roots[f.root].Index, Obj: self.Obj,
			Attr: &self.Attr, Xattrs: self.Xattrs, Path: f.dir})
		return err
	})
}
