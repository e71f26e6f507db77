package node

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"understudy/applier"
	"understudy/capture"
	"understudy/fileop"
	"understudy/mirror"
	"understudy/repset"
)

// A replica that is kept in write order is sent on in write order: its applier takes the
// place of a capture. Each record goes to the next machine's queue once it has taken
// effect here, and before the next one is applied; objects keep the identities of the
// first source. The mirror reads the replica while the applier stands still, as it reads
// beneath a mount under the mount's locks. So the last machine is, like this one, always a
// past moment of the first. While the replica is none, the session ends, and the next one
// begins when it is one again: the last machine stays at the moment it has
// (docs/decisions/0020).

// errForwardEnds: what is applied here cannot be sent on; the next session compares.
var errForwardEnds = errors.New("forwarding interrupted")

// forwardLook is how often a replica is looked at that is to be sent on.
const forwardLook = 100 * time.Millisecond

// forwarded is a replica that one session sends on.
type forwarded struct {
	rep    *replica
	reader *applier.Reader
	ops    atomic.Uint64

	mu       sync.Mutex // guards what follows
	s        *session
	border   *mirror.Border
	live     bool // records are sent on
	ended    bool // and none will be any more
	root     fileop.ObjID
	nameless map[fileop.ObjID]bool // objects without a name when live began: the mirror did not see them
	now      fileop.Time           // the first source's clock
}

func (f *forwarded) Root() string               { return f.rep.info.Roots[0].Path }
func (f *forwarded) Fidelity() capture.Fidelity { return capture.WriteOrder }
func (f *forwarded) Stats() capture.Stats       { return capture.Stats{Ops: f.ops.Load()} }

// Run watches the replica until ctx ends, or nothing is applied any more.
func (f *forwarded) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.rep.over:
			return errors.New("the replica's epoch ended")
		case <-tick.C: // what others change in a replica shows without a record
			if !f.rep.app.Position().Usable() {
				f.end(applier.ErrNotWhole)
			}
		}
	}
}

// forwards finds the replica that the connection sends on as it is applied: the set is
// exactly its root directory, and its source is captured in write order.
func (c *Connection) forwards() (info joinInfo, ok bool) {
	info, why := c.forwarding()
	return info, why == "" && info.Source != ""
}

// forwarding is the replica the connection's set overlaps, and why it is not sent on as it
// is applied. Without one info is empty.
func (c *Connection) forwarding() (info joinInfo, why string) {
	root := ""
	c.n.state.read(func(d *stateData) {
		for _, have := range d.Replicas {
			for _, r := range have.Roots {
				for _, p := range c.pairs {
					if repset.Within(r.Path, p.From) || repset.Within(p.From, r.Path) {
						info, root = have, r.Path
					}
				}
			}
		}
	})
	rules := c.currentRules()
	switch {
	case root == "":
	case c.cfg.Restore != nil || c.n.failover.Sealed(info.Source):
		return joinInfo{}, "" // nobody else writes there
	case c.cfg.Capture != "" && c.cfg.Capture != "auto":
		why = "another capture was asked for"
	case len(c.pairs) != 1 || len(info.Roots) != 1 || c.pairs[0].From != root || !rules.Everything(root):
		why = "the set is not exactly the replica's one directory"
	case !info.Ordered:
		why = "its source does not capture in write order"
	case info.Restore:
		why = "it is being restored"
	}
	return info, why
}

// forwardNote tells the operator of a chain that keeps no order.
func (c *Connection) forwardNote() (notes []string) {
	if info, why := c.forwarding(); why != "" {
		notes = append(notes, fmt.Sprintf("the replica of %s is sent on by changed objects, order not kept: %s", info.owner(), why))
	}
	return notes
}

