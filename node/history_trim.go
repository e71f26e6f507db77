package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"understudy/applier"
	"understudy/event"
	"understudy/fileop"
	"understudy/history"
)

// Retention: before a part of the log is dropped, the base is brought forward behind it.

// trim keeps a history within its limits. History gives way to everything else: near the
// end of the disk it becomes as short as it can, and then it goes.
func (p *past) trim(ctx context.Context, keep keepWhat) error {
	select {
	case p.work <- struct{}{}:
		defer func() { <-p.work }()
	default:
		return nil // somebody reads it
	}
	p.mu.Lock()
	gens, live := append([]*generation(nil), p.gens...), p.live
	p.mu.Unlock()
	if len(gens) == 0 {
		return nil
	}
	tight := p.room(2) != nil
	if tight && p.room(1) != nil {
		return p.giveWay(gens)
	}
	left := keep.bytes
	for i := len(gens) - 1; i >= 0; i-- {
		g := gens[i]
		segs := g.log.Segments()
		if i < len(gens)-1 && expired(g, segs, keep, left, tight) {
			if err := p.dropGeneration(g); err != nil {
				return err
			}
			continue
		}
		no := due(segs, keep, left, tight)
		left -= g.log.Bytes()
		if no == 0 && !g.meta.Moving {
			continue
		}
		if err := p.advance(ctx, g, segs, no); err != nil {
			return fmt.Errorf("trim history: %w", err)
		}
	}
	if tight && live != nil {
		p.n.events.Set(event.HistoryShort, p.about(), p.info.Source, p.room(2))
	} else if !tight {
		p.n.events.Clear(p.about(), event.HistoryShort)
	}
	return nil
}

// expired: nothing of an ended generation is to be kept.
func expired(g *generation, segs []history.Segment, keep keepWhat, left int64, tight bool) bool {
	last := g.meta.Made
	if n := len(segs); n > 0 {
		last = segs[n-1].Last
	}
	return tight || keep.age > 0 && time.Since(last) > keep.age || keep.bytes > 0 && left <= 0
}

// due is the last segment that is not to be kept, 0 if there is none. The one that grows
// always stays.
func due(segs []history.Segment, keep keepWhat, bytes int64, tight bool) (no uint64) {
	total := int64(0)
	for _, s := range segs {
		total += s.Bytes
	}
	for i := 0; i < len(segs)-1; i++ {
		old := keep.age > 0 && time.Since(segs[i].Last) > keep.age
		if !tight && !old && (keep.bytes == 0 || total <= bytes) {
			break
		}
		no, total = segs[i].No, total-segs[i].Bytes
	}
	return no
}

// advance brings the base of a generation to the end of segment no and drops what it is
// past. Where only operations of one epoch lie between, it moves in place: a base whose
// move was interrupted goes on. Mirror records could not be given again after that, so
// across them a copy moves, and takes the base's place.
func (p *past) advance(ctx context.Context, g *generation, segs []history.Segment, no uint64) error {
	start := g.log.Start()
	if no == 0 || g.meta.Moving {
		return p.settle(ctx, g)
	}
	to, plain := start, true
	for _, s := range segs {
		if s.No > no {
			break
		}
		plain = plain && !s.Mirror
		to = history.Start{Epoch: s.Epoch, Op: s.Op, Mirror: start.Mirror, Time: s.End.Now.UTC(), Whole: s.End.Whole}
	}
	if to.Epoch == start.Epoch && to.Op <= start.Op {
		return g.drop(segs)
	}
	if plain {
		mirrored, err := g.log.MirroredAt(no, to.Epoch, to.Op)
		if err != nil {
			return err
		}
		plain = mirrored <= start.Mirror // else records it needs came later than it did
	}
	if !plain {
		return p.advanceCopy(ctx, g, to)
	}
	if err := g.moved(to, g.meta.Base, true); err != nil {
		return err
	}
	return p.settle(ctx, g)
}

// settle brings a base that moves in place to the log's start, by operations alone.
func (p *past) settle(ctx context.Context, g *generation) error {
	to := g.log.Start()
	state, roots := g.baseRoots(g.meta.Base)
	f := forward{g: g, state: state, roots: roots, to: history.Moment{Epoch: to.Epoch, Op: to.Op}, mirror: to.Mirror, copied: p, tune: bulk}
	if _, err := f.run(ctx, to.Epoch); err != nil {
		return err
	}
	if err := g.moved(to, g.meta.Base, false); err != nil {
		return err
	}
	return g.drop(g.log.Segments())
}

// moved remembers where the base stands, or is being brought to.
func (g *generation) moved(to history.Start, base int, moving bool) error {
	g.storing.Lock()
	defer g.storing.Unlock()
	g.meta.Start, g.meta.Base, g.meta.Moving = to, base, moving
	if err := g.store(); err != nil {
		return err
	}
	g.log.SetStart(to)
	return nil
}

// bulk tunes an applier that has much to do and can begin again.
func bulk(c *applier.Config) { c.CheckpointEvery, c.CheckpointBytes = 10*time.Second, 1<<30 }

func (g *generation) baseRoots(base int) (state string, roots []applier.Root) {
	state, paths := basePaths(filepath.Join(g.dir, fmt.Sprintf("base-%d", base)), &g.meta.Info)
	for _, r := range g.meta.Info.Roots {
		roots = append(roots, applier.Root{Tree: r.Tree, Source: r.Obj, Path: paths[r.Tree]})
	}
	return state, roots
}

