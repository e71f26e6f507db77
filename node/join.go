package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/control"
	"understudy/event"
	"understudy/fileop"
	"understudy/internal/access"
	"understudy/internal/failpoint"
	"understudy/repset"
	"understudy/stream"
)

// servePeers answers what sources ask.
func (n *Node) servePeers() (stop func(), err error) {
	stopJoin, err := n.srv.Handle(stream.JoinSubject, n.handleJoin)
	if err != nil {
		return nil, err
	}
	stopLeave, err := n.srv.Handle(stream.LeaveSubject, n.handleLeave)
	if err != nil {
		stopJoin()
		return nil, err
	}
	return func() { stopJoin(); stopLeave() }, nil
}

func (n *Node) handleJoin(ctx context.Context, data []byte) ([]byte, error) {
	var req joinRequest
	if err := decodeJSON(data, &req, "join request"); err != nil {
		return nil, err
	}
	var reply joinReply
	var r *replica
	err := checkSender(ctx, req.Info.Source)
	if err == nil {
		r, err = n.join(ctx, &req)
	}
	if err != nil {
		var ce *control.Error
		if !errors.As(err, &ce) {
			ce = control.Errorf(control.Internal, "", "%v", err)
		}
		n.events.Raise(event.SourceRefused, event.About{Source: clip(req.Info.Source), Set: clip(req.Info.Set)}, clip(req.Info.Source), err)
		reply = joinReply{Code: string(ce.Code), Msg: ce.Msg, Hint: ce.Hint}
	} else {
		reply = r.joinReply()
	}
	return json.Marshal(reply)
}

// checkSender refuses a machine that speaks for another.
func checkSender(ctx context.Context, source string) error {
	c := access.CallerOf(ctx)
	if c.Kind != access.Machine || c.Name != source {
		return control.Errorf(control.Denied, "a machine that changed its name pairs again", "%s speaks for %q", c, source)
	}
	return nil
}

// join opens the epoch a source begins, or finds the one it resumes.
func (n *Node) join(ctx context.Context, req *joinRequest) (*replica, error) {
	if err := n.checkJoin(req); err != nil {
		return nil, err
	}
	for i := range req.Info.Roots {
		req.Info.Roots[i].Path = realPlace(req.Info.Roots[i].Path)
	}
	if err := n.checkPlaces(&req.Info); err != nil {
		return nil, err
	}
	if err := n.checkCaptured(&req.Info); err != nil {
		return nil, err
	}
	n.joining.Lock() // one at a time: they compare each other's paths
	defer n.joining.Unlock()
	if err := n.targetLoaded(); err != nil {
		return nil, err
	}
	if err := n.refuse(req.Info.Source); err != nil {
		return nil, err
	}
	n.mu.Lock()
	old := n.replicas[req.Info.key()]
	n.mu.Unlock()
	if old != nil && old.info.Epoch == req.Info.Epoch {
		if why := old.brokenBy(); why != "" {
			return nil, control.Errorf(control.NotReady, "", "the queue of this epoch cannot go on: %s", why)
		}
		old.joinedAgain(req.AbortTo)
		return old, nil
	}
	if err := n.dropSuperseded(ctx, req); err != nil {
		return nil, err
	}
	known, held, epoch := false, int64(0), fileop.Epoch(0)
	var err error
	n.state.read(func(d *stateData) {
		var before joinInfo
		before, known = d.Replicas[req.Info.key()]
		held, epoch = before.Since, before.Epoch
		err = checkOverlap(d.Replicas, &req.Info)
	})
	if err != nil {
		return nil, control.Errorf(control.Refused, "", "%v", err)
	}
	if err := checkTargets(req, known); err != nil {
		return nil, err
	}
	if old == nil && known {
		n.dropEpoch(ctx, &req.Info, epoch)
	}
	if old != nil {
		old.applyReceived(ctx) // a catalog that ends in good order leaves nothing to guess
		old.stop()
		old.drop(ctx)
	}
	if req.Info.Since = held; held == 0 {
		req.Info.Since = fileTimeFrom()
	}
	if req.Info.Restore {
		failpoint.Hit(failpoint.RestoreJoin)
	}
	if err := n.state.update(func(d *stateData) { d.Replicas[req.Info.key()] = req.Info; keepPlace(d, req.Info) }); err != nil {
		return nil, err
	}
	if req.Info.Restore {
		failpoint.Hit(failpoint.RestoreJoined)
	}
	return n.openReplica(ctx, req.Info, held)
}

