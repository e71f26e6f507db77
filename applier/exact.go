package applier

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/failpoint"
)

// Collapse, insert and copy range read content. Applied again after a restart they must
// find the content they found the first time, although the file has changed since.
//
// So the object read is marked with the operation's number. Before a marked object
// changes (by the operation itself, often), its content is saved durably in the staging
// directory under that number; an object about to be removed is renamed there instead.
// A restart from position P puts back, for each object, the save with the smallest
// number beyond P: operations from P up to that number are absolute for the object, so
// replaying them over it changes nothing. A checkpoint beyond the number makes mark and
// save superfluous.

// maxSave is the size above which a checkpoint is cheaper than a copy, in bytes.
const maxSave = 64 << 20

type mark struct {
	seq   fileop.Seq
	saved bool
}

type save struct {
	t    *tree
	name string
	seq  fileop.Seq
}

// noteRead marks an object as read by the operation under way.
func (a *Applier) noteRead(k key) {
	if a.cfg.NoSync || failpoint.Planted(failpoint.PlantNoSave) {
		return
	}
	seq := a.pos.Applied + 1
	ms := a.marks[k]
	if len(ms) > 0 && ms[len(ms)-1].seq > a.ck.frozen.Applied {
		return // read since the last checkpoint began: that mark serves every restart before it
	}
	a.marks[k] = append(ms, mark{seq: seq})
}

// unread reports whether o's content may change without being saved.
func (a *Applier) unread(o *object) bool {
	for _, m := range a.marks[o.key] {
		if !m.saved {
			return false
		}
	}
	return true
}

// lastUnsaved is the number the save gets: the last unsaved mark's, as the content did
// not change since the first.
func (a *Applier) lastUnsaved(k key) fileop.Seq {
	var seq fileop.Seq
	for _, m := range a.marks[k] {
		if !m.saved {
			seq = m.seq
		}
	}
	return seq
}

func (a *Applier) markSaved(t *tree, k key, name string, seq fileop.Seq) {
	for i := range a.marks[k] {
		a.marks[k][i].saved = true
	}
	a.saves = append(a.saves, save{t, name, seq})
}

func saveName(id fileop.ObjID, seq fileop.Seq) string {
	return namelessName("s-", id) + "-" + strconv.FormatUint(uint64(seq), 16)
}

// parseSaveName is the inverse of saveName.
func parseSaveName(name string) (id fileop.ObjID, seq fileop.Seq, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 || parts[0] != "s" {
		return id, 0, false
	}
	var n [3]uint64
	for i, p := range parts[1:] {
		v, err := strconv.ParseUint(p, 16, 64)
		if err != nil {
			return id, 0, false
		}
		n[i] = v
	}
	return fileop.ObjID{Ino: n[0], Gen: n[1]}, fileop.Seq(n[2]), true
}

// beforeChange saves the content of a marked object.
func (a *Applier) beforeChange(t *tree, o *object, fd int) error {
	if len(a.marks) == 0 || a.unread(o) {
		return nil
	}
	seq := a.lastUnsaved(o.key)
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return err
	}
	if st.Size > maxSave && seq <= a.pos.Applied {
		return a.checkpointNow(a.ctx)
	}
	sfd, err := a.dirFD(t, zeroID)
	if err != nil {
		return err
	}
	name := saveName(o.id, seq)
	if err := a.copyOut(fd, sfd, name, st.Size); err != nil {
		return fmt.Errorf("save content for a restart: %w", err)
	}
	a.markSaved(t, o.key, name, seq)
	return nil
}

// copyOut makes a durable copy of a file, sharing its blocks where the file system can.
// It gets its name only when it is whole: an unfinished save must not be put back.
func (a *Applier) copyOut(fd, sfd int, name string, size int64) error {
	tmp := "t-" + name
	to, err := a.at.Open(sfd, tmp, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if a.at.Clone(fd, to) != nil {
		if err := a.copyData(fd, 0, to, 0, size); err != nil {
			return err
		}
	}
	if err := a.at.Fsync(to); err != nil {
		return err
	}
	if err := a.at.Rename(sfd, tmp, sfd, name, 0); err != nil {
		return err
	}
	return a.at.Fsync(sfd)
}

// saveInstead moves a marked object that is about to lose its last name into the
// staging directory.
func (a *Applier) saveInstead(t *tree, o *object, pfd int, name string) (bool, error) {
	if a.unread(o) {
		return false, nil
	}
	sfd, err := a.dirFD(t, zeroID)
	if err != nil {
		return false, err
	}
	seq := a.lastUnsaved(o.key)
	to := saveName(o.id, seq)
	if err := a.at.Rename(pfd, name, sfd, to, 0); err != nil {
		return false, err
	}
	a.markSaved(t, o.key, to, seq)
	return true, nil
}

// dropMarks forgets marks and saves no restart needs any more, as seq is durable.
func (a *Applier) dropMarks(seq fileop.Seq) {
	for k, ms := range a.marks {
		for len(ms) > 0 && ms[0].seq <= seq {
			ms = ms[1:]
		}
		if len(ms) == 0 {
			delete(a.marks, k)
		} else {
			a.marks[k] = ms
		}
	}
	kept := a.saves[:0]
	for _, s := range a.saves {
		if s.seq > seq || a.unlinkSave(s) != nil {
			kept = append(kept, s)
		}
	}
	a.saves = kept
}

func (a *Applier) unlinkSave(s save) error {
	if s.t.stageFD < 0 {
		return nil
	}
	return ignoreGone(a.at.Unlink(s.t.stageFD, s.name))
}
