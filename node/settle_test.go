package node

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"understudy/applier"
	"understudy/fileop"
)

// mirrorGate keeps mirror frames from an applier while it is shut.
type mirrorGate struct {
	applier.Feed
	mu   sync.Mutex
	open chan struct{} // guarded by mu: closed while it is open
}

func newMirrorGate() *mirrorGate {
	g := &mirrorGate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *mirrorGate) wrap(_ *joinInfo, f applier.Feed) applier.Feed { g.Feed = f; return g }

func (g *mirrorGate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *mirrorGate) opened() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *mirrorGate) NextMirror(ctx context.Context) (fileop.Frame, error) {
	fr, err := g.Feed.NextMirror(ctx)
	select {
	case <-g.opened():
	case <-ctx.Done():
		return fr, ctx.Err()
	}
	return fr, err
}

// TestSettleCountsNothingGivenUp: a target that is joined gives up mirror records that have
// not come, and counts them as applied from then on. The answer may be late, or be lost with
// the link: settle waits until what was given up has come again.
func TestSettleCountsNothingGivenUp(t *testing.T) {
	p := newPair(t, false)
	gate := newMirrorGate()
	p.target.wrapFeed = gate.wrap
	p.connect()
	p.settle()
	s, err := p.source.live(p.id)
	must(t, err)
	s.mirror.Deaf() // the file is found by a mirror of everything, or not at all
	put(t, filepath.Join(p.dir, "file"), "given up")
	gate.shut()
	e, err := s.captures[0].tree.Lookup("")
	must(t, err)
	k, err := s.journal.PutMirror(&fileop.Op{Kind: fileop.MirrorDirEnd, Obj: e.Obj, Attr: &e.Attr}) // stands for those of the file
	must(t, err)
	p.joinUnheard(k)
	_, err = s.journal.Put(&fileop.Op{Kind: fileop.Barrier})
	must(t, err)
	waitFor(t, "the target to give them up", func() bool { return p.applier().Position().MirrorApplied >= k })
	close(gate.opened())
	p.settle()
	p.same()
}

// joinUnheard has the target joined as the source would, by a request whose answer is lost.
func (p *pair) joinUnheard(abortTo fileop.Seq) {
	p.t.Helper()
	p.target.mu.Lock()
	var info joinInfo
	for _, r := range p.target.replicas {
		info = r.info
	}
	p.target.mu.Unlock()
	_, err := p.target.join(context.Background(), &joinRequest{Version: peerVersion, Target: p.target.Name(), Info: info, AbortTo: abortTo})
	must(p.t, err)
}

// TestSettleNeedsThePresentTarget: what a target reported before it went away does not make a
// connection settled: it may come back without it.
func TestSettleNeedsThePresentTarget(t *testing.T) {
	needRoot(t)
	p := protected(t)
	put(t, filepath.Join(p.dir, "file"), "applied")
	p.settle()
	s, err := p.source.live(p.id)
	must(t, err)
	s.mirror.Deaf() // hints ask the target, and would wait for it anyway
	addr := p.target.Addr()
	p.stops[0]()
	waitFor(t, "the link to be down", func() bool { return !s.link.Up() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.source.Settle(ctx, p.id); err == nil {
		t.Error("settled, though the target is away")
	}
	p.target = p.startAt("jersey", addr)
	p.stops[0], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
	p.settle()
	p.same()
}
