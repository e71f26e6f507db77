package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"

	"understudy/applier"
	"understudy/control"
	"understudy/event"
	"understudy/fileop"
	"understudy/repset"
	"understudy/stream"
)

// replica is the target's half of a connection: one epoch's receiving queue and
// applier. It goes on applying what was received when the source is gone.
type replica struct {
	n       *Node
	info    joinInfo
	session string
	recv    *stream.Receiver
	app     *applier.Applier
	log     *slog.Logger
	past    *past // what is kept of its history
	cancel  context.CancelFunc
	done    chan struct{}
	over    chan struct{} // closed when nothing is applied any more
	// report: something to report now; position: something that may wait for ackEvery.
	report, position chan struct{}

	mu    sync.Mutex // guards what follows
	joins uint64     // times mirror records were given up as the source joined again
	// mirrorAtJoin is the last mirror record applied before the source joined last.
	mirrorAtJoin fileop.Seq
	broken       string
	lastErr      string
	paused       bool
	alert        event.ID // what holds up the applier; 0: nothing
	task         string   // job of the task command that runs now; "": none

	queueUsed, queueLimit int64 // bytes of the queue, as of the last second
}

// stateDir is where the replica's catalog lives.
func (n *Node) stateDir(info *joinInfo) string {
	sum := sha256.Sum256([]byte(info.key()))
	return filepath.Join(n.cfg.Data, "replicas", stream.Token(info.Source)+"-"+hex.EncodeToString(sum[:8]))
}

// checkPlaces refuses target paths in the data directory, and those that make a loop.
// The paths have no symbolic links.
func (n *Node) checkPlaces(info *joinInfo) error {
	data := realPlace(n.cfg.Data)
	for _, r := range info.Roots {
		if repset.Within(data, r.Path) || repset.Within(r.Path, data) {
			return control.Errorf(control.Refused, "choose another target path", "target path %s overlaps the data directory %s", r.Path, data)
		}
	}
	return n.checkLoop(info)
}

// openReplica starts the receiving queue and the applier of an epoch. held is when an
// earlier one began to fill the replica, 0 if none did.
func (n *Node) openReplica(ctx context.Context, info joinInfo, held int64) (*replica, error) {
	if err := n.checkCaptured(&info); err != nil { // a mount that outlived the daemon before
		return nil, err
	}
	r := &replica{n: n, info: info, session: newSession(), done: make(chan struct{}), over: make(chan struct{}), report: make(chan struct{}, 1), position: make(chan struct{}, 1),
		log: n.log.With("source", info.Source, "set", info.Set)}
	r.past = n.pastOf(&info)
	cfg := applier.Config{BeforeDurable: r.past.sync, StateDir: n.stateDir(&info), Epoch: info.Epoch, HeldSince: held, OnEvent: r.event,
		RetryEvery: n.conf().TargetRetry, RetryMax: n.conf().TargetRetryLimit,
		Orphans: func() applier.OrphanPolicy { return n.conf().orphanPolicy() }, OnDurable: r.durable, OnMirrorApplied: r.mirrorApplied, OnChange: r.moved, OnTask: r.onTask}
	for _, root := range info.Roots {
		cfg.Roots = append(cfg.Roots, applier.Root{Tree: root.Tree, Source: root.Obj, Path: root.Path})
	}
	var err error
	if r.app, err = applier.Open(cfg, r.log); err != nil {
		return nil, control.Errorf(control.Refused, "", "replica: %v", err)
	}
	pos := r.app.Position()
	r.past.begin(&info, pos.MirrorApplied, r.app.NeedsRecovery(), r.app.NeedsRecovery() && r.app.Rebooted())
	r.recv, err = n.srv.OpenReceiver(ctx, stream.ReceiverConfig{Source: info.Source, Connection: info.Connection, Epoch: info.Epoch,
		MaxBytes: n.conf().QueueLimit, MirrorWindow: n.conf().MirrorWindow, MirrorDone: pos.MirrorApplied, Log: r.log,
		Applied: stream.Position{Frame: pos.Frame, Seq: pos.FrameLast, Chain: pos.Chain}})
	if err != nil {
		return nil, errors.Join(err, r.app.Close())
	}
	if n.pausedNow(info.Source) {
		r.app.Hold()
		r.setPaused(true)
	}
	runCtx, cancel := context.WithCancel(n.ctx)
	r.cancel = cancel
	n.mu.Lock()
	n.replicas[info.key()] = r
	n.mu.Unlock()
	n.wait.Add(1)
	go func() {
		defer n.wait.Done()
		defer close(r.done)
		r.run(runCtx)
	}()
	return r, nil
}

