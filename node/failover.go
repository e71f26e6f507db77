package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/failover"
	"understudy/internal/access"
)

// Failover: what the monitors ask of the node.

// monitorDir is the monitors' place below the data directory, leaseDir that of what this
// machine, as a source, was told by its targets.
const (
	monitorDir = "monitors"
	leaseDir   = "leases"
)

// standIn is the node as its monitors see it.
type standIn struct{ n *Node }

var _ failover.Host = standIn{}

func (n *Node) openFailover() (err error) {
	n.failover, err = failover.Open(failover.Config{Dir: filepath.Join(n.cfg.Data, monitorDir), Host: standIn{n}, Network: failover.Kernel{}, Signed: access.SignedLen})
	if err == nil {
		n.tenant, err = failover.OpenTenant(filepath.Join(n.cfg.Data, leaseDir), lodger{standIn{n}}, failover.Kernel{}, access.SignedLen)
	}
	return err
}

// serveBeats answers targets that watch this machine, at the address it listens on.
func (n *Node) serveBeats() {
	n.wait.Go(func() {
		if err := failover.ServeBeats(n.ctx, n.Addr(), n.keys, n.tenant, access.SignedLen); err != nil {
			n.log.Warn("service probes are not answered", "err", err)
		}
	})
}

func (h standIn) Name() string                      { return h.n.cfg.Name }
func (h standIn) Sign(msg []byte) []byte            { return h.n.keys.Sign(msg) }
func (h standIn) Signed(m string, b, s []byte) bool { return h.n.keys.Signed(m, b, s) }

// replicasOf are those received from a source.
func (n *Node) replicasOf(source string) (list []*replica) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.replicas {
		if r.info.Source == source {
			list = append(list, r)
		}
	}
	return list
}

// Usable: every replica of the source is a past moment of it.
func (h standIn) Usable(source string) error {
	var errs []error
	open := map[string]bool{}
	for _, r := range h.n.replicasOf(source) {
		open[r.info.key()] = true
		if a := r.ack(); !a.Usable || a.Broken != "" {
			errs = append(errs, fmt.Errorf("replication set %s: %s", r.info.Set, a.State))
		}
	}
	h.n.state.read(func(d *stateData) {
		for key, info := range d.Replicas {
			if info.Source == source && !open[key] {
				errs = append(errs, fmt.Errorf("replication set %s: its replica is not open", info.Set))
			}
		}
	})
	return errors.Join(errs...)
}

// drainPatience is how long applying may stand still before a takeover goes on without.
const drainPatience = time.Minute

// drain waits until what was received is applied, as long as there is progress.
func (r *replica) drain(ctx context.Context) error {
	if why := r.brokenBy(); why != "" {
		return fmt.Errorf("replication set %s: %s", r.info.Set, why)
	}
	r.app.Resume()
	last, err := r.recv.Last(ctx)
	if err != nil {
		return fmt.Errorf("replication set %s: %w", r.info.Set, err)
	}
	for {
		before := r.app.Position().Applied
		wait, cancel := context.WithTimeout(ctx, drainPatience)
		err := r.app.Settled(wait, last.Seq)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if r.app.Position().Applied == before {
			return fmt.Errorf("replication set %s: operations up to %d of %d applied: %w", r.info.Set, before, last.Seq, err)
		}
	}
}

// Seal applies what was received and closes the replicas. Joins are refused meanwhile
// (Manager.Refuses), and the source's connections are cut, so that it asks again.
func (h standIn) Seal(ctx context.Context, source string, skip bool) (json.RawMessage, error) {
	n := h.n
	var errs []error
	if !skip {
		for _, r := range n.replicasOf(source) {
			errs = append(errs, r.drain(ctx))
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	n.joining.Lock()
	defer n.joining.Unlock()
	n.srv.Drop(func(c access.Caller) bool { return c.Kind == access.Machine && c.Name == source })
	for _, r := range n.replicasOf(source) {
		r.stop()
	}
	var infos []joinInfo
	n.state.read(func(d *stateData) {
		for _, info := range d.Replicas {
			if info.Source == source {
				infos = append(infos, info)
			}
		}
	})
	if len(infos) == 0 {
		return nil, errors.Join(errs...)
	}
	raw, err := json.Marshal(infos)
	return raw, errors.Join(append(errs, err)...)
}

// Unseal: the source goes on by itself, since it asks again and again.
func (h standIn) Unseal(string) {}

// refuse says why a source may not send: this machine stands in for it, or did (F35).
func (n *Node) refuse(source string) error {
	if why := n.failover.Refuses(source); why != "" {
		return control.Errorf(control.RestoreRequired, "fail back and restore; see docs/operate/failover.md", "%s", why)
	}
	return nil
}

// failoverEvents gives what monitors tell its number.
var failoverEvents = map[failover.Kind]event.ID{
	failover.SourceSilent: event.SourceSilent, failover.SourceFailed: event.SourceFailed, failover.DecisionAwaited: event.DecisionAwaited,
	failover.TargetIsolated: event.TargetIsolated, failover.Unasked: event.AddressUnasked, failover.TakeoverBegins: event.FailoverBegins, failover.TakeoverDone: event.FailoverDone,
	failover.TakeoverComplete: event.FailoverComplete, failover.TakeoverErrors: event.FailoverErrors, failover.StepBegins: event.FailoverStep,
	failover.StepFailed: event.FailoverTrouble, failover.ScriptStarts: event.ScriptStarted, failover.ScriptEnded: event.ScriptEnded,
	failover.ScriptFailed: event.ScriptFailed, failover.Conflict: event.AddressConflict, failover.Contested: event.AddressContested,
	failover.AddressAdded: event.AddressAdded, failover.AddressFailed: event.AddressNotAdded, failover.Announced: event.AddressAnnounced,
	failover.AddressRemoved: event.AddressRemoved, failover.RemoveFailed: event.AddressKept, failover.FailbackDone: event.FailbackDone,
	failover.Watched: event.AddressWatched, failover.Unwatched: event.AddressUnwatched, failover.RecordBad: event.MonitorUnreadable,
}

func (h standIn) Tell(k failover.Kind, source string, args ...any) {
	h.n.events.Raise(failoverEvents[k], event.About{Source: source}, args...)
}

// aboutMonitor keeps a monitor's alerts apart from those of its replicas.
func aboutMonitor(source string) event.About { return event.About{Source: source, Set: "monitor"} }

func (h standIn) Alert(k failover.Kind, source string, args ...any) {
	h.n.events.Set(failoverEvents[k], aboutMonitor(source), args...)
}

func (h standIn) Cured(source string, kinds ...failover.Kind) {
	for _, k := range kinds {
		h.n.events.Clear(aboutMonitor(source), failoverEvents[k])
	}
}
