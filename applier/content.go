package applier

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// zeroBlock is written where a file system cannot punch or zero a range.
var zeroBlock [64 << 10]byte

func (a *Applier) opWrite(t *tree, op *fileop.Op) error {
	o, fd, err := a.contentFD(t, op.Obj)
	if err != nil {
		return err
	}
	if err := a.at.Write(fd, op.Data, op.Off); err != nil {
		return err
	}
	a.wrote(len(op.Data))
	a.setMtime(o, op.Mtime)
	return nil
}

func (a *Applier) opTruncate(t *tree, op *fileop.Op) error {
	o, fd, err := a.contentFD(t, op.Obj)
	if err != nil {
		return err
	}
	if err := a.at.Truncate(fd, op.Len); err != nil {
		return err
	}
	a.setMtime(o, op.Mtime)
	return nil
}

// contentFD opens a known file whose content is about to change.
func (a *Applier) contentFD(t *tree, id fileop.ObjID) (*object, int, error) {
	o := a.cat.get(key{t.Tree, id})
	if o == nil {
		return nil, -1, errUnknown
	}
	fd, err := a.fileFD(t, o)
	if err != nil {
		return nil, -1, err
	}
	return o, fd, a.beforeChange(t, o, fd)
}

func (a *Applier) wrote(n int) {
	a.ck.bytes += int64(n)
	a.count(func(s *Stats) { s.Bytes += uint64(n) })
}

func (a *Applier) opFallocate(t *tree, op *fileop.Op) error {
	shifts := op.Flags&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0
	if shifts {
		a.noteRead(key{t.Tree, op.Obj})
	}
	o, fd, err := a.contentFD(t, op.Obj)
	if err != nil {
		return err
	}
	err = a.at.Fallocate(fd, op.Flags, op.Off, op.Len)
	if errors.Is(err, unix.EOPNOTSUPP) && !shifts {
		err = a.imitate(fd, op)
	}
	if err != nil {
		return err
	}
	a.setMtime(o, op.Mtime)
	return nil
}

// imitate does what fallocate should have done on a file system that cannot.
func (a *Applier) imitate(fd int, op *fileop.Op) error {
	st, err := a.at.Stat(fd, "")
	if err != nil {
		return err
	}
	end := op.Off + op.Len
	if op.Flags&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) != 0 {
		for off := op.Off; off < min(end, st.Size); {
			n := min(int64(len(zeroBlock)), min(end, st.Size)-off)
			if err := a.at.Write(fd, zeroBlock[:n], off); err != nil {
				return err
			}
			off += n
		}
	}
	if op.Flags&unix.FALLOC_FL_KEEP_SIZE == 0 && end > st.Size {
		return a.at.Truncate(fd, end)
	}
	return nil
}

// opCopyRange copies what both sides hold at this place in the order.
func (a *Applier) opCopyRange(t *tree, op *fileop.Op) error {
	to := a.cat.get(key{t.Tree, op.Obj2})
	if to == nil {
		return errUnknown
	}
	from := a.cat.get(key{t.Tree, op.Obj})
	if from == nil {
		// The destination is here and will not get this content: only a mirror can help.
		a.needRemirror("copy from a file not known here")
		return errUnknown
	}
	a.noteRead(from.key)
	ffd, err := a.fileFD(t, from)
	if err != nil {
		return err
	}
	_, tfd, err := a.contentFD(t, op.Obj2)
	if err != nil {
		return err
	}
	if op.Off2 > math.MaxInt64-op.Len {
		return fmt.Errorf("%w: copy beyond the largest offset", ErrProtocol)
	}
	if err := a.copyData(ffd, op.Off, tfd, op.Off2, op.Len); err != nil {
		return err
	}
	a.wrote(int(min(op.Len, math.MaxInt32)))
	a.setMtime(to, op.Mtime)
	return nil
}

// copyData copies n bytes, by hand where the kernel does not.
func (a *Applier) copyData(from int, fromOff int64, to int, toOff, n int64) error {
	err := a.at.CopyRange(from, fromOff, to, toOff, n)
	if err == nil || !(errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		return err
	}
	buf := make([]byte, min(n, 1<<20))
	for n > 0 {
		got, err := a.at.Read(from, buf[:min(n, int64(len(buf)))], fromOff)
		if err != nil || got == 0 {
			return err
		}
		if err := a.at.Write(to, buf[:got], toOff); err != nil {
			return err
		}
		n, fromOff, toOff = n-int64(got), fromOff+int64(got), toOff+int64(got)
	}
	return nil
}
