package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"understudy/capture"
	"understudy/event"
	"understudy/fileop"
	"understudy/mirror"
	"understudy/stream"
)

// session is one epoch of a connection: the parts run together and end together. What
// ends it is healed by the next session with a difference mirror.
type session struct {
	c        *Connection
	ctx      context.Context
	cancel   context.CancelCauseFunc
	epoch    fileop.Epoch
	link     *stream.Link
	journal  *stream.Journal
	sender   *stream.Transmitter
	mirror   *mirror.Mirror
	captures []*captured // by root
	detach   []func()
	orders   *orders
	wasEmpty bool // the replica held nothing when the epoch began
	began    fileop.Time
	givenUp  bool // resumed, and the mirror records of the daemon before were given up
	lag      lagMeter
	// linkTarget rewrites targets of symbolic links; nil: they stay as they are.
	linkTarget func(path, target string) string
	requests   requests

	believed mirror.Options // the first mirror, if the session before had no farewell

	mu       sync.Mutex // guards what follows
	ack      ack
	peer     string        // the target's session; a new one lost the mirror records under way
	joins    uint64        // joinReply.Joins
	told     uint64        // the most a report of peer said of them
	outdated chan struct{} // told passed joins
	mirrErr  error         // of the last mirror
	mirrored *end          // of the last mirror that ended well; nil: none, or the last one did not
	joinedAt uint64        // the link's generation when the target was asked last; 0: not yet
	again    retry         // of mirrors the target asks for
	linkDown bool
	roots    []fileop.ObjID // the set's root directories when the target was joined first
	since    int64          // joinReply.Since

	marking sync.Mutex // one change of the clean mark at a time
}

// newEpoch is a number no other session of any connection had or will have.
func newEpoch() fileop.Epoch {
	var b [8]byte
	rand.Read(b[:])
	return fileop.Epoch(binary.LittleEndian.Uint64(b[:])>>1 | 1)
}