// advanceCopy copies the base, brings the copy forward and puts it in the base's place.
func (p *past) advanceCopy(ctx context.Context, g *generation, to history.Start) error {
	if err := p.room(4); err != nil {
		return err
	}
	next := g.meta.Base + 1
	dir := filepath.Join(g.dir, fmt.Sprintf("base-%d", next))
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	written, err := openToSync(dir)
	defer written.close()
	if err != nil {
		return err
	}
	state, paths := basePaths(dir, &g.meta.Info)
	err = p.cloneBase(ctx, g, state, paths, func(uint64, int64) error { return p.room(2) })
	var pos applier.Position
	if err == nil {
		_, roots := g.baseRoots(next)
		f := forward{g: g, state: state, roots: roots, to: history.Moment{Epoch: to.Epoch, Op: to.Op}, mirror: history.All, noSync: true, copied: p}
		pos, err = f.run(ctx, g.log.Start().Epoch)
	}
	if err == nil {
		err = written.sync()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	old := g.base()
	to.Whole, to.Mirror = pos.Usable(), pos.MirrorApplied
	if err := g.moved(to, next, false); err != nil {
		return err
	}
	return errors.Join(g.drop(g.log.Segments()), os.RemoveAll(old))
}

// cloneBase copies the base of a generation, not durably. The caller holds the right to work
// with it.
func (p *past) cloneBase(ctx context.Context, g *generation, state string, paths map[uint32]string, progress func(uint64, int64) error) (err error) {
	if g.meta.Moving {
		if err := p.settle(ctx, g); err != nil {
			return err
		}
	}
	from, roots := g.baseRoots(g.meta.Base)
	app, err := applier.Open(applier.Config{Past: true, StateDir: from, Epoch: g.log.Start().Epoch, Roots: roots}, p.log)
	if err != nil {
		return fmt.Errorf("open base of the history: %w", err)
	}
	defer func() { err = errors.Join(err, app.Close()) }()
	if app.NeedsRecovery() { // nothing was applied to it since it was closed
		none := func(func(fileop.Frame, error) bool) {}
		if err := app.Recover(ctx, none); err != nil {
			return fmt.Errorf("open base of the history: %w", err)
		}
	}
	if _, err := app.Clone(ctx, applier.CloneConfig{StateDir: state, Paths: paths, Progress: progress, Log: p.log, NoSync: true}); err != nil {
		return fmt.Errorf("copy base of the history: %w", err)
	}
	return nil
}

// toSync are the file systems of directories, held open while they are written to: an error
// of the disk that happens meanwhile is told at sync.
type toSync map[uint64]int // by device

func openToSync(dirs ...string) (toSync, error) {
	s := toSync{}
	for _, dir := range dirs {
		err := os.MkdirAll(dir, 0o700)
		if err != nil {
			return s, fmt.Errorf("sync %s: %w", dir, err)
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return s, fmt.Errorf("sync %s: %w", dir, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		if _, twice := s[st.Dev]; err != nil || twice {
			unix.Close(fd)
			continue
		}
		s[st.Dev] = fd
	}
	return s, nil
}

// sync makes durable what was written.
func (s toSync) sync() error {
	for _, fd := range s {
		if err := unix.Syncfs(fd); err != nil {
			return fmt.Errorf("sync file system: %w", err)
		}
	}
	return nil
}

func (s toSync) close() {
	for _, fd := range s {
		unix.Close(fd)
	}
}

// drop forgets the segments that hold nothing behind the base.
func (g *generation) drop(segs []history.Segment) error {
	base, no := g.meta.Start, uint64(0)
	for _, s := range segs[:max(0, len(segs)-1)] {
		if s.Epoch == base.Epoch && s.Op <= base.Op && s.End.Mirror <= base.Mirror {
			no = s.No + 1
		}
	}
	if no == 0 {
		return nil
	}
	return g.log.Drop(no)
}

// dropGeneration deletes an ended one.
func (p *past) dropGeneration(g *generation) error {
	p.mu.Lock()
	for i, have := range p.gens {
		if have == g {
			p.gens = append(p.gens[:i:i], p.gens[i+1:]...)
			break
		}
	}
	if p.live == g {
		p.live = nil
	}
	p.mu.Unlock()
	// Without gen.json it does not exist any more, however much is left after a stop.
	err := errors.Join(g.log.Close(), os.Remove(filepath.Join(g.dir, "gen.json")), os.RemoveAll(g.dir))
	if err != nil {
		return fmt.Errorf("drop generation of the history: %w", err)
	}
	return nil
}

// giveWay deletes the history: the disk is needed for queues and replicas.
func (p *past) giveWay(gens []*generation) error {
	why := p.room(1)
	var errs []error
	for _, g := range gens {
		errs = append(errs, p.dropGeneration(g))
	}
	p.failed(fmt.Errorf("history dropped: %w", why))
	p.n.events.Raise(event.HistoryDropped, p.about(), p.info.Source, why)
	return errors.Join(errs...)
}

// clear deletes the history on an operator's word.
func (p *past) clear(ctx context.Context) error {
	done, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	p.mu.Lock()
	gens := append([]*generation(nil), p.gens...)
	p.mu.Unlock()
	var errs []error
	for _, g := range gens {
		errs = append(errs, p.dropGeneration(g))
	}
	return errors.Join(errs...)
}
