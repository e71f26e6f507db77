package applier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/digest"
	"understudy/internal/fsx"
)

// maxWaiting bounds the queries that wait for a mirror record.
const maxWaiting = 1024

// query waits for its place in the order.
type query struct {
	after fileop.Seq
	run   func() error
	fail  func(error)
}

// answerWaiting runs the queries whose mirror record is applied.
func (a *Applier) answerWaiting() error {
	if len(a.waiting) == 0 {
		return nil
	}
	ready := a.pos.MirrorApplied
	kept := a.waiting[:0]
	var due []*query
	for _, w := range a.waiting {
		if w.after <= max(ready, a.aborted) {
			due = append(due, w)
		} else {
			kept = append(kept, w)
		}
	}
	a.waiting = kept
	for _, w := range due {
		if err := w.run(); err != nil {
			w.fail(err)
		}
	}
	return nil
}

// ask hands a query to the deciding goroutine and waits for its answer.
func ask[R any](ctx context.Context, a *Applier, after fileop.Seq, answer func() (R, error)) (R, error) {
	type result struct {
		r   R
		err error
	}
	var zero R
	ch := make(chan result, 1)
	q := &query{after: after,
		run: func() error {
			r, err := answer()
			if err == nil {
				ch <- result{r, nil}
			}
			return err
		},
		fail: func(err error) { ch <- result{zero, err} },
	}
	err := a.do(ctx, func() {
		if len(a.waiting) >= maxWaiting {
			q.fail(errors.New("too many queries wait"))
			return
		}
		a.waiting = append(a.waiting, q)
	})
	if err != nil {
		return zero, err
	}
	select {
	case r := <-ch:
		return r.r, r.err
	case <-ctx.Done():
		return zero, context.Cause(ctx)
	}
}

// List answers what a directory holds, exactly for the operations the reply names.
func (a *Applier) List(ctx context.Context, q fileop.ListQuery) (fileop.ListReply, error) {
	return ask(ctx, a, q.After, func() (fileop.ListReply, error) { return a.list(q) })
}

// Digests answers the digests of a file's blocks, exactly for the operations the reply
// names.
func (a *Applier) Digests(ctx context.Context, q fileop.DigestQuery) (fileop.DigestReply, error) {
	return ask(ctx, a, q.After, func() (fileop.DigestReply, error) { return a.digests(q) })
}

func (a *Applier) list(q fileop.ListQuery) (fileop.ListReply, error) {
	r := fileop.ListReply{Applied: a.pos.Applied}
	t, err := a.tree(q.Tree)
	if err != nil {
		return r, err
	}
	if err := a.settle(); err != nil {
		return r, fmt.Errorf("list directory: %w", err)
	}
	if q.Obj.IsZero() {
		return r, nil
	}
	fd, err := a.dirFD(t, q.Obj)
	if errors.Is(err, errUnknown) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("list directory: %w", err)
	}
	r.Known = true
	names, err := a.listNames(t, q.Obj, fd)
	if err != nil {
		return r, fmt.Errorf("list directory: %w", err)
	}
	whole := q.Sum != fileop.Sum{} && q.From == ""
	if !whole {
		i, found := slices.BinarySearch(names, q.From)
		if found {
			i++
		}
		if q.From != "" {
			names = names[i:]
		}
		if len(names) > fileop.ListMax {
			names, r.More = names[:fileop.ListMax], true
		}
	}
	known := a.cat.children(t.Tree, q.Obj)
	a.cat.warm(t.Tree, known)
	var c *readings
	if whole && q.Content {
		c = newReadings()
	}
	for _, name := range names {
		e, err := a.describe(t, fd, name, known[name], c)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return r, fmt.Errorf("list directory: %w", err)
		}
		r.Entries = append(r.Entries, e)
	}
	if whole && c.digest(r.Entries) == q.Sum {
		r.Same, r.Entries = true, nil
	}
	if len(r.Entries) > fileop.ListMax {
		r.Entries, r.More = r.Entries[:fileop.ListMax], true
	}
	return r, nil
}

