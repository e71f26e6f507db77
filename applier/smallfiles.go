package applier

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/digest"
)

// wholeFiles answers the digests of small files, each whole: one query instead of one for
// each file. What cannot be opened has none; who asks looks at it by itself then.
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
		n, err := a.readWhole(t, o, buf)
		switch {
		case errors.Is(err, errUnknown):
		case err != nil:
			return nil, fmt.Errorf("read digests: %w", err)
		case n <= fileop.SmallFile:
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
