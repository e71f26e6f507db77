package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/capture/lower"
	"understudy/control"
	"understudy/fileop"
	"understudy/internal/failpoint"
	"understudy/mirror"
	"understudy/repset"
	"understudy/stream"
)

// A restoration is a connection in the other direction: this machine, which holds the
// replica, is the source of one mirror without capture. It goes on over restarts and cuts
// as every connection does, and ends when the mirror is applied.

// restoreConfig is what makes a connection a restoration.
type restoreConfig struct {
	Number    int    `json:"number"`
	Set       string `json:"set"`
	Overwrite bool   `json:"overwrite,omitempty"`
	Missing   bool   `json:"missing,omitempty"`
	Checksum  bool   `json:"checksum,omitempty"`
	Orphans   bool   `json:"orphans,omitempty"`
	Repset    bool   `json:"repset,omitempty"`
	Original  string `json:"original,omitempty"` // machine whose copy of the set Repset means
	Home      string `json:"home,omitempty"`     // the machine it came from, if all of it goes back there
}

// Numbers of restorations, apart from those of connections, and how many ended ones are
// remembered.
const (
	firstRestore = 100_001

	restorePrefix = "restore " // before the set's name: what the connection's set is called
	maxRestores   = 100
	maxPlaces     = 10_000 // replicas whose place is remembered
)

// restores are the ended restorations.
type restores struct {
	mu    sync.Mutex // guards what follows
	ended map[int]*endedRestore
}

// endedRestore is one that ended, or is being disconnected.
type endedRestore struct {
	report control.Restore
	over   chan struct{} // closed when it is disconnected
}

// options of every mirror of a restoration. However often it is repeated, nothing newer is
// overwritten unless that was asked for. since is when the other machine agreed to it, by
// its clock, in nanoseconds: what changed there later was written by this restoration, and
// may be half of a file.
func (r *restoreConfig) options(since int64) mirror.Options {
	at := time.Unix(0, since)
	return mirror.Options{Mode: mirror.Diff, Checksum: r.Checksum, KeepNewer: !r.Overwrite && !r.Missing, KeepExisting: r.Missing,
		KeepBefore: fileop.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}}
}

// fileTimeFrom waits for the next tick of the clock that the times of files come from, some
// milliseconds, and returns it, in nanoseconds: what was changed before the call is older,
// and what is changed after it is not.
func fileTimeFrom() int64 {
	tick := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil { // Linux has it since 2.6.32
			return time.Now().UnixNano()
		}
		return ts.Nano()
	}
	before := tick()
	for {
		time.Sleep(time.Millisecond)
		if now := tick(); now != before { // also where somebody sets the clock back
			return now
		}
	}
}

// still is a directory that is read and not watched.
type still struct{ dir string }

