package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"understudy/applier"
	"understudy/control"
	"understudy/fileop"
	"understudy/repset"
	"understudy/stream"
)

// ackEvery bounds how often the target reports: often enough that lag and credit are
// fresh, seldom enough to cost nothing.
const ackEvery = 5 * time.Millisecond

// replica is the target's half of a connection: one epoch's receiving queue and
// applier. It goes on applying what was received when the source is gone.
type replica struct {
	n       *Node
	info    joinInfo
	session string
	recv    *stream.Receiver
	app     *applier.Applier
	log     *slog.Logger
	cancel  context.CancelFunc
	done    chan struct{}
	report  chan struct{} // something to report

	mu      sync.Mutex // guards what follows
	broken  string
	lastErr string
	paused  bool
}

// stateDir is where the replica's catalog lives.
func (n *Node) stateDir(info *joinInfo) string {
	sum := sha256.Sum256([]byte(info.key()))
	return filepath.Join(n.cfg.Data, "replicas", stream.Token(info.Source)+"-"+hex.EncodeToString(sum[:8]))
}

// servePeers answers what sources ask.
func (n *Node) servePeers() (stop func(), err error) {
	stopJoin, err := n.srv.Handle(joinSubject, n.handleJoin)
	if err != nil {
		return nil, err
	}
	stopLeave, err := n.srv.Handle(leaveSubject, n.handleLeave)
	if err != nil {
		stopJoin()
		return nil, err
	}
	return func() { stopJoin(); stopLeave() }, nil
}

func (n *Node) handleJoin(ctx context.Context, data []byte) ([]byte, error) {
	var req joinRequest
	if err := decodeJSON(data, &req, "join request"); err != nil {
		return nil, err
	}
	var reply joinReply
	r, err := n.join(ctx, &req)
	if err != nil {
		var ce *control.Error
		if !errors.As(err, &ce) {
			ce = control.Errorf(control.Internal, "", "%v", err)
		}
		n.log.Warn("source refused", "source", req.Info.Source, "set", req.Info.Set, "err", err)
		reply = joinReply{Code: string(ce.Code), Msg: ce.Msg, Hint: ce.Hint}
	} else {
		reply = joinReply{Session: r.session}
	}
	return json.Marshal(reply)
}

// join opens the epoch a source begins, or finds the one it resumes.
func (n *Node) join(ctx context.Context, req *joinRequest) (*replica, error) {
	if err := n.checkJoin(req); err != nil {
		return nil, err
	}
	for i := range req.Info.Roots {
		req.Info.Roots[i].Path = realPlace(req.Info.Roots[i].Path)
	}
	if err := n.checkPlaces(&req.Info); err != nil {
		return nil, err
	}
	n.joining.Lock() // one at a time: they compare each other's paths
	defer n.joining.Unlock()
	n.mu.Lock()
	old := n.replicas[req.Info.key()]
	n.mu.Unlock()
	if old != nil && old.info.Epoch == req.Info.Epoch && old.alive() {
		old.abortMirror(req.AbortTo)
		return old, nil
	}
	known := false
	var err error
	n.state.read(func(d *stateData) {
		_, known = d.Replicas[req.Info.key()]
		err = checkOverlap(d.Replicas, &req.Info)
	})
	if err != nil {
		return nil, control.Errorf(control.Refused, "", "%v", err)
	}
	if err := checkTargets(req, known); err != nil {
		return nil, err
	}
	if old != nil {
		old.stop()
		old.drop(ctx)
	}
	if err := n.state.update(func(d *stateData) { d.Replicas[req.Info.key()] = req.Info }); err != nil {
		return nil, err
	}
	return n.openReplica(ctx, req.Info)
}

// checkJoin refuses what no honest source of this version asks.
func (n *Node) checkJoin(req *joinRequest) error {
	info := &req.Info
	if req.Version != peerVersion {
		return control.Errorf(control.Refused, "upgrade the older machine", "peer protocol %d, here %d", req.Version, peerVersion)
	}
	if req.Target != n.cfg.Name {
		return control.Errorf(control.NotFound, "correct the target's name or address", "this machine is %s, not %s", n.cfg.Name, req.Target)
	}
	if !nodeName.MatchString(info.Source) || info.Connection == "" || len(info.Connection) > 64 || len(info.Roots) == 0 || info.Epoch == 0 {
		return control.Errorf(control.BadRequest, "", "incomplete join request of %q", info.Source)
	}
	for i, r := range info.Roots {
		if r.Tree != uint32(i) || !filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path || r.Path == "/" || strings.ContainsRune(r.Path, 0) {
			return control.Errorf(control.BadRequest, "choose an absolute path of a directory", "target path %q", r.Path)
		}
	}
	return nil
}

// checkPlaces refuses target paths in the data directory, and those that make a loop.
// The paths have no symbolic links.
func (n *Node) checkPlaces(info *joinInfo) error {
	data := realPlace(n.cfg.Data)
	for _, r := range info.Roots {
		if within(data, r.Path) || within(r.Path, data) {
			return control.Errorf(control.Refused, "choose another target path", "target path %s overlaps the data directory %s", r.Path, data)
		}
	}
	return n.checkLoop(info)
}

