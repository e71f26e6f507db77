package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"understudy/control"
	"understudy/fileop"
	"understudy/mirror"
	"understudy/repset"
	"understudy/stream"
)

// Connection is a replication set of this machine joined to a target (B6.1). It lives
// from connect to disconnect, over restarts of the node; its work is done in sessions.
type Connection struct {
	n     *Node
	ID    int
	key   string // names its streams and its half on the target
	cfg   ConnectionConfig
	rules *repset.Rules
	pairs []repset.Pair // roots and where they go
	log   *slog.Logger
	valve *stream.Valve // pause by hand

	limits *limits // of its target

	cancel context.CancelCauseFunc
	done   chan struct{}
	told   told // what was reported to the operator

	verifying verification

	mirrors atomic.Uint64 // begun since the start of the node

	mu       sync.Mutex // guards what follows
	session  *session   // nil: between sessions
	mirrored bool       // a mirror ended well once
	fresh    bool       // new, to an empty replica: true until the first session begins
	// stoppedAt is storedConnection.StoppedAt until the first session has begun.
	stoppedAt fileop.Time
	moved     string // where the target is now, if not at cfg.Address
	size      repset.Size
	saved     chan struct{} // closed when the set is saved; nil: nobody waits
	lastErr   string
	resumed   *session        // goes on in place of a new one; nil: none
	failure   error           // why the last attempt to open a session failed; nil once one is open
	changed   chan struct{}   // closed and replaced when session or acknowledgement change
	parked    parking         // what it waits for instead of a session
	ordered   *mirror.Options // what the next session's mirror shall be
	neverOpen bool            // no session was opened yet
	wentWell  bool            // a mirror ended in the last session
	delay     time.Duration   // before the next session; 0: the usual
	mode      transmitMode    // what the operator wants of the sending

	noReplication bool // changes are not queued
	sent          sent // by the sessions that ended
	wishes        wishes
	scripts       []mirrorScript // at most one of each event
}

// Causes that end a connection or its session.
var (
	errDisconnected = errors.New("disconnected")
	errAutoDisc     = errors.New("queue lost, connecting anew")
)

// newConnection makes a connection that does not run yet.
func (n *Node) newConnection(st storedConnection) (*Connection, error) {
	rules, err := st.rules()
	if err != nil {
		return nil, err
	}
	if err := n.checkRoots(&st.ConnectionConfig, rules); err != nil {
		return nil, err
	}
	pairs, err := n.mapRoots(&st.ConnectionConfig, rules)
	if err != nil {
		return nil, err
	}
	return n.knownConnection(st, pairs)
}

// knownConnection is newConnection for one whose roots were looked at before. It touches
// no path of the set.
func (n *Node) knownConnection(st storedConnection, pairs []repset.Pair) (*Connection, error) {
	rules, err := st.rules()
	if err != nil {
		return nil, err
	}
	c := &Connection{n: n, limits: n.limitsOf(st.Target), mode: st.Transmission, noReplication: st.NoReplication, wishes: st.Wishes, scripts: st.Scripts, neverOpen: true, key: st.Key, cfg: st.ConnectionConfig, rules: rules, pairs: pairs, mirrored: st.Mirrored, stoppedAt: st.StoppedAt,
		valve: new(stream.Valve), done: make(chan struct{}), changed: make(chan struct{}), log: n.log.With("connection", st.Set+" to "+st.Target)}
	if c.mode != sending {
		c.valve.Pause()
	}
	c.verifying.plan = st.Verify
	return c, nil
}

// checkRoots refuses roots that are not there, and a set that holds this machine's queue.
func (n *Node) checkRoots(c *ConnectionConfig, rules *repset.Rules) error {
	for _, r := range n.roots(rules) {
		n.mu.Lock()
		mounted := n.mounted(r)
		n.mu.Unlock()
		if err := realRoot(r, mounted); err != nil {
			return control.Errorf(control.BadRequest, "create it, or correct the rule", "replication set %s: %v", c.Set, err)
		}
		if repset.Within(r, n.cfg.Data) && (rules.Leads(n.cfg.Data) || rules.Selects(n.cfg.Data, true)) {
			return control.Errorf(control.Refused, "move it elsewhere (--data), or exclude it by a rule",
				"replication set %s: this machine's data directory %s lies inside %s; its queue would protect itself", c.Set, n.cfg.Data, r)
		}
	}
	return nil
}

