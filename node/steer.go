package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"understudy/capture/stacked"
	"understudy/control"
	"understudy/event"
	"understudy/mirror"
	"understudy/stream"
)

// What operators do with a node. The methods are the verbs; handlers wrap them.

// Mount captures dir in write order from now on, over restarts too.
func (n *Node) Mount(_ context.Context, dir string) (control.MountReply, error) {
	var reply control.MountReply
	if err := stackedPossible(); err != nil {
		return reply, control.Errorf(control.Refused, "", "mount %s: %v", dir, err)
	}
	if _, err := stacked.ClearDead(dir, n.log); err != nil { // nobody could look at it
		return reply, explain(err)
	}
	if _, err := checkDir(dir); err != nil {
		return reply, control.Errorf(control.BadRequest, "name a directory that exists, by its absolute path", "mount: %v", err)
	}
	n.joining.Lock() // no replica begins meanwhile
	c, err := n.startStacked(dir)
	n.joining.Unlock()
	if err != nil {
		return reply, explain(err)
	}
	for _, f := range c.stacked.Foreign() {
		reply.Foreign = append(reply.Foreign, control.ForeignProcess{PID: f.PID, Command: f.Command, Path: f.Path, Write: f.Write})
	}
	err = n.state.update(func(d *stateData) {
		if !slices.Contains(d.Mounts, c.dir) {
			d.Mounts = append(d.Mounts, c.dir)
		}
	})
	return reply, err
}

// Umount ends the stacked capture of dir.
func (n *Node) Umount(_ context.Context, dir string) error {
	n.mu.Lock()
	c := n.captures[dir]
	users := 0
	if c != nil {
		users = c.users
	}
	n.mu.Unlock()
	if c == nil || c.stacked == nil {
		return control.Errorf(control.NotFound, "see: understudy status", "%s is not captured in write order", dir)
	}
	if users > 0 {
		return control.Errorf(control.Refused, "disconnect first", "%s is used by %d connections", dir, users)
	}
	if err := c.stop(); err != nil {
		return explain(err)
	}
	return n.state.update(func(d *stateData) {
		kept := d.Mounts[:0]
		for _, m := range d.Mounts {
			if m != dir {
				kept = append(kept, m)
			}
		}
		d.Mounts = kept
	})
}

// Connect protects a replication set on a target. It returns when the target has
// agreed; the mirror then runs by itself.
func (n *Node) Connect(ctx context.Context, req control.ConnectRequest) (int, error) {
	if err := n.sourceLoaded(); err != nil {
		return 0, err
	}
	if req.Trial {
		return n.connectTrial(&req)
	}
	if err := n.fromStored(ctx, &req); err != nil {
		return 0, err
	}
	cfg := ConnectionConfig{Set: req.Set, Rules: req.Rules, Target: req.Target, Address: req.Address, Map: req.Map, Base: req.Base,
		Capture: req.Capture, Adopt: req.Adopt, History: req.History}
	w, err := n.wishesOf(&req)
	if err != nil {
		return 0, err
	}
	if err := cfg.validate(); err != nil {
		return 0, control.Errorf(control.BadRequest, "", "connect: %v", err)
	}
	c, err := n.newConnection(storedConnection{Key: newSession(), ConnectionConfig: cfg, Wishes: w})
	if err != nil {
		return 0, explain(err)
	}
	c.fresh = !cfg.Adopt // the target refuses a directory that holds anything
	n.mu.Lock()
	for _, other := range n.conns {
		if other.cfg.Set == cfg.Set && other.cfg.Target == cfg.Target {
			n.mu.Unlock()
			if other.unpark(parkConnect, nil) { // it was disconnected by itself
				if other.waitsFor() == parkMirror {
					return other.ID, nil
				}
				return other.ID, explain(other.firstSession(ctx))
			}
			return 0, control.Errorf(control.Exists, "disconnect it first", "set %s is connected to %s already, as connection %d", cfg.Set, cfg.Target, other.ID)
		}
	}
	n.startConnection(c)
	n.mu.Unlock()
	if err := c.firstSession(ctx); err != nil {
		c.end(errDisconnected)
		n.giveBack(c.ID)
		n.events.Forget(c.about())
		return 0, explain(err)
	}
	err = n.state.update(func(d *stateData) {
		d.Connections = append(d.Connections, c.stored())
	})
	c.tell(event.Connected)
	return c.ID, err
}

