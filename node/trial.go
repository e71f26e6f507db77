package node

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy/capture"
	"understudy/control"
	"understudy/event"
	"understudy/fileop"
	"understudy/mirror"
)

// Trial connections (CONNECT TDU, B6.19): the source captures, mirrors and counts as for
// a real target, and nothing leaves the machine or is queued. They have numbers as
// connections do, and begin again, counting from 0, with the daemon.

// TrialTarget is the target of trial connections.
const TrialTarget = "TDU"

// maxTrials bounds them: each costs the source the reading of its set.
const maxTrials = 16

// storedTrial is a trial over a restart.
type storedTrial struct {
	ConnectionConfig
	File          string `json:"file"`
	NoReplication bool   `json:"no_replication,omitempty"`
	NoMirror      bool   `json:"no_mirror,omitempty"`
}

// trial is one of them.
type trial struct {
	n      *Node
	id     int
	cfg    storedTrial
	c      *Connection // rules and roots; it never runs
	stats  *statsLogger
	own    bool // of stats: it ends with the trial
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards what follows
	meter   *trialMeter
	queue   fileop.Seq // last numbers given
	records fileop.Seq
	off     bool     // live changes are not counted
	session *session // captures and mirror; nil: between attempts
	order   chan struct{}
	lastErr string
}

// connectTrial is CONNECT TDU.
func (n *Node) connectTrial(req *control.ConnectRequest) (int, error) {
	req.Address = "127.0.0.1:1" // of nobody: the stored set alone is looked up
	if err := n.fromStored(n.ctx, req); err != nil {
		return 0, err
	}
	file := req.StatsFile
	if file == "" {
		file = n.conf().StatsFile
	}
	if filepath.Base(file) != file || file == "." || file == ".." || len(file) > 128 || strings.ContainsRune(file, 0) {
		return 0, control.Errorf(control.BadRequest, "give a name without a directory: it goes into LogDir", "statistics file %.100q", file)
	}
	st := storedTrial{File: file, NoReplication: req.NoReplication, NoMirror: req.Mirror == "none",
		ConnectionConfig: ConnectionConfig{Set: req.Set, Rules: req.Rules, Target: TrialTarget, Address: req.Address, Capture: req.Capture}}
	if err := st.validate(); err != nil {
		return 0, control.Errorf(control.BadRequest, "", "connect: %v", err)
	}
	t, err := n.startTrial(st)
	if err != nil {
		return 0, explain(err)
	}
	return t.id, n.storeTrials()
}

