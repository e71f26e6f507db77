package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/fileop"
	"understudy/internal/fsx"
	"understudy/mirror"
	"understudy/stream"
	"understudy/verifier"
)

const (
	maxShown    = 1000             // differences a report lists; the log has all, up to its limit
	maxDoubted  = 1 << 16          // objects the remirror after a verification is told of
	maxWaitVerb = 30 * time.Second // of one request for a report
	answerWait  = 5 * time.Second  // of one request for an answer
)

// verification is the present or last verification of a connection.
type verification struct {
	mu      sync.Mutex // guards what follows
	report  control.VerifyReport
	v       *verifier.Verifier
	stop    context.CancelCauseFunc
	done    chan struct{} // closed when it has ended; nil: there was none
	doubted mirror.Objects
	plan    *verifyPlan // nil: none begins by itself
	next    time.Time   // when the next one does; zero: not worked out yet
	tries   int         // that did not begin, of the present one
	planned bool        // the present or last one was begun by the plan
}

// probeSubject is where the source fetches the answers of its questions.
func probeSubject(source, conn string) string {
	return "rq.probe." + stream.Token(source) + "." + stream.Token(conn)
}

// serveProbes hands out what questions in the queue found.
func (r *replica) serveProbes() (stop func(), err error) {
	return r.n.srv.Handle(probeSubject(r.info.Source, r.info.Connection), func(ctx context.Context, data []byte) ([]byte, error) {
		if len(data) != 8 {
			return nil, fmt.Errorf("token of %d bytes", len(data))
		}
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		reply := r.app.Answer(ctx, binary.LittleEndian.Uint64(data))
		return reply.Append(nil), nil
	})
}

// verifyTarget asks the target, within the limits of what is sent to it: queries and
// replies count (B10.44). What a cut link lost is asked again, and what a target refuses
// that is being restarted, for a while.
type verifyTarget struct{ s *session }

const maxRefusals = 30 // one every NetworkRetry

func (t verifyTarget) ask(ctx context.Context, subject string, query []byte) (data []byte, err error) {
	for refused := 0; ; {
		if err := t.s.c.limits.valve.Wait(ctx, len(query)); err != nil {
			return nil, err
		}
		t.s.waitLink(ctx)
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		data, err = t.s.link.Request(limited, subject, query)
		cancel()
		t.s.c.limits.valve.Charge(len(data))
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if remote := new(stream.RemoteError); errors.As(err, &remote) {
			refused++
		}
		if err == nil || refused > maxRefusals || refused == 0 && !errors.Is(err, stream.ErrDown) && !errors.Is(err, stream.ErrNoAnswer) {
			return data, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(t.s.c.n.conf().NetworkRetry):
		}
	}
}

func (t verifyTarget) List(ctx context.Context, q fileop.ListQuery) (r fileop.ListReply, err error) {
	data, err := t.ask(ctx, listSubject(t.s.c.n.cfg.Name, t.s.c.key), q.Append(nil))
	if err == nil {
		err = r.Parse(data)
	}
	return r, err
}

func (t verifyTarget) Digests(ctx context.Context, q fileop.DigestQuery) (r fileop.DigestReply, err error) {
	data, err := t.ask(ctx, digestSubject(t.s.c.n.cfg.Name, t.s.c.key), q.Append(nil))
	if err == nil {
		err = r.Parse(data)
	}
	return r, err
}

func (t verifyTarget) Answer(ctx context.Context, token uint64) (r fileop.ProbeReply, err error) {
	data, err := t.ask(ctx, probeSubject(t.s.c.n.cfg.Name, t.s.c.key), binary.LittleEndian.AppendUint64(nil, token))
	if err == nil {
		err = r.Parse(data)
	}
	return r, err
}

// verifyTree gives the verifier its interfaces.
type verifyTree struct{ mirror.Tree }

func (t verifyTree) File(e fileop.Entry) (verifier.File, error) { return t.Tree.File(e) }

func (t verifyTree) Dir(e fileop.Entry) (verifier.Dir, error) {
	d, err := t.Tree.Dir(e)
	if o, ok := d.(mirror.Opener); ok && err == nil {
		return verifyDir{d, o}, nil
	}
	return d, err
}

// verifyDir is a directory that opens a small file with its entry at once.
type verifyDir struct {
	mirror.Dir
	o mirror.Opener
}

func (d verifyDir) OpenEntry(name string) (fileop.Entry, verifier.File, error) {
	e, f, err := d.o.OpenEntry(name)
	if f == nil {
		return e, nil, err
	}
	return e, f, err
}