// open prepares a session: captures, link, journal, and the target's half. The target
// must be reachable: what happens before is covered by the mirror that begins the
// session, so nothing has to be queued for it.
func (c *Connection) open(ctx context.Context) (_ *session, err error) {
	s := &session{c: c, epoch: newEpoch(), orders: newOrders(true), wasEmpty: c.takeFresh(), began: lately(), outdated: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.findCaptures(); err != nil {
		return nil, err
	}
	n := c.n
	s.link, err = stream.Dial(s.ctx, stream.LinkConfig{Addr: c.address(), Peer: c.cfg.Target, Keys: n.keys, Log: c.log})
	if err != nil {
		return nil, err
	}
	s.joinedAt = s.link.Generation()
	if err := s.join(); err != nil {
		return nil, err
	}
	s.believed = s.believe()
	t := s.keepTail()
	if s.journal, err = n.srv.OpenJournal(s.ctx, s.journalConfig(t)); err != nil {
		if t != nil {
			err = errors.Join(err, t.Close())
		}
		return nil, err
	}
	if _, err := s.journal.Put(&fileop.Op{Kind: fileop.Gap}); err != nil {
		return nil, err
	}
	s.prepare(t)
	return s, s.attach()
}

func (s *session) journalConfig(t *stream.Tail) stream.JournalConfig {
	n := s.c.n
	return stream.JournalConfig{Connection: s.c.key, Epoch: s.epoch, MaxBytes: n.conf().QueueLimit, MemoryMax: n.conf().MemoryLimit,
		MirrorWindow: n.conf().MirrorWindow, Tail: t, OnSeal: s.lag.add, Log: s.c.log}
}

// prepare makes the parts that need the journal and the link.
func (s *session) prepare(t *stream.Tail) {
	c := s.c
	s.orders.tell(t, s.wasEmpty, &c.mirrors)
	s.sender = stream.NewTransmitter(s.journal, s.link, stream.TransmitterConfig{Connection: c.key, Source: c.n.cfg.Name, Gate: stream.Gates{c.limits.valve, c.valve},
		MirrorWeight: c.n.conf().mirrorWeight(), BeforeTask: s.beforeTask}, c.log)
	s.mirror = mirror.New(s.mirrorConfig(), c.log)
}

// findCaptures chooses the capture of each root as the connection asks.
func (s *session) findCaptures() error {
	c, n := s.c, s.c.n
	if found, err := s.findForward(); found || err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range c.pairs {
		root := p.From
		if err := realRoot(root, n.mounted(root)); err != nil {
			return err
		}
		cap, err := n.chooseTree(root, c)
		if err != nil {
			return err
		}
		cap.users++
		s.captures = append(s.captures, cap)
	}
	return nil
}

func (s *session) mirrorConfig() mirror.Config {
	cfg := mirror.Config{Rules: s.c.currentRules(), Log: s.journal, Target: target{s}, Pace: s.journal.Pace, Problem: s.problem,
		Busy: tellBusy(s.journal.Tail()), BlockSize: int(s.c.n.conf().MirrorChunk)}
	s.linkTarget = s.c.remapLinks()
	cfg.LinkTarget = s.linkTarget
	cfg.Touch, cfg.Durable = s.c.n.flight.Touch, s.durable()
	cfg.EveryChange, cfg.Newer = true, s.c.beginsNewer()
	for i, cap := range s.captures {
		if cap.forward != nil {
			cfg.Touch, cfg.Durable = nil, nil // the replica's disk is looked after by its applier
		}
		cfg.EveryChange = cfg.EveryChange && cap.backend.Fidelity() >= capture.DirtyObjects
		cfg.Roots = append(cfg.Roots, mirror.Root{Tree: cap.tree, Index: uint32(i), TreePath: cap.dir, Dir: s.c.pairs[i].From})
	}
	return cfg
}

func (s *session) problem(path string, err error) {
	s.c.raise(event.SourceUnreadable, path, err)
	s.c.note(fmt.Errorf("source object unreadable: %s: %w", path, err))
}

// attach lets changes flow into the border. From here on nothing is missed.
func (s *session) attach() error {
	for i, cap := range s.captures {
		select {
		case <-cap.done:
			return fmt.Errorf("capture of %s stopped: %w", cap.dir, cap.err)
		default:
		}
		if cap.stacked != nil {
			s.detach = append(s.detach, cap.stacked.Attach(s.mirror.Border(i)))
		}
		if cap.forward != nil {
			s.detach = append(s.detach, cap.forward.attach(s, s.mirror.Border(i)))
		}
		if cap.hints == nil {
			continue
		}
		rel := relative(cap.dir, s.c.pairs[i].From)
		cap.hints.add(s, i, hintSink{s.mirror, i, rel})
		s.detach = append(s.detach, func() { cap.hints.remove(s, i) })
	}
	return nil
}

// run works until something ends the session, and returns what.
func (s *session) run(first *mirror.Options) error {
	g, ctx := errgroup.WithContext(s.ctx)
	stop, err := s.link.Subscribe(stream.AckSubject(s.c.n.cfg.Name, s.c.key, s.epoch), s.onAck)
	if err != nil {
		return err
	}
	defer stop()
	g.Go(func() error { return ended(ctx, "queue", s.journal.Run(ctx)) })
	g.Go(func() error { return ended(ctx, "transmission", s.sender.Run(ctx)) })
	g.Go(func() error { return s.driveMirror(ctx) })
	g.Go(func() error { return s.follow(ctx, s.mirror.Serve) })
	g.Go(func() error { return s.follow(ctx, s.mirror.RunHints) })
	g.Go(func() error { return s.watchLink(ctx) })
	g.Go(func() error { return s.keepShut(ctx) })
	g.Go(func() error { return s.keepClean(ctx) })
	g.Go(func() error { return s.keepBackup(ctx) })
	g.Go(func() error { return s.keepTasks(ctx) })
	g.Go(func() error { return s.keepKind(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-s.journal.Failed():
			return fmt.Errorf("%w: %w", errAutoDisc, s.journal.Err())
		}
	})
	for _, cap := range s.captures {
		g.Go(func() error { return cap.stops(ctx) })
	}
	if first != nil {
		g.Go(func() error { return s.calculate(ctx) })
		s.orders.first(*first, s.began)
	}
	err = g.Wait()
	if err == nil && s.ctx.Err() != nil { // whoever cancelled it says why
		err = context.Cause(s.ctx)
	}
	return err
}

// ended makes the end of a part that should go on an error.
func ended(ctx context.Context, part string, err error) error {
	if err == nil && ctx.Err() == nil {
		return errors.New(part + " ended by itself")
	}
	return err
}

// firstMirror is a full one until one ended well; later ones compare (AutoRemirror 1,
// B7.45). After a session that ended in good order only files whose inode changed since
// then are doubted; after any other, date and size prove nothing.
func (s *session) firstMirror() mirror.Options {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.autoMirror(); ok {
		return o
	}
	if !c.mirrored && !c.cfg.Adopt {
		return mirror.Options{Mode: mirror.Full}
	}
	if c.stoppedAt.IsZero() {
		return s.believed
	}
	return mirror.Options{Mode: mirror.Diff, Checksum: true, Since: c.stoppedAt}
}

// endedWell notes, when the node stops in good order, that the target has everything up
// to now. It is called before the captures end.
func (s *session) endedWell() {
	if s.c.shut() || s.c.replicationOff() { // the target lacks what waits, or was never queued
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	at := time.Now().Add(-time.Second)                                             // the coarse clock of file times
	if err := s.c.reported(ctx, func(*session) bool { return true }); err != nil { // what a target that is away said last
		s.c.log.Warn("node stops with operations not applied; everything will be compared", "err", err)
		return
	}
	if err := s.syncTrees(); err != nil { // a power cut after this takes nothing back
		s.c.log.Warn("protected files not synced; everything will be compared", "err", err)
		return
	}
	s.c.setStoppedAt(fileop.Time{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())})
}

// stopGrace is how long a stopping node waits for its targets.
const stopGrace = 5 * time.Second

// close ends everything the session holds. It may be called once, after run.
func (s *session) close() {
	s.cancel(errDisconnected)
	s.keepFigures()
	if s.c.n.leaving.Load() && s.link != nil && s.journal != nil && s.journal.Tail() != nil && s.journal.Err() == nil {
		s.leave()
		return
	}
	if s.journal != nil && s.journal.Tail() != nil {
		s.journal.Tail().Kill() // before anything is missed
	}
	s.unhook()
	if s.link != nil {
		s.link.Close()
	}
	if s.journal != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.journal.Delete(ctx); err != nil {
			s.c.log.Warn("queue not deleted", "err", err)
		}
		s.dropTail()
	}
	s.releaseCaptures()
}

func (s *session) releaseCaptures() {
	n := s.c.n
	for _, cap := range s.captures {
		n.mu.Lock()
		cap.users--
		last := cap.users == 0 && cap.stacked == nil
		n.mu.Unlock()
		if last {
			_ = cap.stop() // logged where it ends
		}
	}
}
