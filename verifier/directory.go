package verifier

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"understudy/fileop"
	"understudy/internal/digest"
)

// maxOwn bounds the entries of a directory compared by one digest, some 250 bytes each.
const maxOwn = 1 << 15

// maxDoubts bounds the names of a directory that are looked at beside each other.
const maxDoubts = 32

// listed is a directory as the source has it.
type listed struct {
	d     Dir
	dir   string // path relative to the tree
	names []string

	small      []fileop.Entry // files whose content is compared together
	smallBytes int64

	// together: the content of small files is compared with the directory.
	together bool
	contents []fileop.Sum // of own, zero for what is no small file
	read     int64        // bytes
	files    int

	doubts errgroup.Group // names that are looked at exactly beside each other
}

// directory compares one directory: its names and what they name.
func (r *run) directory(f *frame) error {
	d, err := f.root.Tree.Dir(f.e)
	if err != nil {
		return err
	}
	defer d.Close()
	l := listed{d: d}
	if l.dir, err = d.Path(); err != nil {
		return err
	}
	if !r.carries(f.root, l.dir, true) {
		return nil // it left the set
	}
	r.mu.Lock()
	r.totals.Dirs++
	r.current = f.root.abs(l.dir)
	r.mu.Unlock()
	if l.names, err = d.Names(); err != nil {
		return err
	}
	slices.Sort(l.names)
	if f.absent {
		return r.missing(f, &l)
	}
	l.doubts.SetLimit(maxDoubts)
	err = r.entries(f, &l)
	return errors.Join(err, l.doubts.Wait())
}

// entries compares what a directory holds that the target has, too.
func (r *run) entries(f *frame, l *listed) (err error) {
	same := false
	if !r.opts.OrphansOnly && len(l.names) <= maxOwn {
		if same, err = r.bySum(f, l); err != nil {
			return err
		}
	}
	if !same {
		if err := r.byName(f, l); err != nil {
			return err
		}
	}
	return r.smallFiles(f, l)
}

// own are the entries of the set, sorted by name.
func (r *run) own(f *frame, l *listed) ([]fileop.Entry, error) {
	out := make([]fileop.Entry, 0, len(l.names))
	for _, name := range l.names {
		at := join(l.dir, name)
		selected := r.carries(f.root, at, false)
		e, sum, err := r.open(l, name, selected)
		if r.goneOr(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", name, err)
		}
		if isDir(e.Attr.Mode) {
			selected = r.carries(f.root, at, true)
		}
		if selected {
			out, l.contents = append(out, e), append(l.contents, sum)
		}
	}
	return out, nil
}

func (r *run) goneOr(err error) bool { return err != nil && r.cfg.Gone(err) }

// bySum compares the directory by one digest. same: all entries are equal, and their
// content, where it counts, is compared.
func (r *run) bySum(f *frame, l *listed) (same bool, err error) {
	l.together = r.opts.Checksum
	own, err := r.own(f, l)
	if err != nil {
		return false, err
	}
	held := make([]fileop.TargetEntry, len(own))
	for i := range own {
		held[i] = r.asTarget(f.root, l.dir, &own[i])
	}
	q := fileop.ListQuery{Tree: f.root.Index, Obj: f.e.Obj, Content: l.together}
	if !l.together {
		l.contents = nil
	}
	q.Sum, l.contents = digest.Content(held, l.contents), nil
	reply, err := r.cfg.Target.List(r.ctx, q)
	if err != nil {
		return false, fatal{fmt.Errorf("ask target for directory: %w", err)}
	}
	if !reply.Same {
		l.together = false
		return false, nil
	}
	if l.together {
		r.count(func(t *Totals) { t.Read += uint64(l.read) })
	}
	for i := range own {
		if err := r.each(f.root, join(l.dir, own[i].Name), r.same(f, l, &own[i])); err != nil {
			return true, err
		}
	}
	return true, nil
}