// run applies until the replica is told to stop; what stops it otherwise is reported
// to the source, which begins a new epoch.
func (r *replica) run(ctx context.Context) {
	stop, err := r.serveQueries()
	if err != nil {
		r.breakUp(err)
	} else {
		defer stop()
	}
	if stop, err := r.serveProbes(); err != nil {
		r.breakUp(err)
	} else {
		defer stop()
	}
	if stop, err := r.serveTasks(ctx); err != nil {
		r.breakUp(err)
	} else {
		defer stop()
	}
	if stop, err := r.serveBackup(); err != nil {
		r.breakUp(err)
	} else {
		defer stop()
	}
	if stop, err := r.serveClean(); err != nil {
		r.breakUp(err)
	} else {
		defer stop()
	}
	reporting := make(chan struct{})
	reportCtx, stopReport := context.WithCancel(ctx)
	go func() { defer close(reporting); r.reportLoop(reportCtx) }()
	err = r.apply(ctx)
	close(r.over)
	if err != nil && ctx.Err() == nil {
		r.breakUp(err)
		<-ctx.Done()
	}
	stopReport()
	<-reporting
	if err := r.app.Close(); err != nil {
		r.log.Error("replica did not close cleanly", "err", err)
	}
	if err := r.recv.Close(context.WithoutCancel(ctx)); err != nil {
		r.log.Warn("target queue did not close", "err", err)
	}
}

// durable trims the queue behind what is applied and on disk.
func (r *replica) durable(p applier.Position) {
	if r.recv != nil { // nil: the queue did not open, and the applier ends again
		r.recv.Purge(p.Frame)
	}
	r.checkpointed()
	r.past.applied(p.Applied, p.MirrorApplied)
	r.poke()
}

// mirrorApplied returns credit.
func (r *replica) mirrorApplied(k fileop.Seq) {
	r.past.applied(0, k)
	r.poke()
}

// breakUp notes why the stream cannot go on.
func (r *replica) breakUp(err error) {
	r.n.events.Set(event.ReplicaFailed, r.about(), r.info.Source, err)
	if errors.Is(err, stream.ErrBroken) {
		r.n.events.Raise(event.QueueDamaged, r.about(), err)
	}
	r.mu.Lock()
	r.broken = err.Error()
	r.mu.Unlock()
	r.poke()
}

// brokenBy is why the stream cannot go on; "" while it can.
func (r *replica) brokenBy() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

func (r *replica) stop() {
	r.cancel()
	<-r.done
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.n.events.Forget(r.about())
	if r.n.replicas[r.info.key()] == r {
		delete(r.n.replicas, r.info.key())
	}
}

// drop deletes the queue of an ended epoch.
func (r *replica) drop(ctx context.Context) {
	r.past.ended(&r.info, r.app.Position())
	if err := r.recv.Delete(ctx); err != nil {
		r.log.Warn("target queue of an ended epoch not deleted", "err", err)
	}
}

// serveQueries answers the source's mirror.
func (r *replica) serveQueries() (stop func(), err error) {
	s1, err := r.n.srv.Handle(listSubject(r.info.Source, r.info.Connection), func(ctx context.Context, data []byte) ([]byte, error) {
		var q fileop.ListQuery
		if err := q.Parse(data); err != nil {
			return nil, err
		}
		reply, err := r.app.List(ctx, q)
		if err != nil {
			return nil, err
		}
		return fitting(&reply), nil
	})
	if err != nil {
		return nil, err
	}
	s2, err := r.n.srv.Handle(digestSubject(r.info.Source, r.info.Connection), func(ctx context.Context, data []byte) ([]byte, error) {
		var q fileop.DigestQuery
		if err := q.Parse(data); err != nil {
			return nil, err
		}
		reply, err := r.app.Digests(ctx, q)
		if err != nil {
			return nil, err
		}
		return reply.Append(nil), nil
	})
	if err != nil {
		s1()
		return nil, err
	}
	return func() { s1(); s2() }, nil
}

// fitting encodes a list reply, with fewer entries if it would not fit a message.
func fitting(reply *fileop.ListReply) []byte {
	for {
		out := reply.Append(nil)
		if len(out) <= stream.MaxMessage || len(reply.Entries) < 2 {
			return out
		}
		reply.Entries, reply.More = reply.Entries[:len(reply.Entries)/2], true
	}
}

// resumeReplicas goes on with what was received before a restart; the sources join
// again by themselves.
func (n *Node) resumeReplicas() {
	var infos []joinInfo
	n.state.read(func(d *stateData) {
		for _, info := range d.Replicas {
			infos = append(infos, info)
		}
	})
	for _, info := range infos {
		if n.failover.Sealed(info.Source) {
			continue // this machine stands in for it
		}
		if _, err := n.openReplica(n.ctx, info, info.Since); err != nil {
			n.log.Error("replica not resumed", "source", info.Source, "set", info.Set, "err", err)
		}
	}
}
