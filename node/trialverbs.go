package node

import (
	"context"
	"slices"
	"time"

	"understudy/control"
	"understudy/event"
)

// What operators do with trial connections.

// trialOf is the trial with a number; nil: none.
func (n *Node) trialOf(id int) *trial {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.trials {
		if t.id == id {
			return t
		}
	}
	return nil
}

func (n *Node) allTrials() []*trial {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.trials)
}

// disconnectTrial ends a trial.
func (n *Node) disconnectTrial(t *trial) error {
	if t.own { // its last figures are the report
		if err := t.stats.turn(false); err != nil {
			n.log.Warn("statistics of a trial not ended", "set", t.cfg.Set, "err", err)
		}
	}
	n.mu.Lock()
	n.trials = slices.DeleteFunc(n.trials, func(o *trial) bool { return o == t })
	n.mu.Unlock()
	t.cancel()
	<-t.done
	t.c.gone()
	return n.storeTrials()
}

// logStats has the figures written to the trial's file, as long as it lasts.
func (t *trial) logStats() error {
	if t.cfg.File == t.n.conf().StatsFile {
		t.stats = t.n.statsLog
		t.own = !t.stats.state().Running
	} else {
		t.stats, t.own = &statsLogger{n: t.n, name: t.cfg.File}, true
	}
	return t.stats.turn(true)
}

// storeTrials remembers the trials over a restart.
func (n *Node) storeTrials() error {
	list := n.allTrials()
	return n.state.update(func(d *stateData) {
		d.Trials = nil
		for _, t := range list {
			d.Trials = append(d.Trials, t.cfg)
		}
	})
}

// resumeTrials begins again what ran before the restart, if connections do (B6.37).
func (n *Node) resumeTrials() {
	var stored []storedTrial
	n.state.read(func(d *stateData) { stored = append(stored, d.Trials...) })
	if !n.conf().AutoReconnect {
		return
	}
	for _, st := range stored {
		if _, err := n.startTrial(st); err != nil {
			n.log.Error("trial connection not begun again", "set", st.Set, "err", err)
		}
	}
}

// mirrorAction is the verb "mirror" of a trial.
func (t *trial) mirrorAction(req *control.MirrorRequest) error {
	t.mu.Lock()
	s := t.session
	t.mu.Unlock()
	if s == nil {
		return control.Errorf(control.NotReady, "wait a moment", "trial connection %d has no capture: %s", t.id, t.lastErr)
	}
	switch req.Action {
	case "pause":
		s.mirror.Pause()
	case "resume":
		s.mirror.Resume()
	case "stop":
		s.mirror.Stop()
	case "start":
		s.mirror.Stop()
		signalOn(t.order)
	default:
		return control.Errorf(control.BadRequest, "start, stop, pause or resume", "mirror action %q", req.Action)
	}
	return nil
}

// replicate counts changes or not.
func (t *trial) replicate(on bool) error {
	t.mu.Lock()
	t.off, t.cfg.NoReplication = !on, !on
	t.mu.Unlock()
	t.c.tell(map[bool]event.ID{true: event.ReplicateStarted, false: event.ReplicateStopped}[on])
	return t.n.storeTrials()
}

// idle reports whether no mirror is under way or ordered.
func (t *trial) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session != nil && len(t.order) == 0 && t.session.mirror.Idle() && (t.meter.mirrorDone || t.cfg.NoMirror)
}

// settle waits until everything captured before the call is counted.
func (t *trial) settle(ctx context.Context) error {
	t.mu.Lock()
	s := t.session
	t.mu.Unlock()
	if s != nil {
		s.lookAgain()
	}
	for !t.idle() {
		select {
		case <-ctx.Done():
			return control.Errorf(control.NotReady, "", "the mirror of trial connection %d is not done: %v", t.id, context.Cause(ctx))
		case <-t.done:
			return errDisconnected
		case <-time.After(taskPoll):
		}
	}
	return nil
}

// status shows the trial as a connection.
func (t *trial) status() control.Connection {
	out := control.Connection{Set: t.cfg.Set, ID: t.id, Target: TrialTarget, Transmit: "Started", Mirror: "Remirror required",
		MirrorPercent: -1, Replication: "Replicating", TargetState: "OK"}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.meter.report(time.Now())
	out.MirrorBytes, out.SentBytes, out.LastError = int64(r.MirrorBytes), int64(r.MirrorBytes+r.RepBytes), t.lastErr
	out.CapturedOp, out.AppliedOp = uint64(t.queue), uint64(t.queue)
	if t.off {
		out.Replication = "Stopped"
	}
	if s := t.session; s != nil {
		p := s.mirror.Progress()
		out.Mirror, out.MirrorPercent, out.MirrorFiles = mirrorWords[p.State], p.Percent, int64(p.Files)
		if len(t.order) > 0 {
			out.Mirror = "Mirroring"
		}
		out.Capture, out.Fidelity, out.OrderKept = s.fidelity()
	} else {
		out.Transmit = "Error"
	}
	return out
}

// figures are those of the statistics.
func (t *trial) figures() control.ConnectionStats {
	st := t.status()
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.meter.report(time.Now())
	return control.ConnectionStats{ID: t.id, Peer: TrialTarget, Set: t.cfg.Set, State: control.StateNumber(st.Transmit), ConnectSeconds: int64(time.Since(r.Since).Seconds()),
		OpsTx: r.MirrorOps + r.RepOps, BytesTx: r.MirrorBytes + r.RepBytes, WireBytesTx: r.MirrorBytes + r.RepBytes, MirrorPercent: st.MirrorPercent, Trial: r}
}

// noTrial refuses what a trial connection has no meaning for.
func (n *Node) noTrial(id int, what string) error {
	if n.trialOf(id) == nil {
		return nil
	}
	return control.Errorf(control.Refused, "", "%s: connection %d is a trial: nothing is sent", what, id)
}
