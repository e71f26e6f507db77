package applier

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// walkStage looks through the staging directory, whose places have a zero parent.
func (rw *rewind) walkStage(t *tree) error {
	if t.stageFD < 0 {
		return nil
	}
	return rw.walk(t, t.stageFD, &zeroID, 0)
}

// walk looks at every name below fd. dir is the known directory this is, nil if it is
// none: then nothing in it is at its place.
func (rw *rewind) walk(t *tree, fd int, dir *fileop.ObjID, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: directories nested over %d deep", errCatalog, maxDepth)
	}
	ents, err := rw.at.ReadDir(fd)
	if err != nil {
		return err
	}
	for _, d := range ents {
		if dir != nil && t.hidden(*dir, d.Name) {
			continue
		}
		if err := rw.look(t, fd, dir, d, depth); err != nil {
			return fmt.Errorf("look at %q: %w", d.Name, err)
		}
	}
	return nil
}

// look decides about one name.
func (rw *rewind) look(t *tree, fd int, dir *fileop.ObjID, d fsx.Dirent, depth int) error {
	var at place
	touched := false
	if dir != nil {
		at = place{*dir, d.Name}
		touched = rw.places[t.Tree][at]
	}
	isDir, wanted, k := d.Type == unix.DT_DIR, false, key{}
	if touched || rw.inodes[d.Ino] || d.Type == unix.DT_UNKNOWN {
		ident, st, err := rw.at.Identify(fd, d.Name)
		if err != nil {
			return ignoreGone(err)
		}
		isDir = st.Mode&typeBits == unix.S_IFDIR
		k, wanted = rw.wanted[ident]
	}
	switch {
	case wanted && k.tree == t.Tree:
		return rw.lookWanted(t, fd, dir, d.Name, k, isDir, depth)
	case touched, dir == &zeroID && hasAnyPrefix(d.Name, "t-", "r-"):
		if isDir {
			if err := rw.walkBelow(t, fd, d.Name, nil, depth); err != nil {
				return err
			}
		}
		if k, ok := rw.isRescued(t, dir, d.Name); ok && rw.rescued[k] != "" {
			return nil
		}
		return rw.deleteBelow(fd, d.Name)
	case isDir:
		var sub *fileop.ObjID
		if dir != nil {
			if id := rw.cat.child(t.Tree, at); !id.IsZero() {
				sub = &id
			}
		}
		if sub == nil {
			var err error
			if sub, err = rw.adoptedDir(t, fd, d); err != nil {
				return err
			}
		}
		return rw.walkBelow(t, fd, d.Name, sub, depth)
	}
	return nil
}

