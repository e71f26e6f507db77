package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"understudy/control"
	"understudy/failover"
)

// What is done with takeovers in peace: planned switchover, reversal, and the way home.

// switchOver brings this machine to rest for a target: what writes is stopped by the
// script, and everything is applied there. It may be called again.
func (n *Node) switchOver(ctx context.Context, r control.SwitchoverRequest) (any, error) {
	list := n.joinedTo(r.Target)
	if len(list) == 0 {
		return nil, control.Errorf(control.NotFound, "connect a replication set", "nothing is connected to %s", r.Target)
	}
	for _, c := range list { // before anything is stopped
		if c.current() == nil {
			return nil, control.Errorf(control.NotReady, "see: status", "set %s is not replicated to %s now", c.cfg.Set, r.Target)
		}
	}
	reply := control.SwitchoverReply{Applied: map[string]uint64{}}
	if r.Script != "" {
		if !filepath.IsAbs(r.Script) {
			return nil, control.Errorf(control.BadRequest, "an absolute path on the source", "script %q", r.Script)
		}
		out, err := failover.RunScript(ctx, failover.Script{Path: r.Script, Args: r.Args},
			[]string{"SM_EVENT=switchover", "SM_SOURCE=" + n.cfg.Name, "SM_TARGET=" + r.Target})
		if reply.Output = out; err != nil {
			return nil, control.Errorf(control.Refused, "nothing was switched over; start again on the source what the script stopped", "%v: %s", err, out)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, maxSettle)
	defer cancel()
	for _, c := range list {
		if err := c.settle(ctx); err != nil {
			return nil, control.Errorf(control.NotReady, "nothing was switched over; start again on the source what was stopped", "set %s: %v", c.cfg.Set, err)
		}
		if s := c.current(); s != nil {
			reply.Applied[c.cfg.Set] = uint64(s.lastAck().Applied)
		}
	}
	return reply, nil
}

// joinedTo are those to a target, but for restorations.
func (n *Node) joinedTo(target string) (list []*Connection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if strings.EqualFold(c.cfg.Target, target) && c.cfg.Restore == nil {
			list = append(list, c)
		}
	}
	return list
}

// releasePatience is how long a person waits to be told that the addresses are here again.
const releasePatience = 3 * time.Second

// leases shows what this machine gave up as a source, or has it back.
func (n *Node) leases(ctx context.Context, r control.LeaseRequest) (any, error) {
	switch r.Action {
	case "list", "":
	case "release":
		n.tenant.Release()
		for end := time.Now().Add(releasePatience); len(n.tenant.Given()) > 0 && ctx.Err() == nil && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
	default:
		return nil, control.Errorf(control.BadRequest, "list or release", "action %q", r.Action)
	}
	return control.LeaseReply{GivenUp: append([]string{}, n.tenant.Given()...)}, nil
}

// cameHome notes the end of a restoration to the machine that the replica came from: when
// all its sets are home, it may replicate again.
func (n *Node) cameHome(r *restoreConfig) {
	if r.Home == "" {
		return
	}
	err := n.failover.CameHome(r.Home, func(raw json.RawMessage) json.RawMessage {
		var infos []joinInfo
		if json.Unmarshal(raw, &infos) != nil {
			return raw // it says nothing about which
		}
		infos = slices.DeleteFunc(infos, func(i joinInfo) bool { return strings.EqualFold(i.Set, r.Set) })
		if len(infos) == 0 {
			return nil
		}
		left, err := json.Marshal(infos)
		if err != nil {
			return raw
		}
		return left
	})
	switch {
	case err == nil:
		n.log.Info("data is home", "source", r.Home, "set", r.Set)
	case !errors.Is(err, failover.ErrNoMonitor):
		n.log.Info("data is restored, but the source stays replaced", "source", r.Home, "set", r.Set, "err", err)
	}
}

// reverse makes this machine the source of the one it stands in for: each replica becomes
// what is protected, and the other machine's directory its replica, by a difference mirror.
func (n *Node) reverse(ctx context.Context, r control.FailoverRequest) (any, error) {
	st, err := n.failover.Status(r.Source)
	if err != nil {
		return nil, explainMonitor(err)
	}
	if st.State != string(failover.FailedOver) && !st.Restore {
		return nil, control.Errorf(control.Refused, "see: monitor display", "this machine does not stand in for %s", r.Source)
	}
	var infos []joinInfo
	if raw := n.failover.Replicas(r.Source); len(raw) > 0 {
		if err := json.Unmarshal(raw, &infos); err != nil {
			return nil, fmt.Errorf("replicas of %s: %w", r.Source, err)
		}
	}
	if len(infos) == 0 {
		return nil, control.Errorf(control.NotFound, "connect it by hand", "no replica was received from %s", r.Source)
	}
	var reply control.FailoverReply
	for _, info := range infos {
		id, err := n.reverseSet(ctx, r, &info)
		if ce := new(control.Error); errors.As(err, &ce) && ce.Code == control.Exists {
			continue // done before
		}
		if err != nil {
			return nil, err
		}
		reply.Steps = append(reply.Steps, fmt.Sprintf("set %s goes to %s, as connection %d", info.Set, info.Source, id))
	}
	return reply, nil
}

func (n *Node) reverseSet(ctx context.Context, r control.FailoverRequest, info *joinInfo) (int, error) {
	rules, err := n.restoredRules(&control.RestoreRequest{Set: info.Set}, info)
	if err != nil {
		return 0, err
	}
	c := control.ConnectRequest{Set: info.Set, Rules: rules, Target: info.Source, Map: map[string]string{}, Adopt: true, Mirror: "diff"}
	if r.Address != "" { // else where the machine is known to be
		c.Address = withPort(r.Address)
	}
	for _, root := range info.Roots {
		c.Map[root.Path] = root.From
	}
	return n.Connect(ctx, c)
}
