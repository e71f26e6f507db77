package verifier

import (
	"errors"
	"fmt"
	"io"

	"understudy/fileop"
	"understudy/internal/digest"
)

// smallFiles compares the content of the small files seen so far, with one question for
// all. What seems to differ is looked at by itself.
func (r *run) smallFiles(f *frame, l *listed) error {
	batch := l.small
	l.small, l.smallBytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	q := fileop.DigestQuery{Tree: f.root.Index, Block: r.cfg.BlockSize}
	for i := range batch {
		q.Files = append(q.Files, batch[i].Obj)
	}
	var held fileop.DigestReply
	asked := make(chan error, 1)
	go func() {
		var err error
		held, err = r.cfg.Target.Digests(r.ctx, q)
		asked <- err
	}()
	ours := r.wholeSums(f.root, batch)
	if err := <-asked; err != nil {
		return fatal{fmt.Errorf("ask target for digests: %w", err)}
	}
	for i := range batch {
		if (ours[i] != fileop.Sum{}) && i < len(held.Sums) && ours[i] == held.Sums[i] {
			continue
		}
		if err := r.each(f.root, join(l.dir, batch[i].Name), r.object(f.root, l.dir, batch[i], true)); err != nil {
			return err
		}
	}
	return nil
}

// wholeSums are the digests of files as the source has them; zero for what cannot be read
// now or has grown.
func (r *run) wholeSums(root *Root, batch []fileop.Entry) []fileop.Sum {
	out := make([]fileop.Sum, len(batch))
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for i := range batch {
		if r.ctx.Err() != nil {
			break
		}
		file, err := root.Tree.File(batch[i])
		if err != nil {
			continue
		}
		n, err := file.ReadAt((*buf)[:fileop.SmallFile+1], 0)
		file.Close()
		if err != nil && !errors.Is(err, io.EOF) || n > fileop.SmallFile {
			continue
		}
		out[i] = digest.Block((*buf)[:n])
		r.count(func(t *Totals) { t.Read += uint64(n) })
	}
	return out
}

// open looks at a name and, where contents are compared with the directory, reads a small
// file. What cannot be read has no digest, and is looked at by itself then.
func (r *run) open(l *listed, name string, selected bool) (e fileop.Entry, sum fileop.Sum, err error) {
	o, ok := l.d.(Opener)
	if l.together = l.together && ok; !l.together || !selected {
		e, err = l.d.Entry(name)
		return e, sum, err
	}
	e, file, err := o.OpenEntry(name)
	switch {
	case err != nil && !r.cfg.Gone(err):
		e, err = l.d.Entry(name)
		return e, sum, err
	case file == nil || err != nil:
		return e, sum, err
	}
	defer file.Close()
	if e.Size == 0 || e.Size > fileop.SmallFile {
		return e, sum, nil
	}
	l.files, l.read = l.files+1, l.read+e.Size
	if l.files > fileop.FilesMax || l.read > fileop.ContentMax {
		l.together = false // too much for one question
		return e, sum, nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := file.ReadAt((*buf)[:e.Size], 0)
	if int64(n) == e.Size {
		sum = digest.Block((*buf)[:n])
	}
	return e, sum, nil
}