// verifier makes the one of this session.
func (s *session) verifier() (*verifier.Verifier, error) {
	cfg := verifier.Config{Rules: s.c.currentRules(), LinkTarget: s.linkTarget, Log: s.journal, Target: verifyTarget{s}, Gone: vanished, BlockSize: mirror.DefaultBlockSize, Logger: s.c.log}
	s.mu.Lock()
	begun := s.roots
	s.mu.Unlock()
	for i, c := range s.captures {
		root := verifier.Root{Tree: verifyTree{c.tree}, Index: uint32(i), TreePath: c.dir, Dir: s.c.pairs[i].From, Exact: c.exact()}
		e, err := c.tree.Lookup(relative(c.dir, root.Dir))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", verifier.ErrRoot, root.Dir, err)
		}
		root.Obj = e.Obj
		if begun != nil && begun[i] != e.Obj {
			return nil, fmt.Errorf("%w: %s", verifier.ErrRoot, root.Dir)
		}
		if !c.exact() { // else the path is a mount of this process, or has other identities
			root.Present = func() error { return leadsTo(root.Dir, e.Obj) }
		}
		if c.sync != nil {
			root.Settle = s.caughtUp
		}
		cfg.Roots = append(cfg.Roots, root)
	}
	return verifier.New(cfg), nil
}

// verify is the verb.
func (n *Node) verify(ctx context.Context, req control.VerifyRequest) (any, error) {
	if req.Action == "schedule" {
		return n.planVerify(ctx, &req)
	}
	o, after := verifyOptions(&req)
	return n.verification(ctx, req.ID, req.Action, req.WaitMS, o, after)
}

// verifyOptions are those of a run, and of the mirror that may follow.
func verifyOptions(req *control.VerifyRequest) (o verifier.Options, after *mirror.Options) {
	o = verifier.Options{Checksum: req.Checksum, Treat: req.Orphans, MinAge: time.Duration(req.MinAgeMS) * time.Millisecond}
	if req.Sync {
		after = &mirror.Options{Mode: mirror.Diff, Newer: req.Newer, Checksum: req.Checksum}
	}
	return o, after
}

// orphans is the verb.
func (n *Node) orphans(ctx context.Context, req control.OrphansRequest) (any, error) {
	o := verifier.Options{OrphansOnly: true, Treat: !req.Report, MinAge: time.Duration(req.MinAgeMS) * time.Millisecond}
	return n.verification(ctx, req.ID, req.Action, req.WaitMS, o, nil)
}

func (n *Node) verification(ctx context.Context, id int, action string, waitMS int64, o verifier.Options, after *mirror.Options) (any, error) {
	if err := n.noTrial(id, "verification"); err != nil {
		return nil, err
	}
	c, err := n.connection(id)
	if err != nil {
		return nil, err
	}
	switch action {
	case "start":
		if err := c.startVerify(o, after); err != nil {
			return nil, err
		}
	case "stop":
		c.stopVerify()
	case "status":
	default:
		return nil, control.Errorf(control.BadRequest, "start, stop, status or schedule", "action %q", action)
	}
	return c.verifyReport(ctx, time.Duration(waitMS)*time.Millisecond), nil
}

// startVerify begins a verification, unless one runs or a mirror does (B9.5).
func (c *Connection) startVerify(o verifier.Options, after *mirror.Options) error {
	return c.beginVerify(o, after, false)
}