func (s still) Root() string                { return s.dir }
func (still) Fidelity() capture.Fidelity    { return capture.Hints }
func (still) Stats() capture.Stats          { return capture.Stats{} }
func (still) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// openStill makes a directory readable for a restoration. It is the connection's own.
func (n *Node) openStill(dir string) (*captured, error) {
	if c := n.captures[dir]; c != nil && c.stacked != nil {
		return nil, control.Errorf(control.Refused, "umount "+dir, "%s is captured in write order", dir)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read replica %s: %w", dir, err)
	}
	c := &captured{dir: dir, name: "none", backend: still{dir}, tree: treeAdapter{lower.New(fd, nil)}, done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(n.ctx)
	n.wait.Add(1)
	go func() {
		defer n.wait.Done()
		defer close(c.done)
		c.err = c.backend.Run(c.ctx)
		unix.Close(fd)
	}()
	return c, nil
}

// chooseTree is how a connection reads one of its roots. n.mu is held.
func (n *Node) chooseTree(root string, c *Connection) (*captured, error) {
	if c.cfg.Restore != nil {
		return n.openStill(root)
	}
	return n.chooseCapture(root, c.cfg.Capture)
}

// keepPlace remembers where a replica is, also when its connection is gone.
func keepPlace(d *stateData, info joinInfo) {
	if info.Restore {
		return
	}
	if d.Places == nil {
		d.Places = map[string]joinInfo{}
	}
	key := placeKey(info.Source, info.Set)
	if _, known := d.Places[key]; known || len(d.Places) < maxPlaces {
		d.Places[key] = info
	}
}

func placeKey(source, set string) string { return source + "/" + strings.ToLower(set) }

// place finds the replica of a set.
func (n *Node) place(original, set string) (found joinInfo, err error) {
	var sources []string
	n.state.read(func(d *stateData) {
		for _, p := range d.Places {
			if strings.EqualFold(p.Set, set) && (original == "" || strings.EqualFold(p.Source, original)) {
				found, sources = p, append(sources, p.Source)
			}
		}
	})
	switch len(sources) {
	case 0:
		return found, control.Errorf(control.NotFound, "see: status target", "this machine holds no replica of set %q of %q", set, original)
	case 1:
		return found, nil
	}
	return found, control.Errorf(control.BadRequest, "name one with ORIGINAL", "set %q came from %s", set, strings.Join(sources, " and "))
}

// restore is the verb.
func (n *Node) restore(ctx context.Context, req control.RestoreRequest) (any, error) {
	switch req.Action {
	case "start":
		return n.startRestore(ctx, &req)
	case "status":
		return n.restoreStatus(ctx, req.ID, time.Duration(req.WaitMS)*time.Millisecond)
	case "stop":
		c := n.restoring(req.ID)
		if c == nil {
			return n.restoreStatus(ctx, req.ID, 0)
		}
		return n.endRestore(ctx, c, "stopped", nil)
	}
	return nil, control.Errorf(control.BadRequest, "start, status or stop", "action %q", req.Action)
}

func (n *Node) startRestore(ctx context.Context, req *control.RestoreRequest) (any, error) {
	if req.Overwrite && req.Missing {
		return nil, control.Errorf(control.BadRequest, "keep one of them", "overwriting and sending only what is missing exclude each other")
	}
	place, err := n.place(req.Original, req.Set)
	if err != nil {
		return nil, err
	}
	if err := n.replicaRests(&place); err != nil {
		return nil, err
	}
	if req.To == "" {
		req.To = place.Source
	}
	rules, err := n.restoredRules(req, &place)
	if err != nil {
		return nil, err
	}
	c := control.ConnectRequest{Set: restorePrefix + place.Set, Rules: rules, Target: req.To, Address: req.Address, Map: map[string]string{}}
	for _, r := range place.Roots {
		to := r.From
		if m, ok := req.Map[r.From]; ok {
			to = m
		}
		c.Map[r.Path] = to
	}
	if err := n.fromStored(ctx, &c); err != nil {
		return nil, err
	}
	r := &restoreConfig{Set: place.Set, Overwrite: req.Overwrite, Missing: req.Missing, Checksum: req.Checksum, Orphans: req.Orphans,
		Repset: req.Repset, Original: place.Source}
	if req.Repset {
		if _, err := n.backup(place.Source, place.Set); err != nil {
			return nil, err
		}
	}
	if strings.EqualFold(req.To, place.Source) && len(req.Map) == 0 && !req.Missing {
		r.Home = place.Source
	}
	return n.beginRestore(ctx, ConnectionConfig{Set: c.Set, Rules: c.Rules, Target: c.Target, Address: c.Address, Map: c.Map, Adopt: true, Restore: r})
}

// beginRestore makes the connection and waits until the other machine agreed.
func (n *Node) beginRestore(ctx context.Context, cfg ConnectionConfig) (any, error) {
	if err := cfg.validate(); err != nil {
		return nil, control.Errorf(control.BadRequest, "", "restore: %v", err)
	}
	for i := range cfg.Map {
		if err := realDir(i); err != nil {
			return nil, control.Errorf(control.Refused, "mount it", "replica: %v", err)
		}
	}
	last := 0
	n.state.read(func(d *stateData) { last = d.LastRestore })
	n.mu.Lock()
	cfg.Restore.Number = max(firstRestore, last+1, n.lastRestore+1)
	for _, other := range n.conns {
		if r := other.cfg.Restore; r != nil { // from before a restart
			cfg.Restore.Number = max(cfg.Restore.Number, r.Number+1)
		}
	}
	n.lastRestore = cfg.Restore.Number
	for _, other := range n.conns {
		if other.cfg.Set == cfg.Set && other.cfg.Target == cfg.Target {
			n.mu.Unlock()
			return nil, control.Errorf(control.Exists, "wait for it, or stop it", "set %s is being restored to %s already", cfg.Restore.Set, cfg.Target)
		}
	}
	n.mu.Unlock()
	c, err := n.newConnection(storedConnection{Key: newSession(), ConnectionConfig: cfg})
	if err != nil {
		return nil, explain(err)
	}
	n.mu.Lock()
	n.startConnection(c)
	n.mu.Unlock()
	if err := c.firstSession(ctx); err != nil {
		c.end(errDisconnected)
		n.events.Forget(c.about())
		return nil, explain(err)
	}
	failpoint.Hit(failpoint.RestoreAgreed)
	if err := n.state.update(func(d *stateData) {
		d.Connections = append(d.Connections, storedConnection{Key: c.key, ConnectionConfig: cfg})
		d.LastRestore = max(d.LastRestore, cfg.Restore.Number)
	}); err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.RestoreNoted)
	return c.restoreReport("restoring", nil), nil
}