// same goes on with an entry whose attributes are equal.
func (r *run) same(f *frame, l *listed, e *fileop.Entry) error {
	if isDir(e.Attr.Mode) {
		r.push(frame{root: f.root, e: *e})
		return nil
	}
	r.count(func(t *Totals) {
		t.Files++
		if isReg(e.Attr.Mode) {
			t.Bytes += uint64(e.Size)
		}
	})
	if !r.opts.Checksum || !isReg(e.Attr.Mode) || e.Size == 0 {
		return nil
	}
	if e.Size > fileop.SmallFile {
		return r.object(f.root, l.dir, *e, true)
	}
	if l.together {
		return nil
	}
	l.small, l.smallBytes = append(l.small, *e), l.smallBytes+e.Size
	if len(l.small) == fileop.FilesMax || l.smallBytes >= fileop.ContentMax {
		return r.smallFiles(f, l)
	}
	return nil
}

// byName compares a directory name by name, as both sides list it.
func (r *run) byName(f *frame, l *listed) error {
	from := ""
	names := l.names
	for more := true; more; {
		reply, err := r.cfg.Target.List(r.ctx, fileop.ListQuery{Tree: f.root.Index, Obj: f.e.Obj, From: from})
		if err != nil {
			return fatal{fmt.Errorf("ask target for directory: %w", err)}
		}
		more = reply.More && len(reply.Entries) > 0
		n := len(names)
		if more {
			from = reply.Entries[len(reply.Entries)-1].Name
			n = sort.Search(len(names), func(i int) bool { return names[i] > from })
		}
		if err := r.merge(f, l, names[:n], reply.Entries); err != nil {
			return err
		}
		names = names[n:]
	}
	return nil
}

// merge goes through the names of both sides.
func (r *run) merge(f *frame, l *listed, names []string, held []fileop.TargetEntry) error {
	for len(names) > 0 || len(held) > 0 {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		var err error
		var name string
		switch {
		case len(names) == 0 || len(held) > 0 && held[0].Name < names[0]:
			name, err = held[0].Name, r.foreign(f, l, &held[0])
			held = held[1:]
		case len(held) == 0 || names[0] < held[0].Name:
			name, err = names[0], r.mine(f, l, names[0], nil)
			names = names[1:]
		default:
			name, err = names[0], r.mine(f, l, names[0], &held[0])
			names, held = names[1:], held[1:]
		}
		if err := r.each(f.root, join(l.dir, name), err); err != nil {
			return err
		}
	}
	return nil
}

// each decides what an error about one name means for its directory: the others are
// compared all the same.
func (r *run) each(root *Root, path string, err error) error {
	var end fatal
	switch {
	case err == nil || r.goneOr(err):
		return nil
	case errors.As(err, &end) || r.ctx.Err() != nil:
		return err
	}
	r.unread(root.abs(path), err)
	return nil
}

// mine compares a name the source has.
func (r *run) mine(f *frame, l *listed, name string, held *fileop.TargetEntry) error {
	e, err := l.d.Entry(name)
	if err != nil {
		return err
	}
	if !r.carries(f.root, join(l.dir, name), isDir(e.Attr.Mode)) {
		return nil
	}
	if r.opts.OrphansOnly {
		if isDir(e.Attr.Mode) && held != nil {
			r.push(frame{root: f.root, e: e})
		}
		return nil
	}
	ours := r.asTarget(f.root, l.dir, &e)
	if held != nil && likely(&ours, held) {
		return r.same(f, l, &e)
	}
	return r.doubt(f, l, name)
}

// doubt has a name looked at exactly. Where that means to wait until changes are told, many
// wait together.
func (r *run) doubt(f *frame, l *listed, name string) error {
	if f.root.Exact || f.root.Settle == nil {
		return r.confirm(f, l, name)
	}
	l.doubts.Go(func() error { return r.each(f.root, join(l.dir, name), r.confirm(f, l, name)) })
	return nil
}

// foreign looks at a name that only the target seems to have.
func (r *run) foreign(f *frame, l *listed, held *fileop.TargetEntry) error {
	if !r.carries(f.root, join(l.dir, held.Name), isDir(held.Attr.Mode)) {
		r.count(func(t *Totals) { t.Excluded++ })
		return nil
	}
	return r.doubt(f, l, held.Name)
}

// missing tells of everything in a directory that the target does not have.
func (r *run) missing(f *frame, l *listed) error {
	own, err := r.own(f, l)
	if err != nil {
		return err
	}
	for i := range own {
		e := &own[i]
		r.tell(f.root, l.dir, e, Difference{Kinds: []Kind{Missing}})
		if isDir(e.Attr.Mode) {
			r.push(frame{root: f.root, e: *e, absent: true})
		}
	}
	return nil
}
