package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"understudy/applier"
	"understudy/control"
	"understudy/fileop"
	"understudy/history"
	"understudy/repset"
)

// Rebuilding a past moment beside the live replica: the base is copied, then the log is
// applied to the copy by the applier's own code.

// maxReplays bounds the replays that are remembered.
const maxReplays = 100

// errReplayStopped: an operator ended it.
var errReplayStopped = errors.New("stopped")

// replays are those under way and those that ended.
type replays struct {
	mu   sync.Mutex // guards what follows
	last int
	list []*replay // oldest first
}

// replay is one rebuilding.
type replay struct {
	p      *past
	g      *generation
	to     history.Moment
	paths  map[uint32]string
	cancel context.CancelCauseFunc
	over   chan struct{} // closed when it has ended

	mu    sync.Mutex // guards report
	began time.Time
	rep   control.Replay
}

func (r *replay) report() control.Replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.rep
	if out.Seconds == 0 {
		out.Seconds = time.Since(r.began).Seconds()
	}
	return out
}

func (r *replay) note(f func(*control.Replay)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.rep)
}

// replayVerb is the verb.
func (n *Node) replayVerb(ctx context.Context, req control.ReplayRequest) (any, error) {
	switch req.Action {
	case "start":
		return n.startReplay(ctx, &req)
	case "stop":
		r, err := n.replay(req.ID)
		if err != nil {
			return nil, err
		}
		r.cancel(errReplayStopped)
		<-r.over
		return r.report(), nil
	case "status":
		if req.ID == 0 {
			return n.listReplays(), nil
		}
		r, err := n.replay(req.ID)
		if err != nil {
			return nil, err
		}
		wait := min(time.Duration(max(0, req.WaitMS))*time.Millisecond, 30*time.Second)
		select {
		case <-r.over:
		case <-time.After(wait):
		case <-ctx.Done():
		}
		return r.report(), nil
	}
	return nil, control.Errorf(control.BadRequest, "start, status or stop", "action %q", req.Action)
}

func (n *Node) replay(id int) (*replay, error) {
	n.replays.mu.Lock()
	defer n.replays.mu.Unlock()
	for _, r := range n.replays.list {
		if r.rep.ID == id {
			return r, nil
		}
	}
	return nil, control.Errorf(control.NotFound, "see: replay status", "no replay has number %d", id)
}

func (n *Node) listReplays() control.ReplayList {
	n.replays.mu.Lock()
	defer n.replays.mu.Unlock()
	out := control.ReplayList{Replays: []control.Replay{}}
	for _, r := range n.replays.list {
		out.Replays = append(out.Replays, r.report())
	}
	return out
}

func (n *Node) startReplay(ctx context.Context, req *control.ReplayRequest) (any, error) {
	p, err := n.findPast(req.Source, req.Set, req.Connection)
	if err != nil {
		return nil, err
	}
	r := &replay{p: p, over: make(chan struct{}), began: time.Now()}
	if r.g, r.to, err = p.moment(req); err != nil {
		return nil, err
	}
	if err := n.checkReplayPath(req); err != nil {
		return nil, err
	}
	info := &r.g.meta.Info
	r.paths = replayPaths(req.To, info)
	run, cancel := context.WithCancelCause(n.ctx)
	r.cancel = cancel
	r.rep = control.Replay{State: "copying", Source: info.Source, Set: info.Set, To: req.To, Epoch: epochText(r.to.Epoch), Op: uint64(r.to.Op), Time: r.to.Time}
	if err := n.addReplay(r); err != nil {
		cancel(err)
		return nil, err
	}
	n.wait.Go(func() {
		defer close(r.over)
		defer cancel(nil)
		r.ended(r.run(run, req))
	})
	return r.report(), nil
}