// mapRoots says where each root of the set goes, and refuses loops and overlaps that
// can be known here.
func (n *Node) mapRoots(c *ConnectionConfig, rules *repset.Rules) ([]repset.Pair, error) {
	roots := n.roots(rules)
	var m repset.Mapping = repset.Exact{}
	switch {
	case c.Base != "":
		m = repset.Base{Dir: c.Base, Source: n.cfg.Name, Set: c.Set}
	case len(c.Map) > 0:
		var custom repset.Custom
		for from, to := range c.Map {
			custom = append(custom, repset.Pair{From: from, To: to})
		}
		m = custom
	}
	pairs, err := repset.MapAll(m, roots)
	if err == nil {
		err = repset.CheckPairs(pairs)
	}
	if err != nil {
		return nil, control.Errorf(control.BadRequest, "", "replication set %s: %v", c.Set, err)
	}
	return pairs, nil
}

// startConnection runs c. n.mu is held.
func (n *Node) startConnection(c *Connection) {
	n.nextID++
	c.ID = n.nextID
	n.conns[c.ID] = c
	ctx, cancel := context.WithCancelCause(n.ctx)
	c.cancel = cancel
	n.wait.Add(1)
	go func() {
		defer n.wait.Done()
		defer close(c.done)
		c.run(ctx)
	}()
}

// run holds one session after another until ctx ends.
func (c *Connection) run(ctx context.Context) {
	if p := c.waitsFor(); p != parkNot {
		c.park(ctx, p)
	}
	for ctx.Err() == nil {
		if p := c.waitsByHand(); p != parkNot {
			c.park(ctx, p)
			continue
		}
		err := c.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errReplication) || errors.Is(err, errUnloaded) {
			continue
		}
		if errors.Is(err, errPending) {
			c.park(ctx, parkMirror)
			continue
		}
		c.note(err)
		c.rest(ctx, err)
	}
}

// hold opens a session and runs it to its end.
func (c *Connection) hold(ctx context.Context) error {
	s, first, err := c.begin(ctx)
	if err != nil {
		c.mu.Lock()
		c.failure = err
		c.mu.Unlock()
		c.openFailed(err)
		return err
	}
	c.set(s)
	if c.replicationOff() || c.wished().Pending || c.n.modules.noSource.Load() {
		c.set(nil)
		s.close()
		if c.replicationOff() || c.n.modules.noSource.Load() { // since it was asked
			return errReplication
		}
		return errPending
	}
	c.sessionBegun()
	c.setStoppedAt(fileop.Time{}) // from here on only a good end says so
	err = s.run(first)
	if cause := context.Cause(s.ctx); errors.Is(cause, errReplication) || errors.Is(cause, errUnloaded) {
		err = cause
	}
	c.set(nil)
	if err := c.n.lessenMark(c.key); err != nil { // nobody watches from here on
		c.log.Error("clean mark not changed", "err", err)
	}
	s.close()
	c.sessionEnded(ctx, err)
	return err
}

// begin returns the session that was resumed, or a new one with its first mirror.
func (c *Connection) begin(ctx context.Context) (s *session, first *mirror.Options, err error) {
	if s = c.takeResumed(ctx); s != nil {
		return s, nil, nil
	}
	if err = c.n.srv.CheckSpace(); err == nil { // no session is begun that could not go on
		s, err = c.open(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	o := s.firstMirror()
	return s, &o, nil
}

func (c *Connection) set(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = s
	if s != nil {
		c.lastErr, c.failure, c.neverOpen = "", nil, false
	}
	c.signalLocked()
}

func (c *Connection) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

func (c *Connection) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.lastErr = err.Error()
	}
	c.signalLocked()
}

// signal wakes whoever waits for a change of the connection.
func (c *Connection) signal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signalLocked()
}

func (c *Connection) signalLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until ok says so, looking again at every change.
func (c *Connection) await(ctx context.Context, ok func() bool) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.done:
			return errDisconnected
		case <-changed:
		}
	}
}

// takeFresh reports, once, that the replica of a new connection is empty.
func (c *Connection) takeFresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	fresh := c.fresh
	c.fresh = false
	return fresh
}