// adoptedDir is the object a leftover directory became after P, nil if none.
func (rw *rewind) adoptedDir(t *tree, fd int, d fsx.Dirent) (*fileop.ObjID, error) {
	if !rw.adoptInos[d.Ino] {
		return nil, nil
	}
	ident, _, err := rw.at.Identify(fd, d.Name)
	if err != nil {
		return nil, ignoreGone(err)
	}
	if k, ok := rw.adopted[ident]; ok && k.tree == t.Tree {
		return &k.id, nil
	}
	return nil, nil
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// isRescued tells whose rescued object a name in the staging directory is.
func (rw *rewind) isRescued(t *tree, dir *fileop.ObjID, name string) (key, bool) {
	if dir != &zeroID {
		return key{}, false
	}
	for k, n := range rw.rescued {
		if n == name && k.tree == t.Tree {
			return k, true
		}
	}
	return key{}, false
}

func (rw *rewind) walkBelow(t *tree, fd int, name string, dir *fileop.ObjID, depth int) error {
	sub, err := rw.at.Open(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(sub)
	return rw.walk(t, sub, dir, depth+1)
}

// lookWanted leaves a touched object that is at one of its places, and moves it to the
// staging directory otherwise. What is below it is looked at first.
func (rw *rewind) lookWanted(t *tree, fd int, dir *fileop.ObjID, name string, k key, isDir bool, depth int) error {
	if isDir {
		if err := rw.walkBelow(t, fd, name, &k.id, depth); err != nil {
			return err
		}
	}
	if dir != nil {
		if p := (place{*dir, name}); rw.cat.get(k).has(p) {
			rw.found[k] = append(rw.found[k], p)
			return nil
		}
	}
	if rw.rescued[k] != "" {
		if dir == &zeroID && rw.rescued[k] == name {
			return nil
		}
		return rw.at.Unlink(fd, name) // a further name it did not have at P
	}
	if dir == &zeroID && strings.HasPrefix(name, "r-") {
		rw.rescued[k] = name // by an earlier, interrupted recovery
		return nil
	}
	sfd, err := rw.dirFD(t, zeroID)
	if err != nil {
		return err
	}
	to, err := rw.freeStageName(sfd, "r-", "")
	if err != nil {
		return err
	}
	if err := rw.at.Rename(fd, name, sfd, to, 0); err != nil {
		return err
	}
	rw.rescued[k] = to
	rw.rescuedCount++
	return nil
}

// restore puts one touched object at all its places at P, its parents first.
func (rw *rewind) restore(k key, depth int) error {
	o := rw.cat.get(k)
	if o == nil || len(o.names) == 0 || rw.done[k] {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("%w: directories nested over %d deep", errCatalog, maxDepth)
	}
	rw.done[k] = true
	if !rw.objs[k] { // untouched, but perhaps below a directory that is not yet back
		return rw.restore(key{k.tree, o.names[0].parent}, depth+1)
	}
	t := rw.trees[k.tree]
	have, places := rw.found[k], slices.Clone(o.names)
	for _, p := range places { // all of them: a further name is linked from one of the others
		if err := rw.restore(key{k.tree, p.parent}, depth+1); err != nil {
			return err
		}
	}
	for _, p := range places {
		if slices.Contains(have, p) {
			continue
		}
		pfd, err := rw.dirFD(t, p.parent)
		if err == nil {
			err = rw.clearPlace(t, pfd, p.name)
		}
		if err == nil {
			err = rw.putBack(t, o, p, pfd, have)
		}
		if classify(err) == failUnknown {
			rw.forgetTree(o) // its directory is not ours any more, as already reported
			return nil
		}
		if err != nil {
			return fmt.Errorf("put back %q: %w", p.name, err)
		}
		have = append(have, p)
	}
	if r := rw.rescued[k]; r != "" && !o.isDir() && t.stageFD >= 0 {
		return ignoreGone(rw.at.Unlink(t.stageFD, r))
	}
	return nil
}

// putBack makes the free place p name o: another link, the rescued object, or a stand-in.
func (rw *rewind) putBack(t *tree, o *object, p place, pfd int, have []place) error {
	if len(have) > 0 {
		ffd, err := rw.dirFD(t, have[0].parent)
		if err != nil {
			return err
		}
		return rw.at.Link(ffd, have[0].name, pfd, p.name)
	}
	if r := rw.rescued[o.key]; r != "" {
		rw.rescued[o.key] = ""
		return rw.at.Rename(t.stageFD, r, pfd, p.name, 0)
	}
	rw.placeholders++
	if err := rw.standIn(o, pfd, p.name); err != nil {
		return err
	}
	ident, _, err := rw.at.Identify(pfd, p.name)
	if err != nil {
		return err
	}
	o.ident = ident
	rw.cat.put(o)
	return nil
}

// standIn makes an empty object of about the right type: the operations to come delete it.
func (rw *rewind) standIn(o *object, pfd int, name string) error {
	switch o.kind {
	case unix.S_IFREG:
		fd, err := rw.at.Open(pfd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	case unix.S_IFDIR:
		return rw.at.Mkdir(pfd, name, 0o700)
	case unix.S_IFLNK:
		return rw.at.Symlink("removed", pfd, name)
	}
	err := rw.at.Mknod(pfd, name, unix.S_IFIFO|0o600, 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