// addReplay gives it a number. One directory is rebuilt once at a time.
func (n *Node) addReplay(r *replay) error {
	n.replays.mu.Lock()
	defer n.replays.mu.Unlock()
	for _, other := range n.replays.list {
		select {
		case <-other.over:
		default:
			if repset.Within(other.rep.To, r.rep.To) || repset.Within(r.rep.To, other.rep.To) {
				return control.Errorf(control.Refused, fmt.Sprintf("wait for it, or: replay stop %d", other.rep.ID), "replay %d rebuilds into %s", other.rep.ID, other.rep.To)
			}
		}
	}
	n.replays.last++
	r.rep.ID = n.replays.last
	n.replays.list = append(n.replays.list, r)
	if len(n.replays.list) > maxReplays {
		n.replays.list = slices.DeleteFunc(n.replays.list, func(o *replay) bool {
			select {
			case <-o.over:
				return o.rep.ID <= n.replays.last-maxReplays
			default:
				return false
			}
		})
	}
	return nil
}

func (r *replay) ended(err error) {
	r.note(func(rep *control.Replay) {
		rep.Seconds = time.Since(r.began).Seconds()
		switch {
		case err == nil:
			rep.State = "done"
		case errors.Is(err, errReplayStopped):
			rep.State, rep.Error = "stopped", err.Error()
		default:
			rep.State, rep.Error = "failed", err.Error()
		}
	})
	rep := r.report()
	r.p.log.Info("replay ended", "state", rep.State, "path", rep.To, "seq", rep.Op, "took", time.Since(r.began), "err", err)
}

// run rebuilds. The base is nobody else's meanwhile, and the log is not trimmed.
func (r *replay) run(ctx context.Context, req *control.ReplayRequest) (err error) {
	done, err := r.p.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if start := r.g.meta.Start; start.Epoch == r.to.Epoch && start.Op > r.to.Op {
		return fmt.Errorf("%w: the history was trimmed meanwhile", history.ErrNoMoment)
	}
	for _, dir := range r.paths {
		if err := emptyDir(dir, req.Overwrite); err != nil {
			return err
		}
	}
	written, err := openToSync(slices.Collect(maps.Values(r.paths))...)
	defer written.close()
	if err != nil {
		return err
	}
	state := filepath.Join(r.p.dir, "replay-"+strconv.Itoa(r.rep.ID))
	if err := os.RemoveAll(state); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	err = r.p.cloneBase(ctx, r.g, state, r.paths, func(objects uint64, bytes int64) error {
		r.note(func(rep *control.Replay) { rep.Objects, rep.Copied = objects, bytes })
		return r.p.room(1)
	})
	if err != nil {
		return err
	}
	mirrored, err := r.g.log.Mirrored(r.to)
	if err != nil {
		return err
	}
	r.note(func(rep *control.Replay) { rep.State = "applying" })
	f := forward{g: r.g, state: state, to: r.to, mirror: mirrored, noSync: true, copied: r.p, tell: func(pos applier.Position) {
		r.note(func(rep *control.Replay) { rep.Applied = uint64(pos.Applied) })
	}}
	for _, root := range r.g.meta.Info.Roots {
		f.roots = append(f.roots, applier.Root{Tree: root.Tree, Source: root.Obj, Path: r.paths[root.Tree]})
	}
	pos, err := f.run(ctx, r.g.meta.Start.Epoch)
	if err != nil {
		return err
	}
	if pos.Epoch != r.to.Epoch || pos.Applied != r.to.Op || !pos.Usable() {
		return fmt.Errorf("%w: operation %d was reached, whole: %t, instead of %d", history.ErrNoMoment, pos.Applied, pos.Usable(), r.to.Op)
	}
	r.note(func(rep *control.Replay) { rep.Applied = uint64(pos.Applied) })
	return written.sync()
}

// replayPaths: one root is the directory itself; of several each goes below it, by its
// path on the source.
func replayPaths(to string, info *joinInfo) map[uint32]string {
	out := map[uint32]string{}
	for _, r := range info.Roots {
		if out[r.Tree] = to; len(info.Roots) > 1 {
			out[r.Tree] = filepath.Join(to, r.From)
		}
	}
	return out
}