// wasMirrored reports whether a mirror ended well once.
func (c *Connection) wasMirrored() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mirrored
}

// mirroredOnce remembers that a mirror ended well, so that later ones compare.
func (c *Connection) mirroredOnce() {
	c.mu.Lock()
	first := !c.mirrored
	c.mirrored = true
	c.mu.Unlock()
	if first {
		c.store(func(st *storedConnection) { st.Mirrored = true })
	}
}

// setStoppedAt remembers how far the target is known to be whole.
func (c *Connection) setStoppedAt(at fileop.Time) {
	c.mu.Lock()
	c.stoppedAt = at
	c.mu.Unlock()
	c.store(func(st *storedConnection) { st.StoppedAt = at })
}

// store changes what is remembered of the connection over a restart.
func (c *Connection) store(change func(*storedConnection)) {
	err := c.n.state.update(func(d *stateData) {
		for i := range d.Connections {
			if d.Connections[i].Key == c.key {
				change(&d.Connections[i])
			}
		}
	})
	if err != nil {
		c.log.Error("state not written", "err", err)
	}
}

// settle waits until everything captured before the call is applied on the target. While
// the target is away, or came back and was not asked what it lost, nothing it said before
// counts.
func (c *Connection) settle(ctx context.Context) error {
	return c.reported(ctx, (*session).joinedNow)
}

// reported is settle, going by the reports that present lets count.
func (c *Connection) reported(ctx context.Context, present func(*session) bool) error {
	if p := c.waitsFor(); p != parkNot {
		return control.Errorf(control.Refused, p.way(c.ID), "connection %d waits: %s", c.ID, p)
	}
	s := c.current()
	if s == nil {
		if err := c.await(ctx, func() bool { s = c.current(); return s != nil }); err != nil {
			return c.whyNot(err)
		}
	}
	s.lookAgain()
	if err := c.await(ctx, func() bool { return c.current() != s || s.mirrorIdle() }); err != nil {
		return c.whyNot(err)
	}
	seq, k := s.journal.Last()
	err := c.await(ctx, func() bool {
		a := s.lastAck()
		return c.current() != s || present(s) && a.Applied >= seq && a.MirrorApplied >= k && s.mirrorIdle() && s.mirrorArrived(a) && !s.waits(a)
	})
	if err == nil && c.current() != s {
		return c.reported(ctx, present) // a new session heals what this one lost
	}
	return c.whyNot(err)
}

// whyNot explains why waiting ended.
func (c *Connection) whyNot(err error) error {
	if err == nil {
		return nil
	}
	st := c.status()
	msg := fmt.Sprintf("connection %d is not settled: transmit %s, mirror %s, target %s, %d operations queued", c.ID, st.Transmit, st.Mirror, st.TargetState, st.QueuedOps)
	if st.LastError != "" {
		msg += ": " + st.LastError
	}
	return control.Errorf(control.NotReady, "look at: understudy status", "%s", msg)
}

// status is the connection as operators see it.
func (c *Connection) status() control.Connection {
	c.mu.Lock()
	s, lastErr := c.session, c.lastErr
	c.mu.Unlock()
	out := control.Connection{Set: c.cfg.Set, ID: c.ID, Target: c.cfg.Target, Transmit: "Error", Mirror: "Remirror required",
		MirrorPercent: -1, Replication: "Stopped", TargetState: "Unreachable", LastError: lastErr}
	if s != nil {
		s.fill(&out)
	} else {
		c.waitsFor().fill(&out)
	}
	if s == nil && c.wished().Once && c.replicationOff() && c.wasMirrored() {
		out.Mirror, out.MirrorPercent = "Idle", 100
	}
	if c.restoreRequired() {
		out.TargetState = "Restore required"
	}
	about := c.about()
	out.Alerts = c.n.alertsOf(&about)
	return out
}

// mirrorWords are the operator's words for the mirror's states.
var mirrorWords = map[mirror.State]string{
	mirror.Idle: "Idle", mirror.Mirroring: "Mirroring", mirror.Paused: "Paused", mirror.Joining: "Mirroring",
	mirror.Done: "Idle", mirror.Stopped: "Remirror required", mirror.Aborted: "Remirror required",
	mirror.Incomplete: "Incomplete", mirror.Failed: "Remirror required",
}
