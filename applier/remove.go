package applier

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// vacate removes what the catalog knows at p, unless it is keep.
func (a *Applier) vacate(t *tree, p place, keep *object) error {
	id := a.cat.child(t.Tree, p)
	if id.IsZero() || (keep != nil && id == keep.id) {
		return nil
	}
	o := a.cat.get(key{t.Tree, id})
	if o == nil {
		return nil
	}
	return a.removeName(t, o, p, true)
}

// removeName takes the name p from o on the target and in the catalog. The last name
// takes the object with it. A directory's unknown content is moved aside, its known
// content removed only if all is set.
func (a *Applier) removeName(t *tree, o *object, p place, all bool) error {
	pfd, err := a.dirFD(t, p.parent)
	if errors.Is(err, errUnknown) {
		err = nil
	} else if err == nil {
		flags := uint8(0)
		if all && o.isDir() {
			flags = intentTree
		}
		if err = a.intend(t, flags, [2]fileop.ObjID{o.id}, p); err == nil {
			err = a.removePhysical(t, o, p, pfd, all)
		}
	}
	if err != nil {
		return err
	}
	a.cat.unbind(o, p)
	if len(o.names) == 0 {
		a.forgetTree(o)
	}
	return nil
}

func (a *Applier) removePhysical(t *tree, o *object, p place, pfd int, all bool) error {
	if o.isDir() {
		if all {
			return a.removeTree(t, pfd, p.name)
		}
		err := ignoreGone(a.at.Rmdir(pfd, p.name))
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			return a.moveAside(t, pfd, p.name)
		}
		return err
	}
	if len(o.names) == 1 {
		if saved, err := a.saveInstead(t, o, pfd, p.name); saved || err != nil {
			return err
		}
	}
	err := ignoreGone(a.at.Unlink(pfd, p.name))
	if errors.Is(err, unix.EISDIR) {
		return a.moveAside(t, pfd, p.name) // somebody put a directory there
	}
	return err
}

// removeObject removes every name of o.
func (a *Applier) removeObject(t *tree, o *object) error {
	for len(o.names) > 0 {
		if err := a.removeName(t, o, o.names[0], true); err != nil {
			return err
		}
	}
	if a.cat.get(o.key) != nil {
		a.forgetTree(o)
	}
	return nil
}

// clearPlace makes room where something unknown is in the way: a directory that is not
// empty is moved aside, anything else removed.
func (a *Applier) clearPlace(t *tree, pfd int, name string) error {
	if pfd == t.fd && t.parentFD < 0 && name == insideStage {
		return unix.EEXIST
	}
	st, err := a.at.Stat(pfd, name)
	if err != nil {
		return ignoreGone(err)
	}
	if st.Mode&typeBits != unix.S_IFDIR {
		return ignoreGone(a.at.Unlink(pfd, name))
	}
	err = ignoreGone(a.at.Rmdir(pfd, name))
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return a.moveAside(t, pfd, name)
	}
	return err
}

// moveAside moves somebody's files out of the way into the staging directory, where
// they stay. Soon after a power cut they are rather the work of operations the queue lost
// and will bring again: those are deleted.
func (a *Applier) moveAside(t *tree, pfd int, name string) error {
	if a.pos.Applied < a.ghostsUntil {
		return a.removeTree(t, pfd, name)
	}
	sfd, err := a.dirFD(t, zeroID)
	if err != nil {
		return err
	}
	to, err := a.freeStageName(sfd, "x-", name)
	if err != nil {
		return err
	}
	if err := a.at.Rename(pfd, name, sfd, to, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	a.count(func(s *Stats) { s.MovedAside++ })
	a.event(Event{Kind: EventMovedAside, Tree: t.Tree, Name: to})
	return nil
}

// freeStageName finds a name in the staging directory that nothing has.
func (a *Applier) freeStageName(sfd int, prefix, name string) (string, error) {
	if len(name) > 200 {
		name = name[:200]
	}
	for {
		a.asideNo++
		to := prefix + strconv.Itoa(a.asideNo) + "-" + name
		_, err := a.at.Stat(sfd, to)
		if errors.Is(err, unix.ENOENT) {
			return to, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// removeTree makes a directory disappear at once and then deletes it with all below.
func (a *Applier) removeTree(t *tree, pfd int, name string) error {
	err := ignoreGone(a.at.Rmdir(pfd, name)) // mostly empty
	if err == nil || !(errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR)) {
		return err
	}
	if errors.Is(err, unix.ENOTDIR) {
		return ignoreGone(a.at.Unlink(pfd, name)) // a link or file in the directory's place
	}
	sfd, err := a.dirFD(t, zeroID)
	if err != nil {
		return err
	}
	to, err := a.freeStageName(sfd, "t-", name)
	if err != nil {
		return err
	}
	if err := a.at.Rename(pfd, name, sfd, to, unix.RENAME_NOREPLACE); err != nil {
		return err
	}
	return a.deleteBelow(sfd, to)
}

// deleteBelow deletes name and everything below it, without following links.
func (a *Applier) deleteBelow(pfd int, name string) error {
	err := ignoreGone(a.at.Unlink(pfd, name))
	if err == nil || !(errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM)) {
		return err
	}
	if err := ignoreGone(a.at.Rmdir(pfd, name)); !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := a.at.Open(pfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	names, err := a.at.ReadDir(fd)
	if err != nil {
		return err
	}
	for _, d := range names {
		if err := a.deleteBelow(fd, d.Name); err != nil {
			return err
		}
	}
	return ignoreGone(a.at.Rmdir(pfd, name))
}
