package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"understudy/applier"
	"understudy/internal/failpoint"
	"understudy/stream"
)

// ackEvery bounds how often the target reports: often enough that lag and credit are
// fresh, seldom enough to cost nothing.
const ackEvery = 5 * time.Millisecond

// event shows what the applier wants seen.
func (r *replica) event(e applier.Event) {
	level := slog.LevelWarn
	switch e.Kind {
	case applier.EventCured, applier.EventOrphans, applier.EventMovedAside, applier.EventNotPermitted:
		level = slog.LevelInfo
	}
	r.mu.Lock()
	r.alert = r.appliedEvent(e, r.alert)
	switch {
	case e.Kind == applier.EventCured:
		r.lastErr = ""
	case e.Kind == applier.EventCatalog: // an alert of its own
	case level == slog.LevelWarn:
		r.lastErr = string(e.Kind)
		if e.Err != nil {
			r.lastErr += ": " + e.Err.Error()
		}
		if remedy := remedies[e.Kind]; remedy != "" {
			r.lastErr += " (" + remedy + "; it then goes on by itself)"
		}
	}
	r.mu.Unlock()
	r.poke()
}

// remedies are what ends the conditions an applier waits for.
var remedies = map[applier.EventKind]string{
	applier.EventDiskFull: "free space or inodes there, or raise the quota",
	applier.EventBusy:     "end what holds the file or the machine's resources",
	applier.EventReadOnly: "make the file system writable",
	applier.EventIO:       "look at the disk and the kernel's log",
	applier.EventNoRights: "give the daemon the right, or take the immutable flag away",
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
		confirms := a.DurableOp > sent.DurableOp
		if confirms {
			failpoint.Hit(failpoint.ConfirmBefore)
		}
		raw, err := json.Marshal(a)
		if err == nil {
			err = r.n.srv.Publish(subject, raw)
		}
		if confirms {
			failpoint.Hit(failpoint.ConfirmAfter)
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
		MirrorApplied: p.MirrorApplied, DurableMirror: d.MirrorApplied, MirrorLost: r.recv.Stats().MirrorLost, Usable: p.Usable(), Doubt: p.Doubt,
		Remirror: p.Run == 0 && !p.Recovering && !r.app.NeedsRecovery() && (p.Remirror || !p.Mirrored)}
	st := r.app.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Broken, a.Err, a.Alert = r.broken, r.lastErr, r.alert
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