// forwardFrom waits for the replica that is to be sent on; nil: another capture is to be
// used. A target that holds a past moment keeps it until the replica is one.
func (c *Connection) forwardFrom(ctx context.Context) (*replica, error) {
	for {
		info, ok := c.forwards()
		if !ok {
			return nil, nil
		}
		c.n.mu.Lock()
		r := c.n.replicas[info.key()]
		c.n.mu.Unlock()
		if r != nil && r.app.Running() && r.brokenBy() == "" {
			if pos := r.app.Position(); !c.wasMirrored() || pos.Usable() && pos.Run == 0 {
				return r, nil
			}
		}
		c.note(fmt.Errorf("replica of %s: %w; waiting until it is one", info.owner(), applier.ErrNotWhole))
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(forwardLook):
		}
	}
}

// findForward makes the capture of a session that sends a replica on.
func (s *session) findForward() (found bool, err error) {
	n := s.c.n
	r, err := s.c.forwardFrom(s.ctx)
	if r == nil || err != nil {
		return false, err
	}
	f := &forwarded{rep: r}
	if f.reader, err = r.app.Reader(r.info.Roots[0].Tree); err != nil {
		return false, err
	}
	c := &captured{dir: f.Root(), name: "forward", backend: f, forward: f, done: make(chan struct{}), users: 1}
	c.tree, c.sync = forwardTree{f.reader, c.done}, f.sync
	c.ctx, c.cancel = context.WithCancel(n.ctx)
	n.wait.Go(func() {
		defer close(c.done)
		c.err = f.Run(c.ctx)
	})
	s.captures = append(s.captures, c)
	return true, nil
}

// keepKind ends a session that would be captured otherwise if it began now.
func (s *session) keepKind(ctx context.Context) error {
	forwards := s.captures[0].forward != nil
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, now := s.c.forwards(); now != forwards {
			return fmt.Errorf("%w: the capture of %s changes", errForwardEnds, s.c.pairs[0].From)
		}
	}
}

// attach has records go to the session's border, once listen lets them.
func (f *forwarded) attach(s *session, b *mirror.Border) (stop func()) {
	f.mu.Lock()
	f.s, f.border = s, b
	f.mu.Unlock()
	return f.rep.app.Listen(f.applied)
}

// listenForward waits, before a mirror, until what is applied is sent on.
func (s *session) listenForward(ctx context.Context) error {
	for _, c := range s.captures {
		if c.forward == nil {
			continue
		}
		if err := c.forward.listen(ctx); err != nil {
			return err
		}
	}
	return nil
}

// errNotYet: the replica is being mirrored.
var errNotYet = errors.New("the replica is not whole yet")

func (f *forwarded) listen(ctx context.Context) error {
	for {
		err := f.reader.Hold(ctx, f.begin)
		if !errors.Is(err, errNotYet) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(forwardLook):
		}
	}
}

// begin lets records pass from the next one on. The applier stands still.
func (f *forwarded) begin() error {
	pos, root, nameless, err := f.reader.State()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended:
		return errForwardEnds
	case f.live:
		return nil
	case !pos.Usable() || pos.Run != 0:
		return errNotYet
	}
	f.live, f.root, f.nameless = true, root, map[fileop.ObjID]bool{}
	for _, id := range nameless {
		f.nameless[id] = true
	}
	return nil
}

// end ends the session if records were sent on.
func (f *forwarded) end(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(why)
}

func (f *forwarded) endLocked(why error) {
	if f.live && !f.ended {
		f.live, f.ended = false, true
		f.s.cancel(fmt.Errorf("%w: %w", errForwardEnds, why))
	}
}

// applied takes a record that has taken effect. The applier waits for it.
func (f *forwarded) applied(op *fileop.Op, pos applier.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !op.Time.IsZero() {
		f.now = op.Time
	}
	if !f.live {
		return
	}
	if err := f.pass(op, pos); err != nil {
		f.endLocked(err)
		return
	}
	f.ops.Add(1)
	if wait := f.border.Pace(); wait > 0 {
		time.Sleep(wait) // the queue's disk is slower than this one
	}
}

