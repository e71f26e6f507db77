package applier

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// rewind puts names back to what they were at the catalog's position P, after files
// were changed by operations up to a later Q. Operations on names are not idempotent
// ("rename a b, create a" replayed from before destroys the new a), so they must meet
// the names they met the first time.
//
//  1. From the intents written after P, and the operations after P: the objects and the
//     places they touched.
//  2. Walk the target: touched objects that are not at one of their places at P are moved
//     into the staging directory ("r-"); what else is at a touched place was made after P
//     and is deleted, known objects inside it rescued first.
//  3. Put the rescued objects back at their places at P, parents first. Objects that are
//     gone were deleted after P; an empty stand-in takes their place, because the
//     deletion will be applied again.
//
// After a power cut the target may hold effects of operations the queue lost. Then all
// objects of the catalog are compared, not only the touched ones.
//
// Directories are compared by the inode number in the directory entry, and only
// candidates by their handle: a walk costs one getdents per directory.
type rewind struct {
	*Applier
	full   bool
	objs   map[key]bool              // touched objects; those not known at P do no harm
	places map[uint32]map[place]bool // touched places by tree

	// adopted are leftover directories that became known after P, by target identity.
	adopted   map[fileop.ObjID]key
	adoptInos map[uint64]bool

	wanted  map[fileop.ObjID]key // target identity of touched objects known at P
	inodes  map[uint64]bool      // inode numbers of wanted
	found   map[key][]place      // places at P that hold the object
	rescued map[key]string       // its name in the staging directory
	done    map[key]bool

	rescuedCount int
	placeholders int
}

func newRewind(a *Applier) *rewind {
	return &rewind{Applier: a, objs: map[key]bool{}, places: map[uint32]map[place]bool{},
		adopted: map[fileop.ObjID]key{}, adoptInos: map[uint64]bool{}}
}

// touch notes what an operation may have changed.
func (rw *rewind) touch(op *fileop.Op) {
	if !op.Kind.IsName() || rw.trees[op.Tree] == nil {
		return
	}
	for _, id := range []fileop.ObjID{op.Obj, op.Obj2} {
		if !id.IsZero() {
			rw.objs[key{op.Tree, id}] = true
		}
	}
	p := place{op.Parent, op.Name}
	if op.Name == "" {
		p = place{name: namelessName("o-", op.Obj)}
	}
	all := op.Flags&fileop.FlagTree != 0
	objs := [2]fileop.ObjID{op.Obj, op.Obj2}
	rw.touchPlace(op.Tree, p, objs, all)
	if op.Kind == fileop.Rename {
		rw.touchPlace(op.Tree, place{op.Parent2, op.Name2}, objs, all)
	}
}

// note takes an intent.
func (rw *rewind) note(in *intent) {
	if rw.trees[in.tree] == nil {
		return
	}
	if in.flags&intentAdopt != 0 {
		rw.adopted[in.ident] = key{in.tree, in.objs[0]}
		rw.adoptInos[in.ident.Ino] = true
		return
	}
	for _, id := range in.objs {
		if k := (key{in.tree, id}); !id.IsZero() {
			rw.objs[k] = true
			if o := rw.cat.get(k); o != nil && in.flags&intentTree != 0 {
				rw.addBelow(o, 0)
			}
		}
	}
	for _, p := range in.places {
		if p.name != "" {
			rw.touchPlace(in.tree, p, in.objs, in.flags&intentTree != 0)
		}
	}
}

// touchPlace notes a place and what was there at P. If that is removed with everything
// below, because all is set or as it is not one of the objects that move, the kill may
// have come in the middle: all of it is touched.
func (rw *rewind) touchPlace(tree uint32, p place, movers [2]fileop.ObjID, all bool) {
	m := rw.places[tree]
	if m == nil {
		m = map[place]bool{}
		rw.places[tree] = m
	}
	m[p] = true
	id := rw.cat.child(tree, p)
	if id.IsZero() {
		return
	}
	rw.objs[key{tree, id}] = true
	o := rw.cat.get(key{tree, id})
	if o != nil && (all || id != movers[0] && id != movers[1]) {
		rw.addBelow(o, 0)
	}
}

// restart forgets what a failed attempt found.
func (rw *rewind) restart() {
	rw.freshDescriptors()
	rw.found, rw.rescued, rw.done = map[key][]place{}, map[key]string{}, map[key]bool{}
}

// maxRounds bounds the repetitions after a power cut: each brings one more level of
// directories back to its place.
const maxRounds = 1024

