package node

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/fileop"
	"understudy/internal/failpoint"
	"understudy/mirror"
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
