package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"understudy/applier"
	"understudy/control"
	"understudy/event"
	"understudy/mirror"
	"understudy/stream"
)

// What the node tells its operator. Each function stands for one hook in the code; what
// holds for a while is an alert, which ends with its cure.

// eventDir is the event journal's place below the data directory.
const eventDir = "events"

// openEvents begins the event log. A journal that cannot be opened is no reason not to
// protect anything: then events go to the log only.
func openEvents(cfg *Config, log *slog.Logger) *event.Log {
	l, err := event.Open(event.Config{Dir: cfg.logDir(), FileBytes: cfg.LogFileBytes, Files: cfg.LogFiles, Log: log})
	if err != nil {
		log.Error("event journal not opened, events are not kept", "err", err)
		l, _ = event.Open(event.Config{Log: log}) // without a directory it cannot fail
	}
	return l
}

// began tells of the start, in the order of M19.
func (n *Node) began() {
	n.events.Raise(event.DaemonStarted, event.About{}, Version())
	if n.cfg.LoadTarget {
		n.events.Raise(event.TargetStarted, event.About{})
	}
	if n.cfg.LoadSource {
		n.events.Raise(event.SourceStarted, event.About{})
	}
}

// ceased tells of the end and closes the event log; err is why it did not start.
func (n *Node) ceased(err error) {
	if err != nil {
		n.events.Raise(event.DaemonFailed, event.About{}, err)
	}
	n.events.Raise(event.SourceStopped, event.About{})
	n.events.Raise(event.TargetStopped, event.About{})
	n.events.Raise(event.DaemonStopped, event.About{})
	if err := n.events.Close(); err != nil {
		n.log.Warn("event journal did not close", "err", err)
	}
}

// told is what a connection's reports said last, so that only changes are told.
type told struct {
	mu       sync.Mutex // guards what follows
	sessions int
	state    string
	alert    event.ID
	remirror bool
}

func (c *Connection) about() event.About {
	return event.About{Connection: c.key, Set: c.cfg.Set, Target: c.cfg.Target}
}

func (c *Connection) raise(id event.ID, args ...any) { c.n.events.Raise(id, c.about(), args...) }
func (c *Connection) alert(id event.ID, args ...any) { c.n.events.Set(id, c.about(), args...) }
func (c *Connection) cured(ids ...event.ID)          { c.n.events.Clear(c.about(), ids...) }

// tell raises an event whose arguments are target, set, number and more.
func (c *Connection) tell(id event.ID, more ...any) {
	c.raise(id, append([]any{c.cfg.Target, c.cfg.Set, c.ID}, more...)...)
}

// openFailed: the target is not reached, or refuses.
func (c *Connection) openFailed(err error) {
	if errors.Is(err, stream.ErrFull) {
		c.queueFailed(err)
		return
	}
	if refused := new(control.Error); errors.As(explain(err), &refused) && refused.Code == control.RestoreRequired {
		c.alert(event.RestoreRequired, c.cfg.Target, c.cfg.Set, err)
		return
	}
	if refused := new(control.Error); errors.As(explain(err), &refused) && refused.Code != control.Unreachable {
		c.alert(event.NotReconnected, c.cfg.Set, c.cfg.Target, err)
		return
	}
	c.alert(event.ConnectFailed, c.cfg.Target, err)
}

// sessionBegun: what kept the connection from working is over. unknown: nothing is known
// of the changes since the last session, and this is the daemon's first.
func (c *Connection) sessionBegun() {
	c.mu.Lock()
	unknown := c.mirrored && c.stoppedAt.IsZero()
	c.mu.Unlock()
	c.told.mu.Lock()
	first := c.told.sessions == 0
	c.told.sessions++
	if !first {
		c.n.counts.reconnects.Add(1)
	}
	c.told.state, c.told.alert, c.told.remirror = "", 0, false
	c.told.mu.Unlock()
	c.cured(event.ConnectFailed, event.NotReconnected, event.AutoDisconnect, event.SessionBroken, event.LinkLost, event.QueueSpaceLow)
	c.cured(targetAlerts...)
	c.cured(event.RestoreRequired)
	if first && unknown {
		c.raise(event.CleanMarkMissing, c.cfg.Set, c.cfg.Target)
	}
	c.tell(event.ReplicateStarted)
}