// giveBack frees the number of a connection that did not come about, if it is the last.
func (n *Node) giveBack(id int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nextID == id {
		n.nextID--
	}
}

// firstSession waits until the first attempt of a new connection succeeded or failed.
func (c *Connection) firstSession(ctx context.Context) error {
	var failed error
	err := c.await(ctx, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		failed = c.failure
		return c.session != nil || failed != nil || c.parked == parkMirror
	})
	if failed != nil {
		return failed
	}
	return err
}

// end stops the connection's work and waits for it.
func (c *Connection) end(cause error) {
	c.cancel(cause)
	<-c.done
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	delete(c.n.conns, c.ID)
}

// Disconnect ends a connection and deletes its queue (B6.43). The replica stays.
func (n *Node) Disconnect(ctx context.Context, id int) error {
	if t := n.trialOf(id); t != nil {
		return n.disconnectTrial(t)
	}
	c, err := n.connection(id)
	if err != nil {
		return err
	}
	c.end(errDisconnected)
	c.gone()
	c.dropTasks(0)
	c.forget()
	if err := n.state.update(func(d *stateData) {
		kept := d.Connections[:0]
		for _, s := range d.Connections {
			if s.Key != c.key {
				kept = append(kept, s)
			}
		}
		d.Connections = kept
	}); err != nil {
		return err
	}
	return c.leave(ctx)
}

// leave tells the target. One that cannot be reached keeps its half; that is no error
// of the disconnect, but the operator should know.
func (c *Connection) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	l, err := stream.Dial(ctx, stream.LinkConfig{Addr: c.address(), Peer: c.cfg.Target, Keys: c.n.keys, Log: c.log})
	if err == nil {
		defer l.Close()
		var raw []byte
		if raw, err = json.Marshal(leaveRequest{Source: c.n.cfg.Name, Connection: c.key}); err == nil {
			_, err = l.Request(ctx, stream.LeaveSubject, raw)
		}
	}
	if err != nil {
		c.log.Warn("target not told of the disconnect", "err", err)
	}
	return nil
}

func (n *Node) connection(id int) (*Connection, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.conns[id]; c != nil {
		return c, nil
	}
	return nil, control.Errorf(control.NotFound, "see: understudy status", "no connection %d", id)
}

// live is a connection's present session.
func (n *Node) live(id int) (*session, error) {
	c, err := n.connection(id)
	if err != nil {
		return nil, err
	}
	s := c.current()
	if s == nil {
		return nil, control.Errorf(control.NotReady, "wait until the target is reached", "connection %d has no session: %s", id, c.status().LastError)
	}
	return s, nil
}

// Mirror starts, stops, pauses or resumes a connection's mirror (B7.23 to B7.28).
func (n *Node) Mirror(ctx context.Context, req control.MirrorRequest) error {
	if t := n.trialOf(req.ID); t != nil {
		return t.mirrorAction(&req)
	}
	for _, start := range []func(context.Context, *control.MirrorRequest) (bool, error){n.mirrorPending, n.mirrorAgain} {
		if done, err := start(ctx, &req); done || err != nil {
			return err
		}
	}
	s, err := n.live(req.ID)
	if err != nil {
		return err
	}
	if s.c.replicationOff() {
		return control.Errorf(control.Refused, "start replication: it begins with a mirror", "replication of connection %d is stopped", req.ID)
	}
	switch req.Action {
	case "pause":
		s.mirror.Pause()
	case "resume":
		s.mirror.Resume()
	case "stop":
		s.mirror.Stop()
	case "start":
		o, err := n.mirrorOptions(&req)
		if err != nil {
			return err
		}
		s.mirror.Stop() // one that runs ends; the driver then takes the order
		s.c.wish(func(w *wishes) { w.Orphans = req.Orphans })
		s.order(o)
	default:
		return control.Errorf(control.BadRequest, "start, stop, pause or resume", "mirror action %q", req.Action)
	}
	s.c.mirrorEvent(req.Action)
	return nil
}