func (n *Node) startTrial(st storedTrial) (*trial, error) {
	c, err := n.newConnection(storedConnection{Key: "trial-" + newSession(), ConnectionConfig: st.ConnectionConfig})
	if err != nil {
		return nil, err
	}
	t := &trial{n: n, cfg: st, c: c, done: make(chan struct{}), meter: newTrialMeter(time.Now()), off: st.NoReplication, order: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(n.ctx)
	t.cancel = cancel
	s, err := t.open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	n.mu.Lock()
	if len(n.trials) >= maxTrials || slices.ContainsFunc(n.trials, func(o *trial) bool { return strings.EqualFold(o.cfg.Set, st.Set) }) {
		n.mu.Unlock()
		cancel()
		t.release(s)
		return nil, control.Errorf(control.Exists, "disconnect it first", "set %s has a trial connection, or there are %d already", st.Set, maxTrials)
	}
	n.nextID++
	t.id = n.nextID
	c.ID = t.id
	n.trials = append(n.trials, t)
	n.mu.Unlock()
	if err := t.logStats(); err != nil {
		n.log.Warn("statistics of a trial are not logged", "set", st.Set, "err", err)
	}
	if !st.NoMirror {
		signalOn(t.order)
	}
	t.set(s, nil)
	n.wait.Go(func() { t.run(ctx, s) })
	c.tell(event.Connected)
	return t, nil
}

// open begins to capture for the trial.
func (t *trial) open(ctx context.Context) (*session, error) {
	s := &session{c: t.c, epoch: newEpoch(), orders: newOrders(false)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if err := s.findCaptures(); err != nil {
		t.release(s)
		return nil, err
	}
	cfg := mirror.Config{Rules: t.c.currentRules(), Log: trialLog{t}, Problem: s.problem, BlockSize: int(t.n.conf().MirrorChunk), EveryChange: true}
	for i, cap := range s.captures {
		cfg.EveryChange = cfg.EveryChange && cap.backend.Fidelity() >= capture.DirtyObjects
		cfg.Roots = append(cfg.Roots, mirror.Root{Tree: cap.tree, Index: uint32(i), TreePath: cap.dir, Dir: t.c.pairs[i].From})
	}
	s.mirror = mirror.New(cfg, t.c.log)
	if err := s.attach(); err != nil {
		t.release(s)
		return nil, err
	}
	return s, nil
}

func (t *trial) release(s *session) {
	s.cancel(errDisconnected)
	s.unhook()
	s.releaseCaptures()
}

// run counts until ctx ends; a capture that stops is begun anew, with a mirror.
func (t *trial) run(ctx context.Context, s *session) {
	defer close(t.done)
	for {
		if s != nil {
			t.set(s, nil)
			err := t.work(s)
			t.set(nil, err)
			t.release(s)
			signalOn(t.order)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(t.n.conf().NetworkRetry):
		}
		var err error
		if s, err = t.open(ctx); err != nil {
			s = nil
			t.set(nil, err)
		}
	}
}

func (t *trial) set(s *session, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session, t.lastErr = s, ""
	if err != nil {
		t.lastErr = err.Error()
	}
}

// work mirrors what is ordered and follows changes until something ends it.
func (t *trial) work(s *session) error {
	g, ctx := errgroup.WithContext(s.ctx)
	g.Go(func() error { return s.follow(ctx, s.mirror.Serve) })
	g.Go(func() error { return s.follow(ctx, s.mirror.RunHints) })
	for _, cap := range s.captures {
		g.Go(func() error { return cap.stops(ctx) })
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-t.order:
			}
			t.copy(ctx, s)
		}
	})
	return g.Wait()
}

// copy is one mirror, counted from 0.
func (t *trial) copy(ctx context.Context, s *session) {
	t.mu.Lock()
	t.meter.mir, t.meter.mirrorDone = meter{}, false
	t.mu.Unlock()
	var o mirror.Options
	if size, err := t.n.measure(ctx, t.c.rules); err == nil { // else without a percentage
		o.TotalFiles, o.TotalBytes = uint64(size.Files), uint64(size.Bytes)
	}
	err := s.mirror.Run(ctx, o)
	if err != nil && ctx.Err() == nil {
		t.n.log.Warn("mirror of a trial ended", "set", t.cfg.Set, "err", err)
	}
	t.mu.Lock()
	t.meter.mirrorDone = err == nil || errors.Is(err, mirror.ErrIncomplete) // that is told as of any mirror
	t.mu.Unlock()
	if err == nil || ctx.Err() != nil || errors.Is(err, mirror.ErrStopped) || errors.Is(err, mirror.ErrIncomplete) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(t.n.conf().NetworkRetry):
		signalOn(t.order)
	}
}

// trialLog is the mirror.Log of a trial: it counts.
type trialLog struct{ t *trial }

func (l trialLog) Put(op *fileop.Op) (fileop.Seq, error) { return l.put(op, true) }

func (l trialLog) PutMirror(op *fileop.Op) (fileop.Seq, error) { return l.put(op, false) }

// Credit lets the mirror read as fast as it can: there is no line that could be full.
func (l trialLog) Credit(context.Context, int) error { return nil }

func (l trialLog) put(op *fileop.Op, live bool) (fileop.Seq, error) {
	n := fileop.RecordSize(op)
	t := l.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if live {
		t.queue++
		op.Seq, op.Other = t.queue, t.records
		if !t.off {
			t.meter.change(time.Now(), n)
		}
		return op.Seq, nil
	}
	if op.Kind == fileop.MirrorEntry && op.Tree == 0 && op.Parent.IsZero() && op.Name == "" {
		t.meter.mir = meter{} // a pass over everything begins; a real one would only compare
	}
	t.records++
	op.Seq, op.Other = t.records, t.queue
	t.meter.mir.add(time.Now(), n)
	return op.Seq, nil
}
