package mirror

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"understudy/fileop"
	"understudy/internal/digest"
)

// askAhead is the number of directories whose comparison is asked for before it is
// needed, to hide round trips.
const askAhead = 8

// asked is what the target holds in a directory, a page of it at a time.
type asked struct {
	done  chan struct{} // closed when the rest may be read
	err   error
	page  fileop.ListReply
	own   []fileop.Entry // what the source had when Sum was made from it; nil: too many
	moves uint64         // run.moves before own was read
	life  uint64         // of the directory, before anything was asked
	given bool           // own was compared by Sum
}

// background makes the run's context and the place where its queries are waited for.
func (r *run) background() (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	r.ctx = ctx
	return func() {
		cancel()
		r.queries.Wait()
	}
}

// askNext asks for the topmost directories that were not opened yet.
func (r *run) askNext() {
	if r.opts.Mode != Diff {
		return
	}
	for i := len(r.stack) - 1; i >= 0 && i >= len(r.stack)-askAhead; i-- {
		f := &r.stack[i]
		if f.listed || f.fresh || f.asked != nil {
			continue
		}
		f.asked = &asked{done: make(chan struct{}), life: r.life(f.root, f.e.Obj)}
		q, e, root, a, only := r.listQuery(f, ""), f.e, f.root, f.asked, f.only
		r.queries.Go(func() {
			defer close(a.done)
			if !only && !provesNothing(r.opts) {
				r.ownDigest(root, e, a, &q)
			}
			a.page, a.err = r.m.cfg.Target.List(r.ctx, q)
		})
	}
}

// provesNothing reports that equal attributes prove nothing, so that digests of directories
// are of no use.
func provesNothing(o Options) bool { return o.Checksum && o.ChecksumAll }

func (r *run) listQuery(f *frame, from string) fileop.ListQuery {
	if f.only { // whether the target knows the directory is all that matters
		from = afterAll
	}
	return fileop.ListQuery{Tree: r.m.cfg.Roots[f.root].Index, Obj: f.e.Obj, After: f.after, From: from}
}

// maxOwn bounds the entries of a directory compared by one digest, some 250 bytes each.
const maxOwn = 1 << 15

// afterAll is no smaller than any name.
var afterAll = strings.Repeat("\xff", fileop.MaxName)

// ownDigest looks at the whole directory, without its lock, and puts the digest into
// q. It is only a guess that saves the reply's entries; errors come up later again.
func (r *run) ownDigest(root int, e fileop.Entry, a *asked, q *fileop.ListQuery) {
	r.m.mu.Lock()
	a.moves = r.moves
	r.m.mu.Unlock()
	d, err := r.m.cfg.Roots[root].Tree.Dir(e)
	if err != nil {
		return
	}
	defer d.Close()
	dir, err := d.Path()
	if err != nil {
		return
	}
	names, err := d.Names()
	if err != nil || len(names) > maxOwn {
		return
	}
	sort.Strings(names)
	p := r.m.place(root)
	own := make([]fileop.Entry, 0, len(names))
	held := make([]fileop.TargetEntry, 0, len(names))
	for _, name := range names {
		e, err := d.Entry(name)
		if err != nil {
			return
		}
		if p.selectsEntry(dir, &e) {
			own = append(own, e)
			held = append(held, r.asTarget(spot{root: root, dir: dir}, &e))
		}
	}
	q.Sum, a.own, a.given = digest.Dir(held), own, true
}

// asTarget is the entry as the target would list it if it were equal.
func (r *run) asTarget(at spot, e *fileop.Entry) fileop.TargetEntry {
	t := fileop.TargetEntry{Name: e.Name, Obj: e.Obj, Attr: e.Attr, Size: e.Size, Nlink: e.Nlink, Xattrs: digest.Xattrs(e.Xattrs)}
	t.Attr.Atime = fileop.Time{}
	if isLnk(e.Attr.Mode) {
		t.Target = r.linkTarget(at, e)
	}
	return t
}