// checkLoop refuses a target path inside what this machine protects, if that goes back
// to the same source, and overlap where source and target are one machine.
func (n *Node) checkLoop(info *joinInfo) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := info.pairs()
	if info.Source == n.cfg.Name {
		if err := repset.CheckSameMachine(in); err != nil {
			return control.Errorf(control.Refused, "", "%v", err)
		}
	}
	for _, c := range n.conns {
		if c.cfg.Target != info.Source {
			continue
		}
		if err := repset.CheckBothWays(c.pairs, in); err != nil {
			return control.Errorf(control.Refused, "", "%v", err)
		}
	}
	return nil
}

func (j *joinInfo) pairs() []repset.Pair {
	var out []repset.Pair
	for _, r := range j.Roots {
		out = append(out, repset.Pair{From: r.From, To: r.Path})
	}
	return out
}

func (j *joinInfo) owner() string { return j.Source + ", set " + j.Set }

// checkOverlap refuses target paths that another connection writes to.
func checkOverlap(have map[string]joinInfo, info *joinInfo) error {
	var claims []repset.Claim
	for key, other := range have {
		if key == info.key() {
			continue
		}
		for _, r := range other.Roots {
			claims = append(claims, repset.Claim{Owner: other.owner() + " (" + key + ")", Path: r.Path})
		}
	}
	for _, r := range info.Roots {
		if err := repset.CheckClaims(claims, repset.Claim{Owner: info.owner(), Path: r.Path}); err != nil {
			return err
		}
	}
	return nil
}

// checkTargets refuses a directory that holds somebody's files, before anything is
// changed.
func checkTargets(req *joinRequest, known bool) error {
	for _, r := range req.Info.Roots {
		names, err := os.ReadDir(r.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := writable(r.Path); err != nil {
				return control.Errorf(control.Refused, "make it writable, or choose another path", "target path %s: %v", r.Path, err)
			}
		case err != nil:
			return control.Errorf(control.Refused, "choose an absolute path of a directory", "target path %s: %v", r.Path, err)
		case len(names) > 0 && !known && !req.Adopt:
			return control.Errorf(control.Refused, "choose an empty directory, or connect with adopt to compare and overwrite what is there",
				"target path %s is not empty", r.Path)
		default:
			if err := writable(filepath.Join(r.Path, "x")); err != nil {
				return control.Errorf(control.Refused, "make it writable, or choose another path", "target path %s: %v", r.Path, err)
			}
		}
	}
	return nil
}

// openReplica starts the receiving queue and the applier of an epoch.
func (n *Node) openReplica(ctx context.Context, info joinInfo) (*replica, error) {
	r := &replica{n: n, info: info, session: newSession(), done: make(chan struct{}), report: make(chan struct{}, 1),
		log: n.log.With("source", info.Source, "set", info.Set)}
	cfg := applier.Config{StateDir: n.stateDir(&info), Epoch: info.Epoch, OnEvent: r.event,
		OnDurable: r.durable, OnMirrorApplied: func(fileop.Seq) { r.poke() }}
	for _, root := range info.Roots {
		cfg.Roots = append(cfg.Roots, applier.Root{Tree: root.Tree, Source: root.Obj, Path: root.Path})
	}
	var err error
	if r.app, err = applier.Open(cfg, r.log); err != nil {
		return nil, control.Errorf(control.Refused, "", "replica: %v", err)
	}
	pos := r.app.Position()
	r.recv, err = n.srv.OpenReceiver(ctx, stream.ReceiverConfig{Source: info.Source, Connection: info.Connection, Epoch: info.Epoch,
		MaxBytes: n.cfg.QueueLimit, MirrorWindow: n.cfg.MirrorWindow, MirrorDone: pos.MirrorApplied, Log: r.log,
		Applied: stream.Position{Frame: pos.Frame, Seq: pos.FrameLast, Chain: pos.Chain}})
	if err != nil {
		return nil, errors.Join(err, r.app.Close())
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
	reporting := make(chan struct{})
	reportCtx, stopReport := context.WithCancel(ctx)
	go func() { defer close(reporting); r.reportLoop(reportCtx) }()
	if err := r.apply(ctx); err != nil && ctx.Err() == nil {
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
	r.recv.Purge(p.Frame)
	r.poke()
}

// breakUp notes why the stream cannot go on.
func (r *replica) breakUp(err error) {
	r.log.Error("replication stopped, a new epoch is needed", "err", err)
	r.mu.Lock()
	r.broken = err.Error()
	r.mu.Unlock()
	r.poke()
}

func (r *replica) alive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken == ""
}

func (r *replica) stop() {
	r.cancel()
	<-r.done
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if r.n.replicas[r.info.key()] == r {
		delete(r.n.replicas, r.info.key())
	}
}

// leaveGrace is how long a disconnect waits for what was received to be applied.
const leaveGrace = 5 * time.Second

// applyReceived waits until everything received is applied, for a moment.
func (r *replica) applyReceived(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveGrace)
	defer cancel()
	last, err := r.recv.Last(ctx)
	if err == nil {
		err = r.app.Settled(ctx, last.Seq)
	}
	if err != nil {
		r.log.Warn("disconnected with operations not applied", "err", err)
	}
}