func (c *Connection) beginVerify(o verifier.Options, after *mirror.Options, planned bool) error {
	s, err := c.n.live(c.ID)
	if err != nil {
		return err
	}
	if s.orders.busy() || s.mirror.Progress().State == mirror.Mirroring {
		return control.Errorf(control.Refused, fmt.Sprintf("wait for it: waitonmirror %d", c.ID), "a mirror of connection %d is running", c.ID)
	}
	v, err := s.verifier()
	if err != nil {
		c.verifyRefused(err)
		return control.Errorf(control.Refused, "mount it, or disconnect", "%v", err)
	}
	w := &c.verifying
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.report.State == "running" {
		return control.Errorf(control.Refused, "stop it first, or wait for it", "a verification of connection %d is running", c.ID)
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	w.v, w.stop, w.done, w.doubted, w.planned = v, cancel, make(chan struct{}), mirror.Objects{}, planned
	w.report = control.VerifyReport{ID: c.ID, State: "running", Checksum: o.Checksum, OrphansOnly: o.OrphansOnly, Started: time.Now(), Differences: []control.VerifyDifference{}}
	c.n.wait.Add(1)
	go func() {
		defer c.n.wait.Done()
		defer close(w.done)
		defer cancel(nil)
		c.runVerify(ctx, s, v, o, after)
	}()
	return nil
}

// runVerify compares, writes the log, and orders the mirror that may follow.
func (c *Connection) runVerify(ctx context.Context, s *session, v *verifier.Verifier, o verifier.Options, after *mirror.Options) {
	w := &c.verifying
	if !s.exact() { // what hints told of is on its way
		if err := s.caughtUp(ctx); err != nil {
			c.log.Warn("verification begins unsettled", "err", err)
		}
	}
	log := c.openVerifyLog(o)
	totals, err := v.Run(ctx, o, func(d verifier.Difference) {
		log.difference(&d)
		w.note(&d)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	rep := &w.report
	rep.Ended, rep.Totals, rep.Current = time.Now(), control.VerifyTotals(totals), ""
	switch {
	case err == nil:
		rep.State, rep.Equal = "done", totals.Different == 0 && totals.Errors == 0 && totals.Unsettled == 0
	case errors.Is(err, verifier.ErrStopped), errors.Is(err, errVerifyStopped):
		rep.State = "stopped"
	default:
		rep.State, rep.Error = "failed", err.Error()
		if errors.Is(err, verifier.ErrRoot) {
			c.verifyRefused(err)
		}
	}
	rep.Log = log.end(rep)
	if after != nil && err == nil && totals.Different > totals.Orphans {
		if !after.Newer && len(w.doubted) < maxDoubted {
			doubted := w.doubted
			after.Doubted = &doubted
		} else if !after.Newer {
			after.ChecksumAll = after.Checksum
		}
		rep.Remirror = true
		s.order(*after)
		w.doubted = nil // the mirror's own now, nobody adds to it
	}
	c.verifyTold()
	c.log.Info("verification ended", "state", rep.State, "files", totals.Files, "differences", totals.Different, "took", rep.Ended.Sub(rep.Started), "err", err)
	c.signal()
}

// errVerifyStopped: the operator stopped it.
var errVerifyStopped = errors.New("stopped")

func (w *verification) note(d *verifier.Difference) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.doubted) < maxDoubted && !d.Obj.IsZero() {
		w.doubted[d.Obj] = struct{}{}
	}
	if len(w.report.Differences) >= maxShown {
		return
	}
	out := control.VerifyDifference{Path: d.Path, Bytes: d.Bytes, Blocks: d.Blocks, Treated: d.Treated, Op: uint64(d.Seq)}
	for _, k := range d.Kinds {
		out.Kinds = append(out.Kinds, string(k))
	}
	w.report.Differences = append(w.report.Differences, out)
}

func (c *Connection) stopVerify() {
	w := &c.verifying
	w.mu.Lock()
	stop, done := w.stop, w.done
	w.mu.Unlock()
	if done != nil {
		stop(errVerifyStopped)
		<-done
	}
}

// verifyReport is how the verification is, once it has ended or wait is over.
func (c *Connection) verifyReport(ctx context.Context, wait time.Duration) control.VerifyReport {
	w := &c.verifying
	w.mu.Lock()
	done := w.done
	if done == nil {
		defer w.mu.Unlock()
		return w.withPlan(control.VerifyReport{ID: c.ID, State: "none", Differences: []control.VerifyDifference{}})
	}
	w.mu.Unlock()
	if wait > 0 {
		t := time.NewTimer(min(wait, maxWaitVerb))
		defer t.Stop()
		select {
		case <-done:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.report
	out.Differences = append([]control.VerifyDifference{}, out.Differences...)
	if out.State == "running" {
		t, at := w.v.Progress()
		out.Totals, out.Current = control.VerifyTotals(t), at
	}
	return w.withPlan(out)
}

// maxCatchUp bounds a wait for changes that hints told of: where more happens than can be
// sent, they are always behind.
const maxCatchUp = 15 * time.Second

var errFarBehind = errors.New("changes come faster than they are sent")

// caughtUp waits until what happened before the call is applied, where captures tell of it.
// Unlike settle it has nothing else compared: what differs is for the verification to find;
// and it ends also while changes go on.
func (s *session) caughtUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, maxCatchUp, errFarBehind)
	defer cancel()
	for _, cap := range s.captures {
		if cap.sync != nil {
			if err := cap.sync(); err != nil {
				return fmt.Errorf("read events of %s: %w", cap.dir, err)
			}
		}
	}
	select {
	case <-s.mirror.Looked():
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	seq, k := s.journal.Last()
	return s.c.await(ctx, func() bool {
		a := s.lastAck()
		return s.c.current() != s || a.Applied >= seq && a.MirrorApplied >= k
	})
}

// exact reports that all captures keep write order.
func (s *session) exact() bool {
	for _, c := range s.captures {
		if !c.exact() {
			return false
		}
	}
	return true
}

// vanished reports that a file is gone, which is everyday life beside an application.
func vanished(err error) bool {
	return errors.Is(err, mirror.ErrGone) || errors.Is(err, fs.ErrNotExist)
}

// leadsTo reports why an absolute path is not a certain object.
func leadsTo(path string, obj fileop.ObjID) error {
	at := fsx.At{}
	id, _, err := at.Identify(unix.AT_FDCWD, path)
	switch {
	case err != nil:
		return err
	case id != obj:
		return errors.New("another directory has its place")
	}
	return nil
}
