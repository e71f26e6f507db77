package node

import (
	"context"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"understudy/capture"
	"understudy/control"
)

// The figures of the machine, as one snapshot. The shell, the statistics file and the
// metrics page draw from it.

// nodeCounts count since the start of the daemon.
type nodeCounts struct{ logins, refused, disconnects, reconnects atomic.Uint64 }

// sent is what the sessions of a connection that ended have sent.
type sent struct{ ops, bytes, wire, resent, mirrorOps, mirrorBytes, unread uint64 }

// figures are what the present session has sent.
func (s *session) figures() sent {
	ts, js := s.sender.Stats(), s.journal.Stats()
	return sent{ops: uint64(ts.Op) + js.MirrorRecords, bytes: ts.Bytes + ts.MirrorBytes, wire: ts.WireBytes, resent: ts.Resends,
		mirrorOps: js.MirrorRecords, mirrorBytes: ts.MirrorBytes, unread: s.mirror.Progress().Errors}
}

func (a sent) plus(b sent) sent {
	return sent{a.ops + b.ops, a.bytes + b.bytes, a.wire + b.wire, a.resent + b.resent, a.mirrorOps + b.mirrorOps, a.mirrorBytes + b.mirrorBytes, a.unread + b.unread}
}

// keepFigures adds what a session has sent to its connection's, before it closes.
func (s *session) keepFigures() {
	if s.sender == nil {
		return
	}
	f := s.figures()
	s.c.mu.Lock()
	s.c.sent = s.c.sent.plus(f)
	s.c.mu.Unlock()
}

// allSent is what a connection has sent since it was started.
func (c *Connection) allSent(s *session) sent {
	c.mu.Lock()
	before := c.sent
	c.mu.Unlock()
	if s == nil {
		return before
	}
	return before.plus(s.figures())
}

// stats is the snapshot.
func (n *Node) stats() control.Stats {
	st := n.Status()
	out := control.Stats{Time: time.Now().UTC(), Machine: n.cfg.Name, Memory: control.MemoryStats{System: memoryTaken()},
		Security: control.SecurityStats{Logins: n.counts.logins.Load(), Failed: n.counts.refused.Load()},
		Kernel: control.KernelStats{Started: n.started.UTC(), Connections: len(st.Connections),
			AutoDisconnects: n.counts.disconnects.Load(), AutoReconnects: n.counts.reconnects.Load()},
		Targets: []control.TargetStats{}, Connections: []control.ConnectionStats{}}
	k := &out.Kernel
	for _, c := range st.Captures {
		k.RepOps += c.Ops
		k.RepBytes += c.WriteBytes
		state := 2
		if c.Fidelity == capture.Hints.String() {
			state = 1
		}
		k.SourceState = max(k.SourceState, state)
	}
	n.mu.Lock()
	reps := make([]*replica, 0, len(n.replicas))
	for _, r := range n.replicas {
		reps = append(reps, r)
	}
	n.mu.Unlock()
	for _, r := range reps {
		k.TargetState = 1
		out.Targets = append(out.Targets, r.stats())
	}
	slices.SortFunc(out.Targets, func(a, b control.TargetStats) int { return strings.Compare(a.Peer+"\x00"+a.Set, b.Peer+"\x00"+b.Set) })
	for i := range st.Connections {
		if c, err := n.connection(st.Connections[i].ID); err == nil {
			out.Connections = append(out.Connections, c.stats(&st.Connections[i], &out))
		} else if t := n.trialOf(st.Connections[i].ID); t != nil {
			out.Connections = append(out.Connections, t.figures())
		}
	}
	return out
}

// memoryTaken is what the process has from the operating system, in bytes.
func memoryTaken() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}

func (r *replica) stats() control.TargetStats {
	a, rs, tasks := r.app.Stats(), r.recv.Stats(), r.n.tasks.counted(r.info.key())
	applied := uint64(r.app.Position().Applied)
	r.mu.Lock()
	queued := r.queueUsed
	r.mu.Unlock()
	out := control.TargetStats{Peer: r.info.Source, Set: r.info.Set, RepOps: uint64(rs.Op), MirrorOps: uint64(rs.MirrorRecord),
		OpsReceived: uint64(rs.Op) + uint64(rs.MirrorRecord), BytesReceived: rs.Bytes + rs.MirrorBytes, Retries: a.Retries, OpsDropped: a.Dropped,
		BytesInQueue: queued, Orphans: a.Orphans,
		TasksSucceeded: tasks.Succeeded, TasksFailed: tasks.Failed, TasksTimedOut: tasks.TimedOut, TasksIgnored: tasks.Ignored}
	if out.RepOps > applied {
		out.OpsRemaining = out.RepOps - applied
	}
	return out
}

// stats are the figures of a connection whose status is st; the machine's grow by them.
func (c *Connection) stats(st *control.Connection, all *control.Stats) control.ConnectionStats {
	s := c.current()
	f, tasks := c.allSent(s), c.n.tasks.counted(c.taskCounts())
	_, limit := c.limits.valve.State()
	out := control.ConnectionStats{ID: c.ID, Peer: c.cfg.Target, Address: c.address(), Set: c.cfg.Set, State: control.StateNumber(st.Transmit),
		OpsTx: f.ops, BytesTx: f.bytes, WireBytesTx: f.wire, Resent: f.resent, BandwidthLimit: limit, MirrorPercent: st.MirrorPercent, LagMS: st.LagMS,
		TasksSubmitted: tasks.Submitted, TasksQueued: tasks.Queued,
		TasksSucceeded: tasks.Succeeded, TasksFailed: tasks.Failed, TasksTimedOut: tasks.TimedOut, TasksIgnored: tasks.Ignored}
	k := &all.Kernel
	k.MirOps += f.mirrorOps
	k.MirBytes += f.mirrorBytes
	k.FailedMirror += f.unread
	k.QueuePercent = max(k.QueuePercent, st.QueuePercent)
	if s == nil {
		return out
	}
	js, ts, p, a := s.journal.Stats(), s.sender.Stats(), s.mirror.Progress(), s.lastAck()
	all.Memory.Queue += js.MemoryBytes
	out.ConnectSeconds = max(0, time.Now().Unix()-s.began.Sec)
	out.OpsInCmdQueue = less(uint64(ts.Op), uint64(a.Applied))
	out.OpsInAckQueue = uint64(ts.OpsInFlight)
	out.OpsInRepQueue = less(uint64(js.LastOp), uint64(ts.Op)+out.OpsInAckQueue)
	out.OpsInMirQueue = less(uint64(js.LastMirror), uint64(a.MirrorApplied))
	out.BytesInRep, out.BytesInMir, out.BytesOnDisk = s.usage().bytes, js.MirrorBytes, int64(js.StoredBytes)
	out.BytesSkipped = max(0, int64(p.Bytes)-int64(p.Sent))
	if p.TotalBytes > p.Bytes {
		out.MirrorRemain = int64(p.TotalBytes - p.Bytes)
	}
	return out
}

// less is a-b, and 0 where b is more.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

func (n *Node) getStats(context.Context, nothing) (any, error) { return n.stats(), nil }
