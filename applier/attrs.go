package applier

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

const (
	typeBits = unix.S_IFMT
	modeBits = 0o7777

	defaultACL = "system.posix_acl_default"
	accessACL  = "system.posix_acl_access"
)

// attrsDiffer reports whether setAttrs would change anything but extended attributes.
func attrsDiffer(st *unix.Stat_t, at *fileop.Attr) bool {
	return st.Uid != at.UID || st.Gid != at.GID || (st.Mode&typeBits != unix.S_IFLNK && st.Mode&modeBits != at.Mode&modeBits)
}

// setAttrs gives the object behind fd, which is as st says, owner, extended attributes
// and mode; not its time. complete: attributes not in xs are removed. The order matters:
// a new owner clears set-id bits and capabilities, an ACL changes the mode.
func (a *Applier) setAttrs(fd int, st *unix.Stat_t, at *fileop.Attr, xs []fileop.Xattr, complete bool) error {
	restat := false
	if st.Uid != at.UID || st.Gid != at.GID {
		if err := a.permit(func() error { return a.at.Chown(fd, at.UID, at.GID) }); err != nil {
			return err
		}
		restat = true
	}
	if complete {
		removed, err := a.removeOthers(fd, xs)
		if err != nil {
			return err
		}
		restat = restat || removed
	}
	for _, x := range xs {
		if err := a.permit(func() error { return a.at.SetXattr(fd, x) }); err != nil {
			return err
		}
		restat = restat || x.Name == accessACL
	}
	if st.Mode&typeBits == unix.S_IFLNK {
		return nil
	}
	mode := st.Mode
	if restat {
		now, err := a.at.Stat(fd, "")
		if err != nil {
			return err
		}
		mode = now.Mode
	}
	if mode&modeBits == at.Mode&modeBits {
		return nil
	}
	return a.permit(func() error { return a.at.Chmod(fd, at.Mode) })
}

// removeOthers removes extended attributes that are not in xs.
func (a *Applier) removeOthers(fd int, xs []fileop.Xattr) (removed bool, err error) {
	var have []fileop.Xattr
	err = a.permit(func() (err error) {
		have, err = a.at.Xattrs(fd)
		return err
	})
	if err != nil {
		return false, err
	}
	for _, h := range have {
		if findXattr(xs, h.Name) == nil {
			if err := a.permit(func() error { return a.at.RemoveXattr(fd, h.Name) }); err != nil {
				return removed, err
			}
			removed = true
		}
	}
	return removed, nil
}

func findXattr(xs []fileop.Xattr, name string) *fileop.Xattr {
	for i := range xs {
		if xs[i].Name == name {
			return &xs[i]
		}
	}
	return nil
}

// permit makes a call and lets pass that this process may not do it or the file system
// cannot hold it: an applier without root's rights carries what it can. It is counted,
// and said once. A refusal counts when it comes twice.
func (a *Applier) permit(call func() error) error {
	err := call()
	if isRefusal(err) {
		err = call()
	}
	if isRefusal(err) {
		a.notPermitted(err)
		return nil
	}
	return err
}

func (a *Applier) notPermitted(err error) {
	a.count(func(s *Stats) { s.NotPermitted++ })
	if !a.saidNot {
		a.saidNot = true
		a.event(Event{Kind: EventNotPermitted, Seq: a.pos.Applied + 1, Err: err})
	}
}

func isRefusal(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)
}

func hasDefaultACL(xs []fileop.Xattr) bool { return findXattr(xs, defaultACL) != nil }

func (a *Applier) opSetAttr(t *tree, op *fileop.Op) error {
	o, fd, done, err := a.known(t, op.Obj)
	if err != nil {
		return err
	}
	defer done()
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return err
	}
	if err := a.setAttrs(fd, &st, op.Attr, nil, false); err != nil {
		return err
	}
	if op.Mtime.IsZero() {
		a.setMtime(o, op.Attr.Mtime)
	}
	return nil
}

func (a *Applier) opXattr(t *tree, op *fileop.Op) error {
	o, fd, done, err := a.known(t, op.Obj)
	if err != nil {
		return err
	}
	defer done()
	for _, x := range op.Xattrs {
		err := a.permit(func() error {
			if op.Kind == fileop.SetXattr {
				return a.at.SetXattr(fd, x)
			}
			return a.at.RemoveXattr(fd, x.Name)
		})
		if err != nil {
			return err
		}
		if o.isDir() && strings.EqualFold(x.Name, defaultACL) {
			o.defACL = op.Kind == fileop.SetXattr
			a.cat.put(o)
		}
	}
	return nil
}
