package applier

import (
	"errors"
	"time"

	"understudy/fileop"
)

// A ghost is a name this applier made that the catalog does not know, because the
// process ended before a checkpoint had it and the record that made it will not come
// again: mirror records, and all of an epoch that was given up. What remains of it is
// the inode's change time, which lies between that checkpoint and the end of the
// recovery. The mirror that follows removes such names where the source has none;
// everything else unknown is somebody's, an orphan.

// ghostSlack is more than the grain of inode times (a timer tick, 10 ms at most).
const ghostSlack = int64(20 * time.Millisecond)

// ghostWindow is the time within which ghosts were made, in nanoseconds since 1970.
// The zero value says that there are none. It stays until a mirror has compared every
// directory, over restarts too.
type ghostWindow struct{ From, To int64 }

// open begins a window at the last checkpoint; an older beginning stays.
func (g *ghostWindow) open(at int64) {
	if g.From == 0 && at != 0 {
		g.From = at - ghostSlack
	}
	g.close()
}

// close ends the window now.
func (g *ghostWindow) close() {
	if g.From != 0 {
		g.To = time.Now().UnixNano() + ghostSlack
	}
}

func (g *ghostWindow) holds(at int64) bool { return g.From != 0 && at >= g.From && at <= g.To }

// meta is what is stored with the catalog now.
func (a *Applier) meta() meta {
	return meta{Position: a.pos, BootID: a.boot, At: time.Now().UnixNano(), Ghosts: a.ghosts, Ahead: a.ghostsUntil, Intents: a.ck.gen}
}

// ahead reports whether the files may show what operations that are still to come did
// before a restart: a directory may have the default ACL it gets later, for one.
func (a *Applier) ahead() bool { return a.pos.Applied < max(a.pos.Until, a.ghostsUntil) }

// removeGhost removes name from the directory fd if it is a ghost. What changed only
// after the recovery is moved aside: a ghost whose time moved on, or new work of others.
func (a *Applier) removeGhost(t *tree, dir fileop.ObjID, fd int, name string) (gone bool, err error) {
	if a.ghosts.From == 0 {
		return false, nil
	}
	_, st, err := a.at.Identify(fd, name)
	if isGone(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	changed := st.Ctim.Nano()
	if changed < a.ghosts.From {
		return false, nil
	}
	if err := a.keepMtime(t, dir); err != nil {
		return false, err
	}
	if !a.ghosts.holds(changed) { // ours most likely, but it may be somebody's
		return true, a.moveAside(t, fd, name)
	}
	return true, a.deleteBelow(fd, name)
}

// removeGhostsOf clears the places of an operation on names whose object is not known:
// the source has nothing there any more, or what the mirror is about to bring.
func (a *Applier) removeGhostsOf(op *fileop.Op) error {
	t := a.trees[op.Tree]
	if a.ghosts.From == 0 || t == nil || !op.Kind.IsName() {
		return nil
	}
	for _, p := range []place{{op.Parent, op.Name}, {op.Parent2, op.Name2}} {
		if p.name == "" || p.parent.IsZero() || t.hidden(p.parent, p.name) || !a.cat.child(t.Tree, p).IsZero() {
			continue
		}
		fd, err := a.dirFD(t, p.parent)
		if errors.Is(err, errUnknown) {
			continue
		}
		if err == nil {
			_, err = a.removeGhost(t, p.parent, fd, p.name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