// pass sends a record on. Task commands and questions were for this machine.
func (f *forwarded) pass(op *fileop.Op, pos applier.Position) error {
	o := *op
	o.Time = f.now
	switch {
	case !pos.Usable() || o.Kind == fileop.Gap:
		return applier.ErrNotWhole
	case o.Kind == fileop.MirrorAbort:
		return errors.New("its source gave up mirror records")
	case o.Kind == fileop.Task, o.Kind == fileop.Barrier && len(o.Data) > 0:
		return nil
	case o.Kind == fileop.MirrorBegin, o.Kind == fileop.MirrorEnd, o.Kind.Lane() == fileop.LaneMirror:
		return f.mirrored(&o)
	}
	known, err := f.place(&o)
	if err == nil && o.Kind == fileop.CopyRange && (o.Path == "" || o.Path2 == "") {
		return f.copied(&o)
	}
	if known && err == nil {
		f.border.Put(&o)
	}
	return err
}

// mirrored sends on what the source mirrors here. Two mirrors do not mix.
func (f *forwarded) mirrored(o *fileop.Op) (err error) {
	o.Tree = 0
	switch {
	case !f.s.mirrorIdle():
		return errors.New("its source mirrors, and so does this machine")
	case o.Kind == fileop.MirrorEntry && o.Parent.IsZero() && o.Obj != f.root:
		return errors.New("another directory became its root")
	case o.Kind.Lane() == fileop.LaneQueue:
		_, err = f.s.journal.Put(o)
		return err
	case o.Kind == fileop.MirrorEntry && f.s.linkTarget != nil && o.Attr != nil && o.Attr.Mode&unix.S_IFMT == unix.S_IFLNK:
		o.Data = []byte(f.s.linkTarget(path.Join(f.Root(), o.Path), string(o.Data)))
	}
	_, err = f.s.journal.PutMirror(o)
	return err
}

// place says where on this machine the names of a record are: the border asks for paths.
// known is false if the record had no effect here.
func (f *forwarded) place(o *fileop.Op) (known bool, err error) {
	o.Path, o.Path2 = "", ""
	switch {
	case o.Kind == fileop.Link && f.nameless[o.Obj]:
		return true, errors.New("a file got its first name that had none before")
	case o.Kind == fileop.CopyRange:
		if o.Path, err = f.reader.Path(o.Obj); err == nil {
			o.Path2, err = f.reader.Path(o.Obj2)
		}
		if errors.Is(err, applier.ErrUnknown) { // a file without a name
			err = nil
		}
		return true, err
	case !o.Kind.IsName() || o.Name == "":
		return true, nil
	}
	o.Path, err = f.name(o.Parent, o.Name)
	if o.Kind == fileop.Rename && err == nil {
		o.Path2, err = f.name(o.Parent2, o.Name2)
	}
	if errors.Is(err, applier.ErrUnknown) {
		return false, nil
	}
	return true, err
}

// copied sends on a copy between files of which one has no name. The border could not look
// at them, so the target must have both.
func (f *forwarded) copied(o *fileop.Op) error {
	f.s.mu.Lock()
	whole := f.s.mirrored != nil
	f.s.mu.Unlock()
	if !whole || !f.s.mirrorIdle() || f.nameless[o.Obj] || f.nameless[o.Obj2] {
		return errors.New("a file without a name was copied during a mirror")
	}
	o.Tree = 0
	_, err := f.s.journal.Put(o)
	return err
}

func (f *forwarded) name(dir fileop.ObjID, name string) (string, error) {
	at, err := f.reader.Path(dir)
	return path.Join(at, name), err
}

// sync waits until what was received before the call is applied, for a moment.
func (f *forwarded) sync() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveGrace)
	defer cancel()
	last, err := f.rep.recv.Last(ctx)
	if err == nil {
		err = f.rep.app.Settled(ctx, last.Seq)
	}
	return err
}