// mirrorOptions are those an operator asks for.
func (n *Node) mirrorOptions(req *control.MirrorRequest) (mirror.Options, error) {
	switch req.Mode {
	case "", "full":
		return mirror.Options{Mode: mirror.Full}, nil
	case "diff":
		return mirror.Options{Mode: mirror.Diff, Newer: req.Newer, Checksum: req.Checksum || req.ChecksumAll,
			ChecksumAll: req.ChecksumAll || req.Checksum && n.conf().ChecksumAll, AttributesOnly: req.Attributes}, nil
	}
	return mirror.Options{}, control.Errorf(control.BadRequest, "full or diff", "mirror mode %q", req.Mode)
}

// mirrorPending starts the mirror a pending connection waits for (B7.48, B7.50).
func (n *Node) mirrorPending(_ context.Context, req *control.MirrorRequest) (done bool, err error) {
	c, err := n.connection(req.ID)
	if err != nil || req.Action != "start" || c.waitsFor() != parkMirror {
		return false, err
	}
	o, err := n.mirrorOptions(req)
	if err != nil {
		return false, err
	}
	c.wish(func(w *wishes) { w.Pending, w.Orphans = false, w.Orphans || req.Orphans }) // before the session begins
	return c.unpark(parkMirror, &o), nil
}

// Settle waits until everything captured before the call is applied on the target.
func (n *Node) Settle(ctx context.Context, id int) error {
	if t := n.trialOf(id); t != nil {
		return t.settle(ctx)
	}
	c, err := n.connection(id)
	if err != nil {
		return err
	}
	return c.settled(ctx)
}

// Calculate measures a set and remembers the size for the percentage (B5.53).
func (n *Node) Calculate(ctx context.Context, req control.CalculateRequest) (control.Size, error) {
	cfg := ConnectionConfig{Rules: req.Rules}
	var c *Connection
	if req.ID != 0 {
		var err error
		if c, err = n.connection(req.ID); err != nil {
			return control.Size{}, err
		}
		cfg = c.config()
	}
	rules, err := cfg.rules()
	if err != nil {
		return control.Size{}, control.Errorf(control.BadRequest, "", "%v", err)
	}
	sz, err := n.measure(ctx, rules)
	if err != nil {
		return control.Size{}, explain(err)
	}
	if c != nil {
		c.mu.Lock()
		c.size = sz
		c.mu.Unlock()
	}
	return control.Size{Files: sz.Files, Dirs: sz.Dirs, Bytes: sz.Bytes}, nil
}

// Status shows the node.
func (n *Node) Status() control.Status {
	st := control.Status{Name: n.cfg.Name, Version: Version(), Alerts: n.alertsOf(nil), Connections: []control.Connection{}, Replicas: []control.Replica{}, Captures: []control.Capture{}}
	n.mu.Lock()
	var conns []*Connection
	for _, c := range n.conns {
		conns = append(conns, c)
	}
	var reps []*replica
	for _, r := range n.replicas {
		reps = append(reps, r)
	}
	for _, c := range n.captures {
		s := c.backend.Stats()
		st.Captures = append(st.Captures, control.Capture{Dir: c.dir, Backend: c.name, Fidelity: c.backend.Fidelity().String(),
			Ops: s.Ops, WriteBytes: s.WriteBytes, Overflows: s.Overflows, Unwatched: s.Unwatched})
	}
	n.mu.Unlock()
	for _, c := range conns {
		st.Connections = append(st.Connections, c.status())
	}
	for _, t := range n.allTrials() {
		st.Connections = append(st.Connections, t.status())
	}
	for _, r := range reps {
		st.Replicas = append(st.Replicas, r.status())
	}
	sort.Slice(st.Connections, func(i, j int) bool { return st.Connections[i].ID < st.Connections[j].ID })
	sort.Slice(st.Replicas, func(i, j int) bool {
		return st.Replicas[i].Source+st.Replicas[i].Set < st.Replicas[j].Source+st.Replicas[j].Set
	})
	sort.Slice(st.Captures, func(i, j int) bool { return st.Captures[i].Dir < st.Captures[j].Dir })
	return st
}