// compare finds out what the target holds in f. over: it holds the same; found are the
// directories below.
func (r *run) compare(f *frame, d Dir) (over bool, found []frame, err error) {
	r.askNext()
	if f.asked == nil { // far down the stack, or a batch of hints
		f.asked = &asked{done: make(chan struct{}), life: r.life(f.root, f.e.Obj)}
		f.asked.page, f.asked.err = r.m.cfg.Target.List(r.ctx, r.listQuery(f, ""))
		close(f.asked.done)
	}
	a := f.asked
	<-a.done // ends with the run's context
	switch {
	case a.err != nil:
		return false, nil, fatal{fmt.Errorf("ask target for directory: %w", a.err)}
	case !a.page.Known && r.quiet && !f.sent:
		return true, nil, r.unknown(f)
	case !a.page.Known:
		f.fresh = true
		return false, nil, nil
	case !a.page.Same || !a.given:
		a.own = nil
		return false, nil, nil
	case r.anyTouched(f.root, a.own):
		a.own = nil
		if a.page, err = r.m.cfg.Target.List(r.ctx, r.listQuery(f, "")); err != nil {
			err = fatal{fmt.Errorf("ask target for directory: %w", err)}
		}
		return false, nil, err
	}
	found, err = r.equalDir(f, a, d)
	if err == nil && f.sent {
		err = r.endDir(f, d)
	}
	return true, found, err
}

func (r *run) anyTouched(root int, es []fileop.Entry) bool {
	return slices.ContainsFunc(es, func(e fileop.Entry) bool { return r.unproven(root, &e) })
}

// equalDir accounts for a directory whose entries are all equal.
func (r *run) equalDir(f *frame, a *asked, d Dir) (found []frame, err error) {
	for i := range a.own {
		e := &a.own[i]
		if !isDir(e.Attr.Mode) {
			r.skipped(e)
		} else if !f.flat {
			found = append(found, frame{root: f.root, e: *e, after: f.after, force: f.force})
		}
	}
	if r.markAll(f, a) {
		return found, nil
	}
	return found, d.WithLock(func() error { // names changed: look which directories are still here
		for i := range a.own {
			if !isDir(a.own[i].Attr.Mode) {
				continue
			}
			e, err := d.Entry(a.own[i].Name)
			if err == nil && e.Obj == a.own[i].Obj {
				r.mark(spot{root: f.root, parent: f.e.Obj}, e.Obj, a.life)
			} else if err != nil && !gone(err) {
				return err
			}
		}
		return nil
	})
}

// markAll notes the entries of an equal directory as known, unless names changed since
// they were looked at.
func (r *run) markAll(f *frame, a *asked) bool {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if r.moves != a.moves {
		return false
	}
	for i := range a.own {
		r.seen.add(r.key(f.root, a.own[i].Obj), f.e.Obj, a.life, 0)
	}
	return true
}

func (r *run) skipped(e *fileop.Entry) {
	r.m.prog.files.Add(1)
	r.m.prog.skipped.Add(1)
	if isReg(e.Attr.Mode) {
		r.m.prog.bytes.Add(uint64(e.Size))
	}
}

// extra reports whether the target may hold names that the source does not have. Those it
// does not know count too: only the target can tell its own leftovers from what others
// put there.
func (f *frame) extra() bool {
	if f.asked == nil || !f.asked.page.Known || f.asked.page.More {
		return true
	}
	for i := range f.asked.page.Entries {
		if _, ok := slices.BinarySearch(f.names, f.asked.page.Entries[i].Name); !ok {
			return true
		}
	}
	return false
}

// page makes sure that f has what the target holds under its next name, and returns
// how many of the next names the page covers.
func (r *run) page(f *frame) (int, error) {
	rest := f.names[f.pos:]
	if f.fresh || f.only || r.opts.Mode != Diff {
		return len(rest), nil
	}
	for {
		p := &f.asked.page
		if !p.More || len(p.Entries) == 0 {
			return len(rest), nil
		}
		last := p.Entries[len(p.Entries)-1].Name
		if rest[0] <= last {
			return sort.Search(len(rest), func(i int) bool { return rest[i] > last }), nil
		}
		next, err := r.m.cfg.Target.List(r.ctx, r.listQuery(f, last))
		if err != nil {
			return 0, fatal{fmt.Errorf("ask target for directory: %w", err)}
		}
		f.asked.page = next
	}
}

// held finds what the target holds under a name.
func (f *frame) held(name string) (fileop.TargetEntry, bool) {
	es := f.asked.page.Entries
	i := sort.Search(len(es), func(i int) bool { return es[i].Name >= name })
	if i < len(es) && es[i].Name == name {
		return es[i], true
	}
	return fileop.TargetEntry{}, false
}
