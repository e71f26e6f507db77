package applier

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"understudy/fileop"
	"understudy/internal/failpoint"
	"understudy/internal/idlog"
)

// The files in flight: which objects were changed here by records that the source may
// have lost in a power cut. The source says from time to time up to where its own disk
// is known to hold everything (its clean mark); what came later is remembered here, on
// disk with every checkpoint, in generations: each of the source's words begins a new
// one, and those that lie before its clean mark are dropped.

// maxTouched bounds the objects remembered, some 60 bytes each in memory and 16 on disk;
// with more, all count as touched.
const maxTouched = 1 << 20

// touchedGen is one generation. seq and mirror are the last records of both lanes that
// came while it was the present one.
type touchedGen struct {
	no          uint64
	ids         map[fileop.ObjID]struct{}
	all         bool
	seq, mirror fileop.Seq
}

// touchedSet belongs to the deciding goroutine, but for write, which a checkpoint calls
// while nobody begins a generation.
type touchedSet struct {
	dir         string
	epoch       fileop.Epoch
	gens        []*touchedGen // the last one is the present one
	floor       fileop.Seq    // everything after it and after floorMirror is in gens
	floorMirror fileop.Seq
	count       int
	last        fileop.ObjID   // added last
	fresh       []fileop.ObjID // not on disk yet
	saidAll     bool           // of the present one, on disk
	file        *idlog.File
}

// InFlight is what an ended epoch's records touched after a position.
type InFlight struct {
	Epoch       fileop.Epoch
	Seq, Mirror fileop.Seq // complete for what came after these
	All         bool       // not known: everything may have been touched
	IDs         []fileop.ObjID
}

// openTouched begins the set of an epoch, or continues it. past is that of the epoch
// before, nil if there is none. After a stop that was not clean everything counts as
// touched, until the source's clean mark has moved on twice.
func openTouched(dir string, epoch fileop.Epoch, unclean bool) (s *touchedSet, past *InFlight, err error) {
	s = &touchedSet{dir: dir, epoch: epoch}
	was, next := loadTouched(dir)
	if was != nil && unclean {
		was.present().all = true
	}
	switch {
	case was == nil:
	case was.epoch == epoch:
		s = was
	default:
		past = was.inFlight()
		was.forget()
	}
	g := &touchedGen{no: next, ids: map[fileop.ObjID]struct{}{}, all: was == nil && unclean}
	if len(s.gens) > 0 {
		g.seq, g.mirror = s.present().seq, s.present().mirror
		if err := s.said(); err != nil {
			return nil, nil, err
		}
	}
	s.gens = append(s.gens, g)
	return s, past, s.create()
}

func (s *touchedSet) present() *touchedGen { return s.gens[len(s.gens)-1] }

func (s *touchedSet) path(no uint64) string {
	return filepath.Join(s.dir, "touched-"+strconv.FormatUint(no, 10))
}

// forget removes the files of a set that is over.
func (s *touchedSet) forget() {
	for _, g := range s.gens {
		_ = os.Remove(s.path(g.no)) // one that stays is of an epoch nobody asks for
	}
}

// create makes the present generation's file.
func (s *touchedSet) create() (err error) {
	s.close()
	g := s.present()
	s.fresh, s.last, s.saidAll = nil, fileop.ObjID{}, g.all
	s.file, err = idlog.Create(s.path(g.no), s.head(g), g.batch(nil))
	return err
}

func (s *touchedSet) head(g *touchedGen) idlog.Head {
	return idlog.Head{uint64(s.epoch), g.no, uint64(s.floor), uint64(s.floorMirror)}
}

func (g *touchedGen) batch(ids []fileop.ObjID) idlog.Batch {
	return idlog.Batch{All: g.all, Marks: [2]uint64{uint64(g.seq), uint64(g.mirror)}, IDs: ids}
}

// said makes durable that everything counts as touched in the last generation found, so
// that a further restart does not forget it.
func (s *touchedSet) said() error {
	g := s.present()
	if !g.all {
		return nil
	}
	f, err := idlog.Create(s.path(g.no), s.head(g), g.batch(nil))
	if err != nil {
		return err
	}
	return f.Close()
}

// loadTouched reads the set left in dir, nil if there is none, and the next free number.
// What cannot be read counts as everything.
func loadTouched(dir string) (s *touchedSet, next uint64) {
	names, _ := filepath.Glob(filepath.Join(dir, "touched-*"))
	var numbers []uint64
	for _, name := range names {
		no, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(name), "touched-"), 10, 63)
		if err == nil {
			numbers = append(numbers, no)
		}
	}
	slices.Sort(numbers)
	for _, no := range numbers {
		next = no + 1
		s = s.load(dir, no)
	}
	return s, next
}

