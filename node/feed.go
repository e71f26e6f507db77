package node

import (
	"context"
	"errors"
	"fmt"

	"understudy/applier"
	"understudy/fileop"
	"understudy/stream"
)

// feed gives the applier what the receiver has, and the receiver the word that mirror
// records will not come.
type feed struct{ r *replica }

// Next returns the next queue frame. A MirrorAbort in it ends the wait for the mirror
// records before it.
func (f feed) Next(ctx context.Context) (fileop.Frame, uint64, error) {
	fr, i, err := f.r.recv.Next(ctx)
	if err != nil {
		return fr, i, err
	}
	if k := abortIn(&fr); k > 0 {
		f.r.recv.SkipMirror(k)
	}
	return fr, i, nil
}

func abortIn(fr *fileop.Frame) (k fileop.Seq) {
	rd := fr.Records()
	for {
		var op fileop.Op
		ok, err := rd.Next(&op)
		if !ok || err != nil {
			return k // the applier reports the error
		}
		if op.Kind == fileop.MirrorAbort {
			k = op.Other
		}
	}
}

// NextMirror returns the next mirror frame. A loss is reported to the source, whose
// MirrorAbort then comes through the queue.
func (f feed) NextMirror(ctx context.Context) (fileop.Frame, error) {
	for {
		fr, err := f.r.recv.NextMirror(ctx)
		if !errors.Is(err, stream.ErrMirrorLost) {
			return fr, err
		}
		f.r.log.Warn("mirror records lost on the way", "err", err)
		f.r.poke()
	}
}

// joinedAgain notes that the source joined, which counts mirror records up to k as lost
// where they are not applied. From here on reports are no good to who does not know of it.
func (r *replica) joinedAgain(k fileop.Seq) {
	r.mu.Lock()
	r.mirrorAtJoin = r.app.Position().MirrorApplied
	if k > r.mirrorAtJoin { // else nothing is given up
		r.joins++
	}
	r.mu.Unlock()
	r.abortMirror(k)
	r.poke()
}

func (r *replica) joinReply() joinReply {
	r.mu.Lock()
	defer r.mu.Unlock()
	return joinReply{Session: r.session, MirrorApplied: uint64(r.mirrorAtJoin), Joins: r.joins, Since: r.info.Since}
}

// abortMirror says that mirror records up to k may be lost: the applier must not wait.
func (r *replica) abortMirror(k fileop.Seq) {
	if k > r.app.Position().MirrorApplied {
		r.recv.SkipMirror(k)
		r.app.AbortMirror(k)
	}
}

// errCatalogLost: what is in the replica is known again only after a mirror.
var errCatalogLost = errors.New("the replica's catalog was damaged or lost and begins anew")

// apply recovers after a stop that was not clean, then applies until ctx ends.
func (r *replica) apply(ctx context.Context) error {
	if r.app.Rebuilt() {
		return errCatalogLost
	}
	if r.app.NeedsRecovery() {
		if err := r.app.Recover(ctx, r.recv.Received(ctx)); err != nil {
			return fmt.Errorf("recover replica: %w", err)
		}
		r.poke()
	}
	var fd applier.Feed = feed{r}
	if r.n.wrapFeed != nil {
		fd = r.n.wrapFeed(&r.info, fd)
	}
	return r.app.Run(ctx, keepingFeed{fd, r.past})
}