// replicaRests refuses a replica that still has something to apply.
func (n *Node) replicaRests(place *joinInfo) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.replicas {
		if r.info.Source != place.Source || !strings.EqualFold(r.info.Set, place.Set) {
			continue
		}
		if st := r.status(); st.QueuedOps > 0 {
			return control.Errorf(control.Refused, "wait until they are applied", "%d operations of %s wait for the replica", st.QueuedOps, place.Source)
		}
	}
	return nil
}

// restoredRules are the rules of the set, for the places where the replica lies here.
func (n *Node) restoredRules(req *control.RestoreRequest, place *joinInfo) ([]string, error) {
	var rules []repset.Rule
	for _, s := range req.Rules {
		r, err := repset.ParseRule(s)
		if err != nil {
			return nil, control.Errorf(control.BadRequest, "", "%v", err)
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		b, err := n.backup(place.Source, place.Set)
		if err != nil {
			return nil, err
		}
		rules = b.Set.Rules
	}
	return mappedRules(rules, place.Roots), nil
}

// mappedRules moves rules to where the roots are. Rules outside of all roots say nothing
// about them.
func mappedRules(rules []repset.Rule, roots []joinRoot) (out []string) {
	for _, r := range rules {
		best := -1
		for i := range roots {
			if repset.Within(roots[i].From, r.Path) && (best < 0 || len(roots[i].From) > len(roots[best].From)) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		r.Path = roots[best].Path + strings.TrimPrefix(r.Path, roots[best].From)
		out = append(out, r.String())
	}
	return out
}

func (n *Node) restoring(number int) *Connection {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.cfg.Restore != nil && c.cfg.Restore.Number == number {
			return c
		}
	}
	return nil
}

// restoreStatus waits for the end of a restoration, for a while.
func (n *Node) restoreStatus(ctx context.Context, number int, wait time.Duration) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, min(wait, maxWaitVerb))
	defer cancel()
	c := n.restoring(number)
	if c != nil {
		select {
		case <-c.done:
		case <-ctx.Done():
			return c.restoreReport("restoring", nil), nil
		}
	}
	n.restores.mu.Lock()
	e := n.restores.ended[number]
	n.restores.mu.Unlock()
	if e == nil {
		return n.storedRestore(number)
	}
	select {
	case <-e.over:
		return e.report, nil
	case <-ctx.Done():
		out := e.report
		out.State = "restoring"
		return out, nil
	}
}

// storedRestore tells of a restoration whose connection does not run: the daemon is
// starting.
func (n *Node) storedRestore(number int) (any, error) {
	var out *control.Restore
	n.state.read(func(d *stateData) {
		for i := range d.Connections {
			if c := &d.Connections[i]; c.Restore != nil && c.Restore.Number == number {
				out = &control.Restore{ID: number, State: "restoring", Set: c.Restore.Set, From: n.cfg.Name, To: c.Target, Percent: -1}
			}
		}
	})
	if out == nil {
		return nil, control.Errorf(control.NotFound, "", "no restoration %d", number)
	}
	return *out, nil
}

func (c *Connection) restoreReport(state string, err error) control.Restore {
	out := control.Restore{ID: c.cfg.Restore.Number, State: state, Set: c.cfg.Restore.Set, From: c.n.cfg.Name, To: c.cfg.Target, Percent: -1}
	if s := c.current(); s != nil {
		p := s.mirror.Progress()
		out.Percent, out.Files, out.Left, out.Bytes = p.Percent, p.Files, p.Skipped, p.Sent
	}
	if err != nil {
		out.Error = err.Error()
	}
	c.verifying.mu.Lock()
	out.Orphans = c.verifying.report.Totals.Treated
	c.verifying.mu.Unlock()
	return out
}