// sessionEnded: another one follows by itself, unless ctx ended.
func (c *Connection) sessionEnded(ctx context.Context, err error) {
	if errors.Is(err, errReplication) { // told when it was stopped
		return
	}
	c.tell(event.ReplicateStopped)
	if ctx.Err() != nil {
		return
	}
	c.queueFailed(err)
	if autoDisconnected(err) {
		c.n.counts.disconnects.Add(1)
		c.alert(event.AutoDisconnect, c.ID, err, c.cfg.Set, c.cfg.Target)
		c.raise(event.AutoDisconnected, c.ID)
	} else {
		c.alert(event.SessionBroken, c.cfg.Set, c.cfg.Target, err)
	}
	c.mu.Lock()
	park := c.parksFor(err)
	c.mu.Unlock()
	if park == parkNot {
		c.raise(event.Reconnecting, c.cfg.Set, c.cfg.Target)
	}
}

// queueFailed tells what is the matter with the source's queue, if anything is. No room is
// an alert until a session begins.
func (c *Connection) queueFailed(err error) {
	switch {
	case errors.Is(err, stream.ErrFull):
		c.alert(event.QueueSpaceLow, c.ID, err)
	case errors.Is(err, stream.ErrBroken):
		c.raise(event.QueueDamaged, err)
	}
}

// gone: the operator ended the connection.
func (c *Connection) gone() {
	c.n.events.Forget(c.about())
	c.tell(event.Disconnected)
}

// linkEvent: the line to the target went or came back within a session.
func (c *Connection) linkEvent(up bool) {
	if up {
		c.cured(event.LinkLost)
		return
	}
	if !c.shut() { // else it is as ordered
		c.alert(event.LinkLost, c.cfg.Target)
	}
}

// transmitEvent: an operator pauses or resumes sending.
func (c *Connection) transmitEvent(pause bool) {
	if pause {
		c.alert(event.TransmitStopped, c.cfg.Target, c.cfg.Set)
		return
	}
	c.cured(event.TransmitStopped)
}

// mirrorBegun and mirrorEnded tell of the mirror driver's runs.
func (s *session) mirrorBegun(o mirror.Options) {
	mode := "full"
	if o.Mode == mirror.Diff {
		mode = "differences"
	}
	s.c.tell(event.MirrorStarted, mode)
}

func (s *session) mirrorEnded(err error) {
	s.c.cured(event.MirrorPaused)
	switch {
	case err == nil:
		s.c.tell(event.MirrorCompleted)
	case errors.Is(err, mirror.ErrStopped):
		s.c.tell(event.MirrorStopped, "stopped by an operator")
	default:
		s.c.tell(event.MirrorStopped, err)
	}
}

// mirrorEvent: an operator pauses or resumes the mirror.
func (c *Connection) mirrorEvent(action string) {
	switch action {
	case "pause":
		c.alert(event.MirrorPaused, c.cfg.Target, c.cfg.Set, c.ID)
	case "resume":
		c.cured(event.MirrorPaused)
	}
}

// targetAlerts are what a target's report can say.
var targetAlerts = []event.ID{event.WriteFull, event.WriteBusy, event.WriteDenied, event.WriteFailing, event.TargetPaused, event.RemirrorRequired}

// reported tells what changed in the target's reports.
func (s *session) reported(a ack) {
	c := s.c
	remirror := s.waits(a) || s.gaveUp()
	c.told.mu.Lock()
	defer c.told.mu.Unlock()
	t := &c.told
	if t.state == a.State && t.alert == a.Alert && t.remirror == remirror {
		return
	}
	if t.state != a.State && t.state != "" {
		c.raise(event.TargetState, a.State, c.ID)
	}
	if t.alert != a.Alert {
		c.cured(t.alert)
		if _, known := event.Lookup(a.Alert); known {
			c.alert(a.Alert, a.Err)
		}
	}
	if a.State == "Paused" || a.State == "Pause Pending" {
		c.alert(event.TargetPaused, c.n.cfg.Name)
	} else {
		c.cured(event.TargetPaused)
	}
	switch {
	case remirror:
		c.alert(event.RemirrorRequired, c.ID, a.State)
	case a.Usable:
		c.cured(event.RemirrorRequired)
	}
	t.state, t.alert, t.remirror = a.State, a.Alert, remirror
}

// gaveUp reports that the last mirror did not end well and none is due.
func (s *session) gaveUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mirrErr != nil && !s.orders.busy()
}

func (r *replica) about() event.About {
	return event.About{Source: r.info.Source, Set: r.info.Set, Connection: r.info.Connection}
}