func (r *replica) status() control.Replica {
	a, st, about := r.ack(), r.app.Stats(), r.about()
	out := control.Replica{Source: r.info.Source, Set: r.info.Set, State: a.State, Usable: a.Usable, AppliedOp: uint64(a.Applied),
		UnknownOps: st.Unknown, Alerts: r.n.alertsOf(&about), LastError: a.Err, Unsupported: st.NotPermitted}
	if got := uint64(r.recv.Stats().Op); got > out.AppliedOp {
		out.QueuedOps = got - out.AppliedOp
	}
	if a.Broken != "" {
		out.LastError = a.Broken
	}
	r.mu.Lock()
	out.QueuedBytes, out.QueueLimit, out.Task = r.queueUsed, r.queueLimit, r.task
	r.mu.Unlock()
	for _, root := range r.info.Roots {
		out.Paths = append(out.Paths, root.Path)
	}
	return out
}

// resumeConnections starts what is configured and what is remembered.
func (n *Node) resumeConnections() error {
	var stored []storedConnection
	err := n.state.update(func(d *stateData) { // sessions that were resumed change theirs meanwhile
		for _, cfg := range n.cfg.Connections {
			d.Connections = mergeConfigured(d.Connections, cfg)
		}
		stored = slices.Clone(d.Connections)
	})
	if err != nil {
		return err
	}
	for _, st := range stored {
		if n.connected(st.Key) {
			continue // its session was resumed
		}
		c, err := n.newConnection(st)
		if err != nil {
			return fmt.Errorf("connection %s to %s: %w", st.Set, st.Target, err)
		}
		switch {
		case !n.conf().AutoReconnect:
			c.parked = parkConnect
		case st.Wishes.Pending:
			c.parked = parkMirror
		case n.conf().AutoRemirror == RemirrorNone && st.Mirrored:
			c.parked = parkMirror
		}
		n.mu.Lock()
		n.startConnection(c)
		n.mu.Unlock()
	}
	return nil
}

// storedConnections are those remembered and those configured.
func (n *Node) storedConnections() (stored []storedConnection) {
	n.state.read(func(d *stateData) { stored = append(stored, d.Connections...) })
	for _, cfg := range n.cfg.Connections {
		stored = mergeConfigured(stored, cfg)
	}
	return stored
}

func (n *Node) storedConnection(key string) (storedConnection, bool) {
	for _, st := range n.storedConnections() {
		if st.Key == key {
			return st, true
		}
	}
	return storedConnection{}, false
}

// connected reports whether a connection with a key runs.
func (n *Node) connected(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.key == key {
			return true
		}
	}
	return false
}

// mergeConfigured adds a configured connection to the remembered ones; one that is
// known keeps its key, and so its replica.
func mergeConfigured(stored []storedConnection, cfg ConnectionConfig) []storedConnection {
	for i := range stored {
		if stored[i].Set == cfg.Set && stored[i].Target == cfg.Target {
			stored[i].ConnectionConfig = cfg
			return stored
		}
	}
	return append(stored, storedConnection{Key: newSession(), ConnectionConfig: cfg})
}
