package applier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/digest"
)

// readings are the digests of small files that are read while their directory is looked at,
// one for each entry.
type readings struct {
	sums  []fileop.Sum
	buf   []byte
	files int   // that may still be read
	left  int64 // bytes
}

func newReadings() *readings {
	return &readings{buf: make([]byte, fileop.SmallFile), files: fileop.FilesMax, left: fileop.ContentMax}
}

// digest is that of a directory with what was read of it.
func (c *readings) digest(entries []fileop.TargetEntry) fileop.Sum {
	if c == nil {
		return digest.Dir(entries)
	}
	return digest.Content(entries, c.sums)
}

// read reads a known small file and adds the digest of its content, or zero. opened: its
// extended attributes are told, too.
func (c *readings) read(a *Applier, dirfd int, e *fileop.TargetEntry) (opened bool, err error) {
	if e.Obj.IsZero() || e.Attr.Mode&typeBits != unix.S_IFREG || e.Size == 0 || e.Size > fileop.SmallFile || c.files == 0 || c.left < e.Size {
		c.sums = append(c.sums, fileop.Sum{})
		return false, nil
	}
	fd, err := a.openQuietly(dirfd, e.Name)
	if errors.Is(err, unix.ENOENT) {
		return false, err
	}
	if err != nil { // who asks looks at it by itself
		c.sums = append(c.sums, fileop.Sum{})
		return false, nil
	}
	defer unix.Close(fd)
	if e.Xattrs, err = a.xattrSum(fd); err != nil {
		return false, err
	}
	c.files, c.left = c.files-1, c.left-e.Size
	n, err := a.at.Read(fd, c.buf[:e.Size], 0)
	var sum fileop.Sum
	if err == nil && int64(n) == e.Size {
		sum = digest.Block(c.buf[:n])
	}
	c.sums = append(c.sums, sum)
	return true, nil
}

// openQuietly opens a file for reading and, where that is allowed, leaves its access time
// alone.
func (a *Applier) openQuietly(dirfd int, name string) (int, error) {
	fd, err := a.at.Open(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		return a.at.Open(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	return fd, err
}

// xattrSum is the digest of the extended attributes of a file that is open for reading.
func (a *Applier) xattrSum(fd int) (fileop.Sum, error) {
	n, err := unix.Flistxattr(fd, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return fileop.Sum{}, nil
	}
	if err != nil {
		return fileop.Sum{}, err
	}
	xs, err := a.at.Xattrs(fd)
	return digest.Xattrs(xs), err
}

// wholeFiles answers the digests of small files, each whole: one query instead of one for
// each file. What cannot be read has none; who asks looks at it by itself then, and is told
// why.
func (a *Applier) wholeFiles(t *tree, ids []fileop.ObjID) ([]fileop.Sum, error) {
	if len(ids) > fileop.FilesMax {
		return nil, fmt.Errorf("%w: digests of %d files", ErrProtocol, len(ids))
	}
	buf := make([]byte, fileop.SmallFile+1)
	sums := make([]fileop.Sum, len(ids))
	for i, id := range ids {
		o := a.cat.get(key{t.Tree, id})
		if o == nil || !o.isReg() {
			continue
		}
		if n, err := a.readWhole(t, o, buf); err == nil && n <= fileop.SmallFile {
			sums[i] = digest.Block(buf[:n])
		}
	}
	return sums, nil
}

// readWhole reads as much of a file as fits. It is opened for this alone, so that a look at
// everything does not push out the files that are being written.
func (a *Applier) readWhole(t *tree, o *object, buf []byte) (int, error) {
	fd, open := a.files.get(o.key)
	if !open {
		if len(o.names) == 0 {
			return 0, errUnknown
		}
		pfd, err := a.dirFD(t, o.names[0].parent)
		if err != nil {
			return 0, err
		}
		if fd, err = a.openKnown(pfd, o.names[0].name, o, unix.O_RDONLY|unix.O_NONBLOCK); err != nil {
			return 0, err
		}
		defer unix.Close(fd)
	}
	return a.at.Read(fd, buf, 0)
}