// restored goes on when the mirror of a restoration has ended: it waits until everything is
// applied, looks for orphans where that is asked for, and ends the connection.
func (c *Connection) restored(err error) {
	ctx := c.n.ctx
	if err == nil {
		err = c.settle(ctx)
	}
	if err == nil { // a machine that was killed meanwhile lost records, and is healed by another mirror
		err = c.await(ctx, func() bool {
			s := c.current()
			return s != nil && s.mirrorIdle() && s.lastAck().Usable
		})
	}
	failpoint.Hit(failpoint.RestoreMirrored)
	if err == nil && c.cfg.Restore.Orphans {
		err = c.treatOrphans(ctx)
	}
	if err == nil {
		err = c.durable(ctx)
	}
	failpoint.Hit(failpoint.RestoreDurable)
	if err == nil && c.cfg.Restore.Repset {
		err = c.restoreSet(ctx)
	}
	if ctx.Err() != nil {
		return // it goes on with the next start
	}
	state := "done"
	if err != nil {
		state = "failed"
	} else {
		c.n.cameHome(c.cfg.Restore)
	}
	if _, err := c.n.endRestore(ctx, c, state, err); err != nil {
		c.log.Warn("restoration not ended in good order", "err", err)
	}
}

// durable waits until what was logged before the call is applied and on the other machine's
// disk. Nobody sends it again once the connection is gone: a machine that is killed goes back
// to its last checkpoint.
func (c *Connection) durable(ctx context.Context) error {
	for {
		if err := c.settle(ctx); err != nil {
			return err
		}
		s := c.current()
		if s == nil {
			continue // settle waits for the next
		}
		seq, k := s.journal.Last()
		safe, moved := false, false
		err := c.await(ctx, func() bool {
			a := s.lastAck()
			moved = c.current() != s || !s.mirrorIdle() || !s.mirrorArrived(a)
			safe = a.DurableOp >= seq && a.DurableMirror >= k
			return moved || safe
		})
		if err != nil || safe && !moved {
			return err
		}
	}
}

// restoreSet has the other machine store this one's copy of the set. What a cut link lost
// is said again.
func (c *Connection) restoreSet(ctx context.Context) error {
	for {
		b, err := c.n.backup(c.cfg.Restore.Original, c.cfg.Restore.Set)
		if err != nil {
			return err
		}
		s := c.current()
		if s == nil {
			if err := c.settle(ctx); err != nil { // waits for the next
				return err
			}
			continue
		}
		s.waitLink(ctx)
		b.Source = c.n.cfg.Name
		_, err = s.link.Request(ctx, backupSubject(c.n.cfg.Name, c.key), encodeJSON(b))
		if remote := new(stream.RemoteError); err == nil || ctx.Err() != nil || errors.As(err, &remote) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(c.n.conf().NetworkRetry):
		}
	}
}

// endRestore notes the outcome and disconnects.
func (n *Node) endRestore(ctx context.Context, c *Connection, state string, cause error) (any, error) {
	e := &endedRestore{report: c.restoreReport(state, cause), over: make(chan struct{})}
	n.restores.mu.Lock()
	if n.restores.ended == nil {
		n.restores.ended = map[int]*endedRestore{}
	}
	if before := n.restores.ended[e.report.ID]; before != nil {
		n.restores.mu.Unlock()
		return before.report, nil // it is ending
	}
	n.restores.ended[e.report.ID] = e
	delete(n.restores.ended, e.report.ID-maxRestores)
	n.restores.mu.Unlock()
	defer close(e.over)
	c.log.Info("restoration ended", "set", e.report.Set, "state", state, "files", e.report.Files, "bytes", e.report.Bytes, "err", cause)
	failpoint.Hit(failpoint.RestoreEnding)
	err := n.Disconnect(context.WithoutCancel(ctx), c.ID)
	failpoint.Hit(failpoint.RestoreEnded)
	if ce := new(control.Error); errors.As(err, &ce) && ce.Code == control.NotFound {
		err = nil // somebody else ended it
	}
	return e.report, err
}
