package node

import (
	"context"
	"encoding/json"
	"time"

	"understudy/control"
)

// verb makes a handler of a function with a typed request.
func verb[Req any](f func(ctx context.Context, req Req) (any, error)) control.Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var req Req
		if err := control.Decode(raw, &req); err != nil {
			return nil, err
		}
		reply, err := f(ctx, req)
		return reply, explain(err)
	}
}

type nothing struct{}

// maxSettle bounds how long one request waits.
const maxSettle = 24 * time.Hour

func (n *Node) serveControl() (stop func(), err error) {
	return control.Serve(n.srv, n.cfg.Name, map[string]control.Handler{
		"repset.list":    verb(n.listSets),
		"repset.get":     verb(n.getSet),
		"repset.save":    verb(n.saveSet),
		"repset.delete":  verb(n.deleteSet),
		"repset.backups": verb(n.backups),
		"shutdown":       verb(n.shutdown),
		"events":         verb(n.listEvents),
		"paths":          verb(n.listPaths),
		"machine.list":   verb(n.listMachines),
		"machine.add":    verb(n.addMachine),
		"machine.remove": verb(n.removeMachine),
		"setting.list":   verb(n.listSettings),
		"setting.get":    verb(n.getSetting),
		"setting.set":    verb(n.setSetting),
		"session":        verb(n.session),
		"pair.list":      verb(n.listPeers),
		"pair.invite":    verb(n.invite),
		"pair.join":      verb(n.joinPeer),
		"pair.remove":    verb(n.removePeer),
		"pair.rotate":    verb(n.rotate),
		"key.list":       verb(n.listKeys),

		"monitor.list":      verb(n.listMonitors),
		"monitor.get":       verb(n.getMonitor),
		"monitor.save":      verb(n.saveMonitor),
		"monitor.delete":    verb(n.deleteMonitor),
		"monitor.start":     verb(n.startMonitor),
		"monitor.stop":      verb(n.stopMonitor),
		"failover":          verb(n.takeOver),
		"failback":          verb(n.failBack),
		"failover.restored": verb(n.restored),
		"switchover":        verb(n.switchOver),
		"lease":             verb(n.leases),
		"nic.list":          verb(n.listNICs),

		"key.add":    verb(n.addKey),
		"key.remove": verb(n.removeKey),
		"version": verb(func(context.Context, nothing) (any, error) {
			return control.Version{Name: n.cfg.Name, Version: Version(), Started: n.started, NoSource: n.modules.noSource.Load(), NoTarget: n.modules.noTarget.Load()}, nil
		}),
		"upgrade": verb(func(_ context.Context, r control.UpgradeRequest) (any, error) {
			return control.UpgradeReply{Started: n.started}, n.replace(r.Program)
		}),
		"status": verb(func(context.Context, nothing) (any, error) { return n.Status(), nil }),
		"mount": verb(func(ctx context.Context, r control.DirRequest) (any, error) {
			return n.Mount(ctx, r.Dir)
		}),
		"umount": verb(func(ctx context.Context, r control.DirRequest) (any, error) {
			return nothing{}, n.Umount(ctx, r.Dir)
		}),
		"connect": verb(func(ctx context.Context, r control.ConnectRequest) (any, error) {
			id, err := n.Connect(ctx, r)
			return control.ConnectReply{ID: id, Notes: n.connectNotes(id, err)}, err
		}),
		"disconnect": verb(func(ctx context.Context, r control.IDRequest) (any, error) {
			return nothing{}, n.Disconnect(ctx, r.ID)
		}),
		"mirror": verb(func(ctx context.Context, r control.MirrorRequest) (any, error) {
			return nothing{}, n.Mirror(ctx, r)
		}),
		"module":  verb(n.loadModule),
		"script":  verb(n.addScript),
		"restore": verb(n.restore),
		"task":    verb(n.queueTask),
		"tasks":   verb(n.listTasks),

		"stats":           verb(n.getStats),
		"statslog":        verb(n.statslog),
		"statslog.status": verb(n.statslogStatus),

		"mark":          verb(n.mark),
		"history":       verb(n.historyVerb),
		"history.clear": verb(n.clearHistory),
		"replay":        verb(n.replayVerb),

		"verify":       verb(n.verify),
		"orphans":      verb(n.orphans),
		"transmission": verb(n.transmit),
		"replication":  verb(n.replicates),
		"schedule":     verb(n.getSchedule),
		"schedule.set": verb(n.setSchedule),
		"limit":        verb(n.setLimit),
		"settle": verb(func(ctx context.Context, r control.SettleRequest) (any, error) {
			wait := time.Duration(r.TimeoutMS) * time.Millisecond
			if wait <= 0 || wait > maxSettle {
				wait = maxSettle
			}
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			return nothing{}, n.Settle(ctx, r.ID)
		}),
		"calculate": verb(func(ctx context.Context, r control.CalculateRequest) (any, error) {
			return n.Calculate(ctx, r)
		}),
		"target": verb(func(ctx context.Context, r control.PauseRequest) (any, error) {
			return nothing{}, n.pauseTarget(ctx, r.Source, r.Pause)
		}),
	})
}
