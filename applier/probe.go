package applier

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/digest"
	"understudy/internal/fsx"
)

// maxAnswers bounds the answers that wait to be fetched; the oldest goes. The source has
// a few questions under way at a time.
const maxAnswers = 256

// answers keeps what probes found until the source asks for it.
type answers struct {
	of    map[uint64]fileop.ProbeReply
	order []uint64 // oldest first
}

func (s *answers) put(token uint64, r fileop.ProbeReply) {
	if s.of == nil {
		s.of = map[uint64]fileop.ProbeReply{}
	}
	if _, again := s.of[token]; !again {
		s.order = append(s.order, token)
	}
	s.of[token] = r
	if len(s.order) > maxAnswers {
		delete(s.of, s.order[0])
		s.order = s.order[1:]
	}
}

// opBarrier answers the question a Barrier carries, if it carries one. An answer that
// cannot be given holds up nothing: it says why.
func (a *Applier) opBarrier(op *fileop.Op) error {
	var q fileop.Probe
	if len(op.Data) == 0 {
		return nil
	}
	if err := q.Parse(op.Data); err != nil {
		a.log.Warn("question in the queue not understood", "seq", op.Seq, "err", err)
		return nil
	}
	r, err := a.probe(&q)
	if err != nil {
		r.Err = clipped(err.Error(), fileop.MaxName)
	}
	r.Ready, r.Applied = true, op.Seq
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers.put(q.Token, r)
	a.wake()
	return nil
}

func clipped(s string, n int) string { return s[:min(len(s), n)] }

// Answer waits until a question was answered or ctx ends; then the reply is not Ready
// and tells how far the target is.
func (a *Applier) Answer(ctx context.Context, token uint64) fileop.ProbeReply {
	var r fileop.ProbeReply
	_ = a.waitFor(ctx, func() (ok bool) { // how it ended shows in the reply
		r, ok = a.answers.of[token]
		return ok
	})
	if !r.Ready {
		a.mu.Lock()
		defer a.mu.Unlock()
		r.Applied = a.shown.Applied
	}
	return r
}

func (a *Applier) probe(q *fileop.Probe) (r fileop.ProbeReply, err error) {
	t, err := a.tree(q.Tree)
	if err != nil {
		return r, err
	}
	if err := a.settle(); err != nil {
		return r, fmt.Errorf("set times: %w", err)
	}
	switch {
	case q.Treat:
		return a.treatOrphan(t, q)
	case q.Name != "":
		return a.probeName(t, q)
	}
	return a.probeObject(t, q)
}

// probeName looks at one name of a directory.
func (a *Applier) probeName(t *tree, q *fileop.Probe) (r fileop.ProbeReply, err error) {
	fd, err := a.dirFD(t, q.Obj)
	if errors.Is(err, errUnknown) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("open directory: %w", err)
	}
	r.Known = true
	if t.hidden(q.Obj, q.Name) {
		return r, nil
	}
	r.Entry, err = a.describe(t, fd, q.Name, a.cat.child(t.Tree, place{q.Obj, q.Name}), nil)
	if errors.Is(err, unix.ENOENT) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("look at name: %w", err)
	}
	r.There = true
	return r, nil
}

// probeObject looks at a known object, whatever its names, and at a part of its content.
func (a *Applier) probeObject(t *tree, q *fileop.Probe) (r fileop.ProbeReply, err error) {
	_, fd, done, err := a.known(t, q.Obj)
	if errors.Is(err, errUnknown) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("open object: %w", err)
	}
	defer done()
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return r, fmt.Errorf("look at object: %w", err)
	}
	r.Known, r.There = true, true
	r.Entry = fileop.TargetEntry{Obj: q.Obj, Attr: fsx.AttrOf(&st), Size: st.Size, Nlink: uint32(st.Nlink)}
	xs, err := a.at.Xattrs(fd)
	if err != nil {
		return r, fmt.Errorf("look at object: %w", err)
	}
	r.Entry.Xattrs = digest.Xattrs(xs)
	if st.Mode&typeBits == unix.S_IFLNK {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return r, fmt.Errorf("read link: %w", err)
		}
		r.Entry.Target = string(buf[:n])
	}
	if q.Len == 0 {
		return r, nil
	}
	d, err := a.digests(fileop.DigestQuery{Tree: q.Tree, Obj: q.Obj, Off: q.Off, Len: q.Len, Block: q.Block})
	r.Sums = d.Sums
	return r, err
}
