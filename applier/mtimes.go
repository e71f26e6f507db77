package applier

import (
	"context"
	"errors"

	"understudy/fileop"
)

// Modification times are set late: each change of content or names changes them again.
// They are settled when no more records wait, at a checkpoint, a pause or a stop, and
// before 1024 wait.

// setMtime notes the modification time o must have at rest.
func (a *Applier) setMtime(o *object, t fileop.Time) {
	switch {
	case t.IsZero() || o == nil:
	case o.isDir():
		a.pendDirs[o.key] = t
	default:
		a.pend[o.key] = t
	}
}

// setDirMtime notes the time of a directory whose names an operation changed. A zero
// time (mirror records) leaves what keepMtime noted.
func (a *Applier) setDirMtime(t *tree, dir fileop.ObjID, mtime fileop.Time) {
	if !mtime.IsZero() && !dir.IsZero() {
		a.pendDirs[key{t.Tree, dir}] = mtime
	}
}

// keepMtime notes the present time of a directory, so that a change of its names that
// brings no time of its own does not show.
func (a *Applier) keepMtime(t *tree, dir fileop.ObjID) error {
	k := key{t.Tree, dir}
	if _, ok := a.pendDirs[k]; ok || dir.IsZero() {
		return nil
	}
	fd, err := a.dirFD(t, dir)
	if err != nil {
		return err
	}
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return err
	}
	a.pendDirs[k] = fileop.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
	return nil
}

// keepFileMtime notes the present time of a file, so that a block of a mirror, which brings no
// time of its own, does not show where the mirror record that ends the file never comes.
func (a *Applier) keepFileMtime(o *object, fd int) error {
	if _, ok := a.pend[o.key]; ok {
		return nil
	}
	st, err := a.at.Stat(fd, "")
	if err == nil {
		a.setMtime(o, fileop.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)})
	}
	return err
}

func (a *Applier) pending() int { return len(a.pend) + len(a.pendDirs) }

// settle sets all waiting modification times, directories last. After an error the rest
// still waits.
func (a *Applier) settle() error {
	for k, mtime := range a.pend {
		if err := a.settleOne(k, mtime); err != nil {
			return err
		}
		delete(a.pend, k)
	}
	for k, mtime := range a.pendDirs {
		if err := a.settleOne(k, mtime); err != nil {
			return err
		}
		delete(a.pendDirs, k)
	}
	a.dirs.trim()
	return nil
}

// settleAll settles as often as it takes. Times that can never be set are given up.
func (a *Applier) settleAll(ctx context.Context) error {
	err := a.retrying(ctx, "set modification times", a.settle)
	var d *dropError
	if errors.As(err, &d) {
		clear(a.pend)
		clear(a.pendDirs)
		a.needRemirror("modification times could not be set")
		return nil
	}
	return err
}

func (a *Applier) settleOne(k key, mtime fileop.Time) error {
	t := a.trees[k.tree]
	if t == nil {
		return nil
	}
	fd, name, err := a.whereIs(t, k)
	if err == nil {
		err = a.permit(func() error { return a.at.Utimes(fd, name, mtime) })
	}
	if errors.Is(err, errUnknown) || isGone(err) {
		return nil
	}
	return err
}

// whereIs gives a descriptor and name for a call that takes both; the name is empty if
// the descriptor is the object's own.
func (a *Applier) whereIs(t *tree, k key) (int, string, error) {
	if fd, ok := a.files.get(k); ok {
		return fd, "", nil
	}
	o := a.cat.get(k)
	if o == nil {
		return -1, "", errUnknown
	}
	if o.isDir() {
		fd, err := a.dirFD(t, k.id)
		return fd, "", err
	}
	if len(o.names) == 0 {
		return -1, "", errUnknown
	}
	fd, err := a.dirFD(t, o.names[0].parent)
	return fd, o.names[0].name, err
}