func (rw *rewind) run() error {
	for round := 0; ; round++ {
		more := false
		if rw.full {
			for _, t := range rw.trees {
				missing, err := rw.compareTree(t)
				if err != nil {
					return err
				}
				more = more || missing
			}
		}
		if round > 0 && !more {
			return nil
		}
		if len(rw.objs) == 0 && len(rw.places) == 0 && !rw.full {
			return rw.sweep()
		}
		if round > maxRounds {
			return fmt.Errorf("names still not as in the catalog after %d rounds", maxRounds)
		}
		if err := rw.once(); err != nil {
			return err
		}
		if !rw.full {
			return nil
		}
		rw.restart()
	}
}

// once gathers and puts back. A directory that is gone takes what was below it along, so
// that is looked for too.
func (rw *rewind) once() error {
	for grown := true; grown; {
		rw.index()
		for _, t := range rw.trees {
			if err := rw.walkStage(t); err != nil {
				return err
			}
			if err := rw.walk(t, t.fd, &t.Source, 0); err != nil {
				return err
			}
		}
		grown = rw.growLost()
	}
	for k := range rw.objs {
		if err := rw.restore(k, 0); err != nil {
			return err
		}
	}
	return rw.sweep()
}

// index prepares the lookup of wanted objects by target identity.
func (rw *rewind) index() {
	rw.wanted, rw.inodes = map[fileop.ObjID]key{}, map[uint64]bool{}
	for k := range rw.objs {
		if o := rw.cat.get(k); o != nil && len(o.names) > 0 {
			rw.wanted[o.ident] = k
			rw.inodes[o.ident.Ino] = true
		}
	}
	clear(rw.found)
}

// growLost adds what the catalog knows below touched directories that were not found.
func (rw *rewind) growLost() (grown bool) {
	for k := range rw.objs {
		o := rw.cat.get(k)
		if o == nil || !o.isDir() || len(o.names) == 0 || len(rw.found[k]) > 0 || rw.rescued[k] != "" {
			continue
		}
		for _, id := range rw.cat.children(k.tree, k.id) {
			if c := (key{k.tree, id}); !rw.objs[c] {
				rw.objs[c] = true
				grown = true
			}
		}
	}
	return grown
}

// compareTree compares a tree, and the objects without a name in its staging directory.
func (rw *rewind) compareTree(t *tree) (missing bool, err error) {
	if len(rw.cat.children(t.Tree, zeroID)) > 0 {
		sfd, err := rw.dirFD(t, zeroID)
		if err != nil {
			return false, err
		}
		if missing, err = rw.compare(t, sfd, zeroID, 0); err != nil {
			return false, err
		}
	}
	m, err := rw.compare(t, t.fd, t.Source, 0)
	return missing || m, err
}

// compare adds the objects that are not at their place, in and below a directory that
// is. It reports whether there were any.
func (rw *rewind) compare(t *tree, fd int, dir fileop.ObjID, depth int) (missing bool, err error) {
	if depth > maxDepth {
		return false, fmt.Errorf("%w: directories nested over %d deep", errCatalog, maxDepth)
	}
	for name, id := range rw.cat.children(t.Tree, dir) {
		o := rw.cat.get(key{t.Tree, id})
		if o == nil {
			continue
		}
		ident, _, err := rw.at.Identify(fd, name)
		if isGone(err) || err == nil && ident != o.ident {
			missing = true
			rw.addBelow(o, depth)
			continue
		}
		if err != nil {
			return missing, err
		}
		if !o.isDir() {
			continue
		}
		sub, err := rw.at.Open(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return missing, err
		}
		m, err := rw.compare(t, sub, id, depth+1)
		unix.Close(sub)
		missing = missing || m
		if err != nil {
			return missing, err
		}
	}
	return missing, nil
}

// addBelow adds an object that is not at its place with all that was below it: what is
// below may have been moved on, even into something that will be deleted.
func (rw *rewind) addBelow(o *object, depth int) {
	if rw.objs[o.key] && !o.isDir() || depth > maxDepth {
		return
	}
	rw.objs[o.key] = true
	if !o.isDir() {
		return
	}
	for _, id := range rw.cat.children(o.tree, o.id) {
		if c := rw.cat.get(key{o.tree, id}); c != nil {
			rw.addBelow(c, depth+1)
		}
	}
}

// sweep deletes what the walk left in the staging directory that nobody needs.
func (rw *rewind) sweep() error {
	for _, t := range rw.trees {
		if t.stageFD < 0 {
			continue
		}
		names, err := rw.at.ReadDir(t.stageFD)
		if err != nil {
			return err
		}
		for _, d := range names {
			known := !rw.cat.child(t.Tree, place{name: d.Name}).IsZero()
			if known || strings.HasPrefix(d.Name, "x-") || strings.HasPrefix(d.Name, "s-") {
				continue
			}
			if err := rw.deleteBelow(t.stageFD, d.Name); err != nil {
				return err
			}
		}
	}
	return nil
}