// applierAlerts are the conditions of an applier that end with EventCured, applierEvents
// what happens once. Both take the event's error, or name, as their first argument.
var (
	applierAlerts = map[applier.EventKind]event.ID{
		applier.EventDiskFull: event.WriteFull, applier.EventBusy: event.WriteBusy, applier.EventReadOnly: event.WriteDenied,
		applier.EventIO: event.WriteFailing, applier.EventNoRights: event.WriteDenied,
	}
	applierEvents = map[applier.EventKind]event.ID{
		applier.EventDropped: event.WriteDropped, applier.EventChanged: event.TargetChanged, applier.EventNotPermitted: event.NotPermitted,
		applier.EventMovedAside: event.MovedAside,
	}
)

// appliedEvent tells what an applier wants seen, and returns the alert that holds now.
func (r *replica) appliedEvent(e applier.Event, now event.ID) event.ID {
	log, about := r.n.events, r.about()
	if id, ok := applierAlerts[e.Kind]; ok {
		if now != 0 && now != id {
			log.Clear(about, now)
		}
		log.Set(id, about, e.Err)
		return id
	}
	switch e.Kind {
	case applier.EventCatalog: // ends with the next checkpoint
		log.Set(event.StateNotWritable, about, e.Err)
	case applier.EventCured:
		log.Clear(about, now)
		return 0
	case applier.EventOrphans:
		log.Raise(event.OrphansFound, about, e.Count)
	case applier.EventRemirror:
		r.log.Warn("remirror required", "err", e.Err) // the source tells when it is not under way
	default:
		what := any(e.Name)
		if e.Name == "" {
			what = e.Err
		}
		log.Raise(applierEvents[e.Kind], about, what, e.Err)
	}
	return now
}

// checkpointed: the position is on disk, so the state directory can be written.
func (r *replica) checkpointed() { r.n.events.Clear(r.about(), event.StateNotWritable) }

// clip shortens what a stranger sent before it is kept.
func clip(s string) string { return s[:min(len(s), 64)] }

// pausedEvent: an operator pauses or resumes applying.
func (r *replica) pausedEvent(pause bool) {
	if pause {
		r.n.events.Set(event.TargetPaused, r.about(), r.info.Source)
		return
	}
	r.n.events.Clear(r.about(), event.TargetPaused)
}

// alertsOf gives what holds about something to those who ask for the status.
func (n *Node) alertsOf(about *event.About) []control.Alert {
	var out []control.Alert
	for _, a := range n.events.Alerts(about) {
		out = append(out, control.Alert{ID: int(a.ID), Severity: string(a.Severity), Text: a.Text, Action: a.Action, Since: a.Since, Times: a.Times})
	}
	return out
}

const (
	maxEventRows  = 500 // of one reply: each is at most about 10 KiB, most are 300 bytes
	maxEventBytes = 512 << 10
	maxEventWait  = 30 * time.Second
	maxFollowers  = 4 // who wait at a time; more are answered at once
)

// listEvents answers "events". One that asks to wait gets an answer as soon as there is
// something, so that following needs no polling.
func (n *Node) listEvents(ctx context.Context, req control.EventsRequest) (any, error) {
	if req.WaitMS > 0 {
		select {
		case n.followers <- struct{}{}:
			wait := min(time.Duration(req.WaitMS)*time.Millisecond, maxEventWait)
			ctx, cancel := context.WithTimeout(ctx, wait)
			_ = n.events.Await(ctx, req.Since) // nothing new is an answer too
			cancel()
			<-n.followers
		default:
		}
	}
	limit := req.Limit
	if limit <= 0 || limit > maxEventRows {
		limit = maxEventRows
	}
	rows, damaged, err := n.events.List(req.Since, limit)
	if err != nil {
		return nil, err
	}
	reply := control.Events{Last: n.events.Last(), Damaged: damaged, Events: []control.Event{}}
	size := 0
	for _, e := range rows {
		if size += 200 + 2*len(e.Text); size > maxEventBytes {
			break
		}
		reply.Events = append(reply.Events, control.Event{Seq: e.Seq, Time: e.Time, ID: int(e.ID), Category: e.Category, Severity: string(e.Severity),
			Text: e.Text, Set: e.About.Set, Source: e.About.Source, Target: e.About.Target, Connection: e.About.Connection, Repeated: e.Repeated})
	}
	return reply, nil
}
