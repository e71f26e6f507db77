package fanotify

import (
	"errors"

	"golang.org/x/sys/unix"

	"understudy/capture"
)

// handle turns one event into hints.
func (g *group) handle(ev *event) {
	moved := ev.mask&unix.FAN_RENAME != 0 && ev.mask&unix.FAN_ONDIR != 0
	switch {
	case ev.mask&unix.FAN_Q_OVERFLOW != 0:
		g.lose(errOverflow)
		return
	case moved: // also by this process
		g.places.forget()
	}
	if ev.mask&unix.FAN_CREATE != 0 && ev.obj != nil { // perhaps a further name
		delete(g.places.single, string(ev.obj))
	}
	if !g.concerns(ev) {
		return
	}
	if ev.mask&unix.FAN_RENAME != 0 {
		g.renamed(ev)
		return
	}
	at := g.at(ev.dir)
	for _, p := range at {
		path := p.rel
		if !ev.itself() {
			path = join(p.rel, ev.name)
		}
		p.b.dirty(ev, capture.Hint{Path: path})
	}
	if ev.mask&dataMask != 0 && ev.mask&unix.FAN_ONDIR == 0 && ev.obj != nil && len(at) < len(g.members) {
		g.otherNames(ev, at)
	}
}

// concerns reports whether any member listens to events of that process.
func (g *group) concerns(ev *event) bool {
	for _, b := range g.members {
		if b.sees(ev) {
			return true
		}
	}
	return false
}

// renamed tells each capture what the rename was to it.
func (g *group) renamed(ev *event) {
	from, to := g.at(ev.dir), g.at(ev.dir2)
	dir := ev.mask&unix.FAN_ONDIR != 0
	for _, b := range g.members {
		old, was := find(from, b)
		now, is := find(to, b)
		if was {
			b.dirty(ev, capture.Hint{Path: join(old.rel, ev.name)})
		}
		if is {
			b.dirty(ev, capture.Hint{Path: join(now.rel, ev.name2), Deep: dir || !was, Moved: was})
		}
	}
}

func find(at []place, b *Backend) (place, bool) {
	for _, p := range at {
		if p.b == b {
			return p, true
		}
	}
	return place{}, false
}

// otherNames cares for a file that was changed under a name outside of some roots, or
// under none known: it may have one inside.
func (g *group) otherNames(ev *event, at []place) {
	if _, ok := g.places.single[string(ev.obj)]; ok && ev.dir != nil {
		return
	}
	fd, err := g.open(ev.obj)
	if errors.Is(err, errGone) {
		return
	}
	if err != nil {
		g.lose(err)
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
		return
	}
	if st.Nlink == 1 && ev.dir != nil {
		g.places.setSingle(ev.obj)
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return // the number of links, mostly; attributes set this way wait for the rescan
	}
	for _, b := range g.members {
		if _, ok := find(at, b); !ok {
			b.object(ev)
		}
	}
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