// listNames lists a directory without the staging directory, sorted.
func (a *Applier) listNames(t *tree, id fileop.ObjID, fd int) ([]string, error) {
	ents, err := a.at.ReadDir(fd)
	if err != nil {
		return nil, err
	}
	names := make(map[string]struct{}, len(ents))
	for _, e := range ents {
		if !t.hidden(id, e.Name) {
			names[e.Name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// describe looks at one name. Its object is told only if the file is still the one the
// catalog means. c gathers the content of small files; nil: it is not asked for.
func (a *Applier) describe(t *tree, dirfd int, name string, id fileop.ObjID, c *readings) (fileop.TargetEntry, error) {
	ident, st, err := a.at.Identify(dirfd, name)
	if err != nil {
		return fileop.TargetEntry{}, err
	}
	e := fileop.TargetEntry{Name: name, Attr: fsx.AttrOf(&st), Size: st.Size, Nlink: uint32(st.Nlink)}
	if o := a.cat.get(key{t.Tree, id}); o != nil && o.ident == ident {
		e.Obj = id
	}
	if c != nil {
		opened, err := c.read(a, dirfd, &e)
		if opened || err != nil {
			return e, err
		}
	}
	path := fsx.ProcPath(dirfd) + "/" + name
	if n, err := unix.Llistxattr(path, nil); err == nil && n > 0 {
		fd, err := a.at.Open(dirfd, name, unix.O_PATH, 0)
		if err != nil {
			return e, err
		}
		defer unix.Close(fd)
		xs, err := a.at.Xattrs(fd)
		if err != nil {
			return e, err
		}
		e.Xattrs = digest.Xattrs(xs)
	}
	if st.Mode&typeBits == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err != nil {
			return e, err
		}
		e.Target = string(buf[:n])
	}
	return e, nil
}

func (a *Applier) digests(q fileop.DigestQuery) (fileop.DigestReply, error) {
	r := fileop.DigestReply{Applied: a.pos.Applied}
	t, err := a.tree(q.Tree)
	if err != nil {
		return r, err
	}
	if err := q.Check(); err != nil {
		return r, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if len(q.Files) > 0 {
		r.Known = true
		r.Sums, err = a.wholeFiles(t, q.Files)
		return r, err
	}
	o := a.cat.get(key{t.Tree, q.Obj})
	if o == nil || !o.isReg() {
		return r, nil
	}
	fd, err := a.fileFD(t, o)
	if errors.Is(err, errUnknown) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read digests: %w", err)
	}
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return r, fmt.Errorf("read digests: %w", err)
	}
	r.Known, r.Size = true, st.Size
	if len(q.Spans) > 0 {
		r.Sums, err = a.spans(fd, &q)
		return r, err
	}
	buf := make([]byte, q.Block)
	for off := q.Off; off < q.Off+q.Len && off < st.Size; off += int64(q.Block) {
		n, err := a.at.Read(fd, buf[:min(int64(q.Block), q.Off+q.Len-off)], off)
		if err != nil {
			return r, fmt.Errorf("read digests: %w", err)
		}
		r.Sums = append(r.Sums, digest.Block(buf[:n]))
	}
	return r, nil
}

// spans are the digests of the blocks of spans, zero for what is behind the end.
func (a *Applier) spans(fd int, q *fileop.DigestQuery) (sums []fileop.Sum, err error) {
	buf := make([]byte, q.Span)
	sums = make([]fileop.Sum, 0, len(q.Spans)*q.Span/q.Block)
	for _, k := range q.Spans {
		n, err := a.at.Read(fd, buf, q.Off+int64(k)*int64(q.Span))
		if err != nil {
			return nil, fmt.Errorf("read digests: %w", err)
		}
		for i := 0; i < q.Span; i += q.Block {
			var sum fileop.Sum
			if i < n {
				sum = digest.Block(buf[i:min(i+q.Block, n)])
			}
			sums = append(sums, sum)
		}
	}
	return sums, nil
}