// load adds one generation to s, or begins anew with it when it is of another epoch.
func (s *touchedSet) load(dir string, no uint64) *touchedSet {
	g := &touchedGen{no: no, ids: map[fileop.ObjID]struct{}{}}
	head, batches, err := idlog.Read((&touchedSet{dir: dir}).path(no))
	epoch := fileop.Epoch(head[0])
	if err != nil {
		g.all = true
		if s != nil {
			epoch = s.epoch
		}
	}
	if s == nil || s.epoch != epoch {
		if s != nil {
			s.forget()
		}
		s = &touchedSet{dir: dir, epoch: epoch}
	}
	s.floor, s.floorMirror = max(s.floor, fileop.Seq(head[2])), max(s.floorMirror, fileop.Seq(head[3]))
	for _, b := range batches {
		g.all = g.all || b.All
		g.seq, g.mirror = max(g.seq, fileop.Seq(b.Marks[0])), max(g.mirror, fileop.Seq(b.Marks[1]))
		for _, id := range b.IDs {
			g.ids[id] = struct{}{}
		}
	}
	s.gens = append(s.gens, g)
	s.count += len(g.ids)
	return s
}

// touches notes what a record touches, before it is executed.
func (a *Applier) touches(op *fileop.Op) {
	if !a.cfg.NoSync {
		a.touched.add(op)
	}
}

// add notes what a record touches.
func (s *touchedSet) add(op *fileop.Op) {
	g := s.present()
	if op.Kind.Lane() == fileop.LaneMirror {
		g.mirror = op.Seq
	} else {
		g.seq = op.Seq
	}
	s.addID(g, op.Obj)
	s.addID(g, op.Obj2)
}

func (s *touchedSet) addID(g *touchedGen, id fileop.ObjID) {
	if id == s.last || id.IsZero() || g.all || failpoint.Planted(failpoint.PlantNoTouched) {
		return
	}
	s.last = id
	if _, known := g.ids[id]; known {
		return
	}
	if s.count >= maxTouched {
		g.all = true
		s.count -= len(g.ids)
		g.ids, s.fresh = nil, nil
		return
	}
	g.ids[id] = struct{}{}
	s.fresh = append(s.fresh, id)
	s.count++
}

// take hands out what a checkpoint has to write, nil for nothing. The set goes on
// meanwhile, but the present generation stays the present one until that is written.
func (s *touchedSet) take() *idlog.Batch {
	g := s.present()
	if len(s.fresh) == 0 && g.all == s.saidAll {
		return nil
	}
	b := g.batch(s.fresh)
	s.fresh, s.saidAll = nil, g.all
	return &b
}

func (s *touchedSet) write(b idlog.Batch) error {
	err := s.file.Append(b)
	if err == nil {
		err = s.file.Sync()
	}
	return err
}

// lost says that what take handed out may not be on disk.
func (s *touchedSet) lost() { s.present().all, s.saidAll = true, false }

// begin goes on with a new epoch, and returns what the one before touched.
func (s *touchedSet) begin(epoch fileop.Epoch) (*InFlight, error) {
	past := s.inFlight()
	s.forget()
	no := s.present().no + 1
	s.gens = []*touchedGen{{no: no, ids: map[fileop.ObjID]struct{}{}}}
	s.epoch, s.floor, s.floorMirror, s.count = epoch, 0, 0, 0
	return past, s.create()
}

// advance drops what lies before the source's clean mark and begins a new generation.
func (s *touchedSet) advance(clean, cleanMirror fileop.Seq) error {
	if b := s.take(); b != nil {
		if err := s.write(*b); err != nil {
			s.lost()
			return err
		}
	}
	next := &touchedGen{no: s.present().no + 1, ids: map[fileop.ObjID]struct{}{}, seq: s.present().seq, mirror: s.present().mirror}
	var gone []uint64
	s.gens = slices.DeleteFunc(s.gens, func(g *touchedGen) bool {
		if g.seq > clean || g.mirror > cleanMirror {
			return false
		}
		s.floor, s.floorMirror = max(s.floor, g.seq), max(s.floorMirror, g.mirror)
		s.count -= len(g.ids)
		gone = append(gone, g.no)
		return true
	})
	s.gens = append(s.gens, next)
	if err := s.create(); err != nil {
		return err
	}
	for _, no := range gone {
		if err := os.Remove(s.path(no)); err != nil {
			return fmt.Errorf("drop list of objects: %w", err)
		}
	}
	return nil
}

func (s *touchedSet) inFlight() *InFlight {
	f := &InFlight{Epoch: s.epoch, Seq: s.floor, Mirror: s.floorMirror}
	for _, g := range s.gens {
		f.All = f.All || g.all
		for id := range g.ids {
			f.IDs = append(f.IDs, id)
		}
	}
	if f.All {
		f.IDs = nil
	}
	return f
}

func (s *touchedSet) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// syncTouched makes a checkpoint's part of the set durable. It comes before the catalog
// and its position: what the position covers is in the set.
func (a *Applier) syncTouched(b *idlog.Batch) error {
	if b == nil {
		return nil
	}
	return a.touched.write(*b)
}

// Clean takes the source's word that its disk holds everything up to these records of
// both lanes, and begins a new generation of what was touched since.
func (a *Applier) Clean(ctx context.Context, seq, mirror fileop.Seq) error {
	done := make(chan error, 1)
	err := a.do(ctx, func() {
		if err := a.awaitCheckpoint(); err != nil {
			done <- err
			return
		}
		done <- a.touched.advance(seq, mirror)
	})
	if err != nil {
		return err
	}
	return <-done
}

// Past is what the records of the epoch before this one touched; nil: not known.
func (a *Applier) Past() *InFlight {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.past
}
