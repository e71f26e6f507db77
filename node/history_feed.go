package node

import (
	"context"

	"understudy/applier"
	"understudy/fileop"
)

// recents are the frames handed to the applier that it may not have applied yet: with
// them a log can begin behind whatever operation a base stands at. The applier reads
// ahead by some megabytes, which bounds them.
type recents struct {
	queue    []indexed
	mirror   []fileop.Frame
	applied  fileop.Seq
	mirrored fileop.Seq
	pinned   bool // a base is being made: nothing is forgotten
}

type indexed struct {
	frame fileop.Frame
	index uint64
}

// trimRecents is how many frames may be forgotten at once; so it costs little for each.
const trimRecents = 32

// forget drops what is applied. The last frame applied stays: the applier's position may
// still be the one before it.
func (r *recents) forget() {
	if r.pinned {
		return
	}
	i := 0
	for i < len(r.queue) && r.queue[i].frame.Last() < r.applied {
		i++
	}
	if i >= trimRecents || i == len(r.queue) {
		r.queue = append([]indexed(nil), r.queue[i:]...)
	}
	i = 0
	for i < len(r.mirror) && r.mirror[i].Last() <= r.mirrored {
		i++
	}
	if i >= trimRecents || i == len(r.mirror) {
		r.mirror = append([]fileop.Frame(nil), r.mirror[i:]...)
	}
}

// keepingFeed passes frames on to the applier, after they are in the history's log.
type keepingFeed struct {
	applier.Feed
	p *past
}

func (f keepingFeed) Next(ctx context.Context) (fileop.Frame, uint64, error) {
	fr, i, err := f.Feed.Next(ctx)
	if err == nil {
		f.p.took(&fr, i)
	}
	return fr, i, err
}

func (f keepingFeed) NextMirror(ctx context.Context) (fileop.Frame, error) {
	fr, err := f.Feed.NextMirror(ctx)
	if err == nil {
		f.p.took(&fr, 0)
	}
	return fr, err
}

// took keeps a frame. A history that cannot be written holds up no replica.
func (p *past) took(f *fileop.Frame, index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.Lane == fileop.LaneMirror {
		p.recent.mirror = append(p.recent.mirror, *f)
	} else {
		p.recent.queue = append(p.recent.queue, indexed{*f, index})
	}
	p.recent.forget()
	if p.live == nil {
		return
	}
	if err := p.live.log.Append(f, index); err != nil {
		p.brokenBy(err)
	}
}

// applied tells how far the applier is.
func (p *past) applied(seq, mirrored fileop.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent.applied = max(p.recent.applied, seq)
	p.recent.mirrored = max(p.recent.mirrored, mirrored)
	p.recent.forget()
}

// sync makes the log durable, before the applier's position is.
func (p *past) sync() error {
	p.mu.Lock()
	g := p.live
	p.mu.Unlock()
	if g == nil {
		return nil
	}
	if err := g.log.Sync(); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.brokenBy(err)
	}
	return nil
}