// emptyDir makes a directory, or with overwrite one that is not empty, an empty one.
func emptyDir(dir string, overwrite bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if len(names) > 0 && !overwrite {
		return control.Errorf(control.Refused, "choose an empty directory, or add OVERWRITE to delete what is in it", "%s is not empty", dir)
	}
	for _, e := range names {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	return nil
}

// checkReplayPath refuses directories that belong to something else.
func (n *Node) checkReplayPath(req *control.ReplayRequest) error {
	if !filepath.IsAbs(req.To) || filepath.Clean(req.To) != req.To || strings.Count(req.To, "/") < 1 || req.To == "/" || strings.ContainsRune(req.To, 0) {
		return control.Errorf(control.BadRequest, "give an absolute path of a directory", "path %q", req.To)
	}
	req.To = realPlace(req.To)
	for _, t := range n.taken() {
		if repset.Within(t.Path, req.To) || repset.Within(req.To, t.Path) {
			return control.Errorf(control.Refused, "choose another directory", "%s overlaps %s (%s)", req.To, t.Path, t.Owner)
		}
	}
	names, err := os.ReadDir(req.To)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return control.Errorf(control.Refused, "choose a directory", "%v", err)
	case len(names) > 0 && !req.Overwrite:
		return control.Errorf(control.Refused, "choose an empty directory, or add OVERWRITE to delete what is in it", "%s is not empty", req.To)
	case len(names) > 0:
		var here, above unix.Stat_t
		if unix.Stat(req.To, &here) == nil && unix.Stat(filepath.Dir(req.To), &above) == nil && strings.Count(req.To, "/") < 2 && here.Dev == above.Dev {
			return control.Errorf(control.Refused, "choose a directory further down", "%s is a directory of the system", req.To)
		}
	}
	return nil
}

// taken are the directories this node uses.
func (n *Node) taken() (out []repset.Claim) {
	add := func(owner, path string) { out = append(out, repset.Claim{Owner: owner, Path: path}) }
	add("the data directory", realPlace(n.cfg.Data))
	add("the directory of the histories", realPlace(n.cfg.historyDir()))
	add("the directory of the queues", realPlace(n.cfg.queueDir()))
	n.state.read(func(d *stateData) {
		for _, info := range d.Replicas {
			for _, r := range info.Roots {
				add("replica of "+info.owner(), r.Path)
			}
		}
		for _, info := range d.Places {
			for _, r := range info.Roots {
				add("replica of "+info.owner(), r.Path)
			}
		}
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	for dir := range n.captures {
		add("captured here", dir)
	}
	for _, c := range n.conns {
		for _, p := range c.pairs {
			add("protected by set "+c.cfg.Set, p.From)
		}
	}
	return out
}

// moment finds the generation and the operation that are asked for.
func (p *past) moment(req *control.ReplayRequest) (*generation, history.Moment, error) {
	given := 0
	for _, is := range []bool{!req.At.IsZero(), req.Op > 0, req.Label != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return nil, history.Moment{}, control.Errorf(control.BadRequest, "keep one of them", "a date, an operation and a label exclude each other")
	}
	epoch, err := strconv.ParseUint(req.Epoch, 16, 64)
	if req.Epoch != "" && err != nil {
		return nil, history.Moment{}, control.Errorf(control.BadRequest, "see: history", "epoch %q", req.Epoch)
	}
	p.mu.Lock()
	gens := append([]*generation(nil), p.gens...)
	p.mu.Unlock()
	var last error
	for i := len(gens) - 1; i >= 0; i-- {
		l := gens[i].log
		var m history.Moment
		switch {
		case req.Label != "":
			m, err = l.FindLabel(req.Label)
			if err == nil {
				m, err = withTime(m)(l.FindOp(m.Epoch, m.Op))
			}
		case req.Op > 0:
			m, err = l.FindOp(fileop.Epoch(epoch), fileop.Seq(req.Op))
		case !req.At.IsZero():
			m, err = l.FindTime(req.At)
		default:
			m, err = l.Last()
		}
		if err == nil {
			return gens[i], m, nil
		}
		last = err
		if !errors.Is(err, history.ErrNoMoment) {
			break
		}
	}
	if last == nil {
		last = errors.New("nothing is kept yet")
	}
	return nil, history.Moment{}, control.Errorf(control.NotFound, "see what is kept: history", "%v", last)
}

// withTime keeps the time that is known of a moment.
func withTime(m history.Moment) func(history.Moment, error) (history.Moment, error) {
	return func(found history.Moment, err error) (history.Moment, error) {
		found.Time = m.Time
		return found, err
	}
}