// drop deletes the queue of an ended epoch.
func (r *replica) drop(ctx context.Context) {
	if err := r.recv.Delete(ctx); err != nil {
		r.log.Warn("target queue of an ended epoch not deleted", "err", err)
	}
}

// event shows what the applier wants seen.
func (r *replica) event(e applier.Event) {
	level := slog.LevelWarn
	switch e.Kind {
	case applier.EventCured, applier.EventOrphans, applier.EventMovedAside, applier.EventNotPermitted:
		level = slog.LevelInfo
	}
	r.log.Log(context.Background(), level, string(e.Kind), "path", e.Name, "seq", e.Seq, "count", e.Count, "err", e.Err)
	r.mu.Lock()
	switch {
	case e.Kind == applier.EventCured:
		r.lastErr = ""
	case level == slog.LevelWarn:
		r.lastErr = string(e.Kind)
		if e.Err != nil {
			r.lastErr += ": " + e.Err.Error()
		}
	}
	r.mu.Unlock()
	r.poke()
}

func (r *replica) poke() {
	select {
	case r.report <- struct{}{}:
	default:
	}
}

// reportLoop publishes the position when it changed.
func (r *replica) reportLoop(ctx context.Context) {
	subject := stream.AckSubject(r.info.Source, r.info.Connection, r.info.Epoch)
	tick := time.NewTicker(ackEvery)
	defer tick.Stop()
	var sent ack
	var at time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.report:
		case <-tick.C:
		}
		a := r.ack()
		if a == sent && time.Since(at) < time.Second { // a lost report is repeated
			continue
		}
		raw, err := json.Marshal(a)
		if err == nil {
			err = r.n.srv.Publish(subject, raw)
		}
		if err != nil {
			r.log.Warn("report not sent", "err", err)
		}
		sent, at = a, time.Now()
	}
}

func (r *replica) ack() ack {
	p, d := r.app.Position(), r.app.Durable()
	a := ack{Session: r.session, Epoch: r.info.Epoch, Applied: p.Applied, DurableFrame: d.Frame, DurableOp: d.FrameLast,
		MirrorApplied: p.MirrorApplied, MirrorLost: r.recv.Stats().MirrorLost, Usable: p.Usable()}
	st := r.app.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Broken, a.Err = r.broken, r.lastErr
	a.State = replicaState(p, st, r.broken != "", r.paused)
	return a
}

// replicaState is the operator's word.
func replicaState(p applier.Position, st applier.Stats, broken, paused bool) string {
	switch {
	case broken:
		return "Broken"
	case st.Retrying:
		return "Retrying"
	case paused:
		return "Paused"
	case p.Recovering:
		return "Recovering"
	case p.Run != 0:
		return "Mirroring"
	case p.Remirror:
		return "Remirror required"
	case !p.Mirrored:
		return "Not mirrored"
	}
	return "OK"
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

func (n *Node) handleLeave(ctx context.Context, data []byte) ([]byte, error) {
	var req leaveRequest
	if err := decodeJSON(data, &req, "leave request"); err != nil {
		return nil, err
	}
	n.joining.Lock()
	defer n.joining.Unlock()
	key := (&joinInfo{Source: req.Source, Connection: req.Connection}).key()
	n.mu.Lock()
	r := n.replicas[key]
	n.mu.Unlock()
	if r != nil {
		r.applyReceived(ctx)
		r.stop()
		r.drop(ctx)
	}
	var info joinInfo
	var known bool
	n.state.read(func(d *stateData) { info, known = d.Replicas[key] })
	if !known {
		return nil, nil
	}
	if err := n.state.update(func(d *stateData) { delete(d.Replicas, key) }); err != nil {
		return nil, err
	}
	return nil, os.RemoveAll(n.stateDir(&info))
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
		if _, err := n.openReplica(n.ctx, info); err != nil {
			n.log.Error("replica not resumed", "source", info.Source, "set", info.Set, "err", err)
		}
	}
}

// pauseTarget pauses or resumes applying for a source, or for all ("").
func (n *Node) pauseTarget(ctx context.Context, source string, pause bool) error {
	n.mu.Lock()
	var list []*replica
	for _, r := range n.replicas {
		if source == "" || r.info.Source == source {
			list = append(list, r)
		}
	}
	n.mu.Unlock()
	if len(list) == 0 {
		return control.Errorf(control.NotFound, "", "nothing is received from %q", source)
	}
	for _, r := range list {
		if pause {
			if err := r.app.Pause(ctx); err != nil {
				return fmt.Errorf("pause %s: %w", r.info.Source, err)
			}
		} else {
			r.app.Resume()
		}
		r.mu.Lock()
		r.paused = pause
		r.mu.Unlock()
		r.poke()
	}
	return nil
}