// checkJoin refuses what no honest source of this version asks.
func (n *Node) checkJoin(req *joinRequest) error {
	info := &req.Info
	if req.Version != peerVersion {
		return control.Errorf(control.Refused, "upgrade the older machine", "peer protocol %d, here %d", req.Version, peerVersion)
	}
	if req.Target != n.cfg.Name {
		return control.Errorf(control.NotFound, "correct the target's name or address", "this machine is %s, not %s", n.cfg.Name, req.Target)
	}
	if !nodeName.MatchString(info.Source) || info.Connection == "" || len(info.Connection) > 64 || len(info.Roots) == 0 || info.Epoch == 0 {
		return control.Errorf(control.BadRequest, "", "incomplete join request of %q", info.Source)
	}
	if _, err := parseKeep(info.History); err != nil {
		return control.Errorf(control.BadRequest, "", "%v", err)
	}
	for i, r := range info.Roots {
		if r.Tree != uint32(i) || !filepath.IsAbs(r.Path) || filepath.Clean(r.Path) != r.Path || r.Path == "/" || strings.ContainsRune(r.Path, 0) {
			return control.Errorf(control.BadRequest, "choose an absolute path of a directory", "target path %q", r.Path)
		}
	}
	return nil
}

// checkLoop refuses a target path inside what this machine protects, if that goes back
// to the same source, and overlap where source and target are one machine.
func (n *Node) checkLoop(info *joinInfo) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := info.pairs()
	if info.Source == n.cfg.Name {
		if err := repset.CheckSameMachine(in); err != nil {
			return control.Errorf(control.Refused, "", "%v", err)
		}
	}
	for _, c := range n.conns {
		if c.cfg.Target != info.Source {
			continue
		}
		if err := repset.CheckBothWays(c.pairs, in); err != nil {
			return control.Errorf(control.Refused, "", "%v", err)
		}
	}
	return nil
}

func (j *joinInfo) pairs() []repset.Pair {
	var out []repset.Pair
	for _, r := range j.Roots {
		out = append(out, repset.Pair{From: r.From, To: r.Path})
	}
	return out
}

func (j *joinInfo) owner() string { return j.Source + ", set " + j.Set }

// checkOverlap refuses target paths that another connection writes to.
func checkOverlap(have map[string]joinInfo, info *joinInfo) error {
	var claims []repset.Claim
	for key, other := range have {
		if key == info.key() {
			continue
		}
		for _, r := range other.Roots {
			claims = append(claims, repset.Claim{Owner: other.owner() + " (" + key + ")", Path: r.Path})
		}
	}
	for _, r := range info.Roots {
		if err := repset.CheckClaims(claims, repset.Claim{Owner: info.owner(), Path: r.Path}); err != nil {
			return err
		}
	}
	return nil
}

// checkTargets refuses a directory that holds somebody's files, before anything is
// changed.
func checkTargets(req *joinRequest, known bool) error {
	for _, r := range req.Info.Roots {
		names, err := os.ReadDir(r.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := writable(r.Path); err != nil {
				return control.Errorf(control.Refused, "make it writable, or choose another path", "target path %s: %v", r.Path, err)
			}
		case err != nil:
			return control.Errorf(control.Refused, "choose an absolute path of a directory", "target path %s: %v", r.Path, err)
		case len(names) > 0 && !known && !req.Adopt:
			return control.Errorf(control.Refused, "choose an empty directory, or connect with adopt to compare and overwrite what is there",
				"target path %s is not empty", r.Path)
		default:
			if err := writable(filepath.Join(r.Path, "x")); err != nil {
				return control.Errorf(control.Refused, "make it writable, or choose another path", "target path %s: %v", r.Path, err)
			}
		}
	}
	return nil
}

// leaveGrace is how long a disconnect waits for what was received to be applied.
const leaveGrace = 5 * time.Second

// applyReceived waits until everything received is applied, for a moment.
func (r *replica) applyReceived(ctx context.Context) {
	r.mu.Lock()
	skip := r.broken != "" || r.paused
	r.mu.Unlock()
	if skip {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leaveGrace)
	defer cancel()
	last, err := r.recv.Last(ctx)
	if err == nil {
		err = r.app.Settled(ctx, last.Seq)
	}
	if err != nil {
		r.log.Warn("epoch ends with operations not applied", "err", err)
	}
}

func (n *Node) handleLeave(ctx context.Context, data []byte) ([]byte, error) {
	var req leaveRequest
	if err := decodeJSON(data, &req, "leave request"); err != nil {
		return nil, err
	}
	if err := checkSender(ctx, req.Source); err != nil {
		return nil, err
	}
	n.joining.Lock()
	defer n.joining.Unlock()
	key := (&joinInfo{Source: req.Source, Connection: req.Connection}).key()
	n.mu.Lock()
	r := n.replicas[key]
	n.mu.Unlock()
	if r != nil {
		r.applyReceived(ctx)
		r.stop()
		r.drop(ctx)
	}
	var info joinInfo
	var known bool
	n.state.read(func(d *stateData) { info, known = d.Replicas[key] })
	if !known {
		return nil, nil
	}
	if err := n.state.update(func(d *stateData) { delete(d.Replicas, key) }); err != nil {
		return nil, err
	}
	return nil, os.RemoveAll(n.stateDir(&info))
}
