package mirror

import (
	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// verdict is what a difference mirror does about one name.
type verdict uint8

const (
	equal     verdict = iota // nothing
	attrsOnly                // content is equal, attributes or extended attributes are not (B7.10)
	verify                   // it looks equal, but the target does not know whose file it is: content by checksums
	content                  // everything
	leave                    // it differs, and the options say to leave it
)

// decide compares one entry with what the target holds under its name (B7.7, B7.8).
// ours is the entry as the target would list it; touched says that date and size prove
// nothing.
func decide(o Options, ours, held *fileop.TargetEntry, there, touched bool) verdict {
	mode := ours.Attr.Mode
	if there && keeps(o, ours, held) {
		return leave
	}
	switch {
	case !there && o.AttributesOnly:
		return leave
	case !there:
		return content
	case held.Attr.Mode&unix.S_IFMT != mode&unix.S_IFMT || held.Obj != ours.Obj && !held.Obj.IsZero():
		if o.AttributesOnly {
			return leave
		}
		return content
	}
	bound := held.Obj == ours.Obj
	attrs := held.Attr == ours.Attr && held.Xattrs == ours.Xattrs
	if isReg(mode) {
		return decideFile(o, ours, held, bound, attrs, touched)
	}
	switch {
	case held.Target != ours.Target && o.AttributesOnly:
		return leave
	case bound && attrs && held.Target == ours.Target:
		return equal
	}
	return content
}

// keeps reports that what the target has stays by KeepNewer or KeepExisting. A file whose
// content was still to come when a run ended is ours.
func keeps(o Options, ours, held *fileop.TargetEntry) bool {
	if isDir(ours.Attr.Mode) && isDir(held.Attr.Mode) || held.Attr.Mtime == fileop.HalfSent {
		return false
	}
	if !o.KeepBefore.IsZero() && !later(o.KeepBefore, held.Attr.Mtime) && held.Attr.Mtime != ours.Attr.Mtime {
		return false
	}
	return o.KeepExisting || o.KeepNewer && later(held.Attr.Mtime, ours.Attr.Mtime)
}

func decideFile(o Options, ours, held *fileop.TargetEntry, bound, attrs, touched bool) verdict {
	same := held.Size == ours.Size && held.Attr.Mtime == ours.Attr.Mtime
	switch {
	case o.AttributesOnly && !(same && bound):
		return leave
	case o.Newer && !touched && !later(ours.Attr.Mtime, held.Attr.Mtime) && !same:
		return leave
	case touched && !o.AttributesOnly:
		return content
	case !same, !o.Newer && !o.AttributesOnly && o.Checksum && o.ChecksumAll:
		return content
	case !bound:
		return verify
	case !attrs:
		return attrsOnly
	}
	return equal
}

func later(a, b fileop.Time) bool { return a.Sec > b.Sec || a.Sec == b.Sec && a.Nsec > b.Nsec }

// unproven reports that date and size prove nothing about an object: it was touched by
// operations the target may have missed, or changed since the time of which the
// options say that nothing is known.
func (r *run) unproven(root int, e *fileop.Entry) bool {
	if r.m.touched.has(r.key(root, e.Obj)) {
		return true
	}
	if !isReg(e.Attr.Mode) {
		return false
	}
	if since := r.opts.Since; !since.IsZero() && !later(since, latest(e.Ctime)) && !r.sentNow(root, e.Obj) {
		return true
	}
	if r.opts.Doubted == nil {
		return false
	}
	_, doubted := (*r.opts.Doubted)[e.Obj]
	return doubted
}

// wholeTimes is the coarsest unit of time that a file system keeps, in seconds.
const wholeTimes = 2

// latest is the latest moment that t may stand for: a time without a fraction is taken for one
// of a file system that keeps none.
func latest(t fileop.Time) fileop.Time {
	if t.Nsec == 0 {
		t.Sec += wholeTimes
	}
	return t
}

// sentNow reports that this batch of hints has sent a file already, on another way to it. What
// changed since then the next look at everything doubts.
func (r *run) sentNow(root int, o fileop.ObjID) bool {
	if !r.quiet {
		return false
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	return r.seen.has(r.key(root, o), seenSent)
}

// differing sends what of one name differs.
func (c *chunk) differing(e fileop.Entry, file File) (n int, err error) {
	held, there := c.f.held(e.Name)
	ours := c.r.asTarget(c.at, &e)
	switch decide(c.r.opts, &ours, &held, there, c.r.unproven(c.f.root, &e)) {
	case equal:
		return 0, c.same(e)
	case leave:
		if isDir(e.Attr.Mode) && there && isDir(held.Attr.Mode) {
			return 0, c.same(e)
		}
		c.r.m.prog.skipped.Add(1)
		return 0, nil
	case attrsOnly:
		return 0, c.settle(e, file)
	case verify:
		return c.send(e, file, frame{blocks: true})
	}
	return c.send(e, file, frame{force: c.f.force})
}

// same notes an entry that the target holds equal.
func (c *chunk) same(e fileop.Entry) error {
	c.r.mark(c.at, e.Obj, c.f.asked.life)
	if isDir(e.Attr.Mode) {
		if !c.f.flat {
			c.note(func() {
				c.dirs = append(c.dirs, frame{root: c.f.root, e: e, after: c.f.after, force: c.f.force})
			})
		}
		return nil
	}
	c.r.m.prog.skipped.Add(1)
	c.r.m.prog.bytes.Add(uint64(e.Size))
	return nil
}

// settle corrects the attributes of a file whose content is equal.
func (c *chunk) settle(e fileop.Entry, file File) error {
	file, done, err := c.file(e, file)
	if err != nil {
		return err
	}
	defer done()
	return file.WithLock(func() error {
		self, err := file.Self()
		if err != nil {
			return err
		}
		self.Name = e.Name
		o := c.r.endOp(c.at, &self)
		if _, err := c.r.m.putMirror(&o); err != nil {
			return err
		}
		c.r.m.prog.bytes.Add(uint64(self.Size))
		c.r.mark(c.at, e.Obj, c.f.asked.life)
		return nil
	})
}

// file opens e unless it is open.
func (c *chunk) file(e fileop.Entry, file File) (_ File, done func(), err error) {
	if file != nil {
		return file, func() {}, nil
	}
	file, err = c.r.m.cfg.Roots[c.f.root].Tree.File(e)
	if err != nil {
		return nil, nil, err
	}
	return file, func() { file.Close() }, nil
}
