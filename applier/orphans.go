package applier

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// An orphan is treated by an operation in the queue that was logged while the source's
// directory was locked and had nothing under the name. So there is no list that could be
// incomplete: each name was looked for, and what happened to it before and after is
// applied before and after.

// treatOrphan removes what the target has under a name the source does not have, or moves
// it to the directory for orphans. What the catalog knows is no orphan, and neither is
// anything with a mount in it.
func (a *Applier) treatOrphan(t *tree, q *fileop.Probe) (r fileop.ProbeReply, err error) {
	r.Treated = fileop.Spared
	fd, err := a.dirFD(t, q.Obj)
	if errors.Is(err, errUnknown) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("open directory: %w", err)
	}
	r.Known = true
	if t.hidden(q.Obj, q.Name) || !a.cat.child(t.Tree, place{q.Obj, q.Name}).IsZero() {
		return r, nil
	}
	m := extent{mount: fsx.MountID(fd)}
	if err := m.look(a, fd, q.Name, 0); err != nil {
		return r, ignoreGone(err)
	}
	policy := a.orphanPolicy()
	if age := max(policy.MinAge, time.Duration(q.MinAge)*time.Second); age > 0 && time.Since(m.newest) < age {
		return r, nil
	}
	r.There, r.Files, r.Dirs, r.Bytes = true, m.files, m.dirs, m.bytes
	if err := a.keepMtime(t, q.Obj); err != nil {
		return r, fmt.Errorf("keep time: %w", err)
	}
	if r.Treated, err = a.dispose(t, fd, q.Name, m.dirs > 0, policy.Dir); err != nil {
		r.Treated = fileop.Spared
		return r, err
	}
	a.log.Info("orphan treated", "removed", r.Treated == fileop.Removed, "name", q.Name, "files", m.files, "bytes", m.bytes)
	return r, a.settle()
}

// OrphanPolicy is what the target does with orphans, whoever asks (B7.38).
type OrphanPolicy struct {
	Dir    string        // where they are moved to, with their paths; "": they are removed
	MinAge time.Duration // those changed more recently stay
}

func (a *Applier) orphanPolicy() OrphanPolicy {
	if a.cfg.Orphans == nil {
		return OrphanPolicy{}
	}
	return a.cfg.Orphans()
}

// dispose removes the name, or moves it to the directory to.
func (a *Applier) dispose(t *tree, fd int, name string, dir bool, to string) (fileop.Treated, error) {
	switch {
	case to != "":
		if err := a.setAside(t, fd, name, to); err != nil {
			return fileop.Spared, fmt.Errorf("move orphan to %s: %w", to, err)
		}
		return fileop.SetAside, nil
	case dir:
		if err := a.removeTree(t, fd, name); err != nil {
			return fileop.Spared, fmt.Errorf("remove orphan: %w", err)
		}
	default:
		if err := ignoreGone(a.at.Unlink(fd, name)); err != nil {
			return fileop.Spared, fmt.Errorf("remove orphan: %w", err)
		}
	}
	return fileop.Removed, nil
}

// maxOrphanDepth bounds the directories inside each other that are looked at.
const maxOrphanDepth = 1000

// errMount: a file system is mounted inside an orphan, or it is too deep to look at.
var errMount = errors.New("something is mounted in it, or it is too deep")

// extent is everything below a name, reached through no link.
type extent struct {
	mount              uint64
	files, dirs, bytes uint64
	newest             time.Time // modification time
}

func (m *extent) look(a *Applier, pfd int, name string, depth int) error {
	st, err := a.at.Stat(pfd, name)
	if err != nil {
		return err
	}
	if at := time.Unix(st.Mtim.Sec, st.Mtim.Nsec); at.After(m.newest) {
		m.newest = at
	}
	if st.Mode&typeBits != unix.S_IFDIR {
		m.files++
		if st.Mode&typeBits == unix.S_IFREG {
			m.bytes += uint64(st.Size)
		}
		return nil
	}
	m.dirs++
	fd, err := a.at.Open(pfd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.EXDEV) {
		return errMount
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if fsx.MountID(fd) != m.mount || depth >= maxOrphanDepth {
		return errMount
	}
	names, err := a.at.ReadDir(fd)
	if err != nil {
		return err
	}
	for _, d := range names {
		if err := m.look(a, fd, d.Name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// setAside moves a name below dir, with its path relative to the target directory. An
// older orphan of that name stays; the new one gets a number.
func (a *Applier) setAside(t *tree, pfd int, name, dir string) error {
	top, err := os.Readlink(fsx.ProcPath(t.fd))
	if err != nil {
		return err
	}
	at, err := os.Readlink(fsx.ProcPath(pfd))
	if err != nil {
		return err
	}
	rel, ok := strings.CutPrefix(at, strings.TrimSuffix(top, "/"))
	if !ok {
		return errors.New("the directory left the target path")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := a.outside(dir); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	rel = filepath.Join(".", rel)
	if err := root.MkdirAll(rel, 0o700); err != nil {
		return err
	}
	to, err := root.Open(rel)
	if err != nil {
		return err
	}
	defer to.Close()
	free := name
	for i := 1; ; i++ {
		err := a.at.Rename(pfd, name, int(to.Fd()), free, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EXDEV) {
			return errors.New("it is on another file system than the target path")
		}
		if !errors.Is(err, unix.EEXIST) || i > 10_000 {
			return err
		}
		suffix := "." + strconv.Itoa(i)
		free = clipped(name, fileop.MaxName-len(suffix)) + suffix
	}
}

// outside refuses a directory for orphans that lies inside a target directory.
func (a *Applier) outside(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for _, t := range a.trees {
		top, err := os.Readlink(fsx.ProcPath(t.fd))
		if err != nil {
			return err
		}
		if real == top || strings.HasPrefix(real, strings.TrimSuffix(top, "/")+"/") {
			return fmt.Errorf("it lies inside the target path %s", top)
		}
	}
	return nil
}
