package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"understudy/applier"
	"understudy/event"
	"understudy/history"
)

const (
	// baseRetry is the time between attempts to make a base.
	baseRetry = time.Minute
	// keepEvery is how often histories are looked at.
	keepEvery = time.Second
	// maxHalves is how often a base is given up because a file is half sent; beyond, its
	// date is taken for the file's own, which no mirror corrects.
	maxHalves = 30
)

// errNoBase: the replica is no past moment of its source now.
var errNoBase = errors.New("the replica is no past moment of its source now")

// take is the right to work with the bases of a history; done gives it back.
func (p *past) take(ctx context.Context) (done func(), err error) {
	select {
	case p.work <- struct{}{}:
		return func() { <-p.work }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// makeBase begins a generation with a copy of the replica, which stands still meanwhile.
func (p *past) makeBase(ctx context.Context, r *replica) error {
	done, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	g := &generation{no: 1, meta: genMeta{Version: genVersion, Info: r.info, Made: time.Now(), Base: 1}}
	p.mu.Lock()
	if n := len(p.gens); n > 0 {
		g.no = p.gens[n-1].no + 1
	}
	p.recent.pinned = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.recent.pinned = false
		p.mu.Unlock()
	}()
	g.dir = filepath.Join(p.dir, fmt.Sprintf("g%d", g.no))
	if err := errors.Join(os.RemoveAll(g.dir), os.MkdirAll(g.dir, 0o700)); err != nil {
		return fmt.Errorf("make base of the history: %w", err)
	}
	began := time.Now()
	state, paths := basePaths(g.base(), &r.info)
	pos, err := r.app.Clone(ctx, applier.CloneConfig{StateDir: state, Paths: paths, Log: p.log, Finished: p.halves < maxHalves,
		Want: func(pos applier.Position) error {
			if !pos.Usable() || pos.Run != 0 {
				return errNoBase
			}
			return nil
		},
		Progress: func(uint64, int64) error { return p.room(1) }})
	if errors.Is(err, applier.ErrUnfinished) {
		p.halves++
		err = errNoBase
	}
	if err == nil {
		p.halves = 0
		err = p.beginLog(g, pos)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(g.dir))
	}
	p.log.Info("base of the history made", "seq", pos.Applied, "took", time.Since(began))
	return nil
}

// beginLog begins the log behind a base, with what was received since.
func (p *past) beginLog(g *generation, pos applier.Position) (err error) {
	from := history.Start{Epoch: pos.Epoch, Op: pos.Applied, Frame: pos.FrameLast, Chain: pos.Chain, Mirror: pos.MirrorApplied, Time: g.meta.Made.UTC(), Whole: true}
	g.meta.Start = from
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.log, err = history.Create(filepath.Join(g.dir, "log"), from); err != nil {
		return err
	}
	for _, f := range p.recent.queue {
		if f.frame.Last() > pos.FrameLast && err == nil {
			err = g.log.Append(&f.frame, f.index)
		}
	}
	for i := range p.recent.mirror {
		if p.recent.mirror[i].Last() > pos.MirrorApplied && err == nil {
			err = g.log.Append(&p.recent.mirror[i], 0)
		}
	}
	if err == nil {
		err = g.log.Sync()
	}
	if err == nil {
		err = g.store()
	}
	if err != nil {
		return fmt.Errorf("begin history: %w", errors.Join(err, g.log.Close()))
	}
	p.gens, p.live, p.why = append(p.gens, g), g, ""
	p.n.events.Clear(p.about(), event.HistoryBroken)
	return nil
}

// room refuses when the disk of the histories has less than so many times the space that
// queues leave free.
func (p *past) room(times int64) error {
	free, least, err := p.n.historySpace()
	if err == nil && free < times*least {
		err = fmt.Errorf("%d bytes free on the disk of %s, at least %d must stay", free, p.n.cfg.historyDir(), times*least)
	}
	return err
}

// historySpace is what is free on the disk of the histories, and what has to stay.
func (n *Node) historySpace() (free, least int64, err error) {
	var st unix.Statfs_t
	for dir := n.cfg.historyDir(); ; dir = filepath.Dir(dir) {
		if err = unix.Statfs(dir, &st); err == nil || dir == filepath.Dir(dir) {
			break
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("free space of the history's disk: %w", err)
	}
	least = min(1<<30, int64(st.Blocks)*st.Bsize/20)
	if n.cfg.QueueFree > 0 {
		least = n.cfg.QueueFree
	}
	return int64(st.Bavail) * st.Bsize, least, nil
}

// keepHistories makes bases and keeps histories within their limits, until ctx ends.
func (n *Node) keepHistories(ctx context.Context) {
	atEach(ctx, keepEvery, func() {
		n.mu.Lock()
		list := slices.Collect(maps.Values(n.pasts))
		n.mu.Unlock()
		for _, p := range list {
			p.tend(ctx)
		}
	})
}

// tend does what is due for one history.
func (p *past) tend(ctx context.Context) {
	p.mu.Lock()
	info, live, retryAt := p.info, p.live, p.retryAt
	p.mu.Unlock()
	keep := p.n.keeps(&info)
	p.n.mu.Lock()
	r := p.n.replicas[p.key]
	p.n.mu.Unlock()
	if keep.on() && live == nil && r != nil && !r.isPaused() && r.brokenBy() == "" && time.Now().After(retryAt) && r.app.Position().Usable() {
		if err := p.room(4); err != nil {
			p.failed(err)
		} else if err := p.makeBase(ctx, r); err != nil && !errors.Is(err, errNoBase) && ctx.Err() == nil {
			p.failed(err)
		}
	}
	if err := p.trim(ctx, keep); err != nil && ctx.Err() == nil {
		p.failed(err)
	}
}

// failed tells why no history is kept, and puts off the next attempt.
func (p *past) failed(err error) {
	p.mu.Lock()
	p.retryAt, p.why = time.Now().Add(baseRetry), err.Error()
	p.mu.Unlock()
	p.log.Warn("history not kept", "err", err)
	p.n.events.Set(event.HistoryBroken, p.about(), p.info.Source, err)
}
