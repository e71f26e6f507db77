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

// ackEvery is the mean time between reports that only the position calls for: often enough
// that lag is fresh, seldom enough to cost nothing. After a quiet while the first ackBurst
// go at once: a small change is a few operations. ackRepeat is when the last report is
// sent again, in case it was lost.
const (
	ackEvery  = 5 * time.Millisecond
	ackBurst  = 6
	ackRepeat = time.Second
)

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

// poke has a report sent now, moved has one sent soon.
func (r *replica) poke()  { signalOn(r.report) }
func (r *replica) moved() { signalOn(r.position) }

// signalOn leaves a sign for whoever receives from c next.
func signalOn(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reportLoop reports what changed, and the last state again now and then. An idle
// replica costs one report each ackRepeat.
func (r *replica) reportLoop(ctx context.Context) {
	out := reporter{r: r, subject: stream.AckSubject(r.info.Source, r.info.Connection, r.info.Epoch)}
	repeat := time.NewTimer(ackRepeat)
	defer repeat.Stop()
	for {
		out.send()
		repeat.Reset(max(0, ackRepeat-time.Since(out.at)))
		select {
		case <-ctx.Done():
			return
		case <-r.report:
		case <-repeat.C:
		case <-r.position:
			if !r.gather(ctx, time.Until(out.due)) {
				return
			}
			out.spend(time.Now())
		}
	}
}

// gather waits for d, or until a report is wanted now. ok is false when ctx ended.
func (r *replica) gather(ctx context.Context, d time.Duration) (ok bool) {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-r.report:
	case <-timer.C:
	}
	return true
}

// reporter sends the reports of a replica. One goroutine uses it.
type reporter struct {
	r       *replica
	subject string
	sent    ack
	at      time.Time // of sent
	due     time.Time // when the position may call for the next
}

// spend takes one from the burst, which fills by one each ackEvery.
func (o *reporter) spend(now time.Time) {
	if full := now.Add(-(ackBurst - 1) * ackEvery); o.due.Before(full) {
		o.due = full
	}
	o.due = o.due.Add(ackEvery)
}

// send reports if something changed, or the last report is old.
func (o *reporter) send() {
	a := o.r.ack()
	if a == o.sent && time.Since(o.at) < ackRepeat {
		return
	}
	confirms := a.DurableOp > o.sent.DurableOp
	if confirms {
		failpoint.Hit(failpoint.ConfirmBefore)
	}
	raw, err := json.Marshal(a)
	if err == nil {
		err = o.r.n.srv.Publish(o.subject, raw)
	}
	if confirms {
		failpoint.Hit(failpoint.ConfirmAfter)
	}
	if err != nil {
		o.r.log.Warn("report not sent", "err", err)
	}
	o.sent, o.at = a, time.Now()
}

func (r *replica) ack() ack {
	p, d := r.app.Position(), r.app.Durable()
	a := ack{Session: r.session, Epoch: r.info.Epoch, Applied: p.Applied, DurableFrame: d.Frame, DurableOp: d.FrameLast,
		MirrorApplied: p.MirrorApplied, DurableMirror: d.MirrorApplied, MirrorLost: r.recv.Stats().MirrorLost, Usable: p.Usable(), Doubt: p.Doubt,
		Remirror: p.Run == 0 && !p.Recovering && !r.app.NeedsRecovery() && (p.Remirror || !p.Mirrored)}
	a.NoPast = r.past.missing()
	st, whenPaused := r.app.Stats(), r.pausedWord()
	r.mu.Lock()
	defer r.mu.Unlock()
	a.Joins = r.joins // behind the position: what a join gave up is never shown under the number before it
	a.Broken, a.Err, a.Alert = r.broken, r.lastErr, r.alert
	a.State = replicaState(p, st, r.broken != "", r.paused)
	if a.State == "Paused" {
		a.State = whenPaused
	}
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
