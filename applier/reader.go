package applier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/fsx"
)

// Reader reads one tree of a replica beside Run as the source would be read: objects have
// the source's identities, and what others put there does not show. Its methods may be
// called by several goroutines at once. Each sees the replica between two records, and all
// those within Hold between the same two. ErrUnknown: there is no such object now.
// ErrClosed: nothing is applied any more.
type Reader struct {
	a *Applier
	t *tree
}

// ErrUnknown: the replica does not hold what is asked for.
var ErrUnknown = errUnknown

// ErrNotWhole: the replica is no past moment of its source now.
var ErrNotWhole = errors.New("the replica is no past moment of its source now")

// Reader reads tree no.
func (a *Applier) Reader(no uint32) (*Reader, error) {
	t, err := a.tree(no)
	if err != nil {
		return nil, err
	}
	return &Reader{a, t}, nil
}

// Hold calls f while nothing is applied. It may be nested.
func (r *Reader) Hold(ctx context.Context, f func() error) error {
	done, err := r.a.still(ctx)
	if err != nil {
		return err
	}
	defer done()
	return f()
}

// look calls f while nothing is applied and nobody else looks.
func (r *Reader) look(f func() error) error {
	return r.Hold(context.Background(), func() error {
		r.a.quiet.look.Lock()
		defer r.a.quiet.look.Unlock()
		err := f()
		if err == nil {
			err = r.a.cat.err
		}
		if isGone(err) {
			err = fmt.Errorf("%w: %w", errUnknown, err)
		}
		if errors.Is(err, errUnknown) && !r.a.pos.Usable() {
			err = ErrNotWhole // it may be missing here alone
		}
		return err
	})
}

// State is the position, the identity of the root directory, and what has no name now.
func (r *Reader) State() (pos Position, root fileop.ObjID, nameless []fileop.ObjID, err error) {
	err = r.look(func() error {
		pos, root = r.a.pos, r.t.Source
		for _, id := range r.a.cat.children(r.t.Tree, fileop.ObjID{}) {
			nameless = append(nameless, id)
		}
		return nil
	})
	return pos, root, nameless, err
}

// Root is the identity of the root directory.
func (r *Reader) Root() (id fileop.ObjID, err error) {
	err = r.look(func() error { id = r.t.Source; return nil })
	return id, err
}

// Self describes an object; its Name is "".
func (r *Reader) Self(id fileop.ObjID) (e fileop.Entry, err error) {
	err = r.look(func() error { e, err = r.describe(id); return err })
	return e, err
}

// Child describes what has a name in a directory.
func (r *Reader) Child(dir fileop.ObjID, name string) (e fileop.Entry, err error) {
	err = r.look(func() error {
		id := r.a.cat.child(r.t.Tree, place{dir, name})
		if id.IsZero() || dir.IsZero() {
			return errUnknown
		}
		e, err = r.describe(id)
		e.Name = name
		return err
	})
	return e, err
}

// Lookup describes what is at a path relative to the root.
func (r *Reader) Lookup(path string) (e fileop.Entry, err error) {
	err = r.look(func() error {
		id, name := r.t.Source, ""
		for rest := path; rest != ""; {
			name, rest, _ = strings.Cut(rest, "/")
			if id = r.a.cat.child(r.t.Tree, place{id, name}); id.IsZero() {
				return errUnknown
			}
		}
		e, err = r.describe(id)
		e.Name = name
		return err
	})
	return e, err
}

// Names lists a directory, in no order.
func (r *Reader) Names(dir fileop.ObjID) (names []string, err error) {
	err = r.look(func() error {
		o := r.a.cat.get(key{r.t.Tree, dir})
		if o == nil || !o.isDir() {
			return errUnknown
		}
		for name := range r.a.cat.children(r.t.Tree, dir) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// Path is where an object is, relative to the root; of several names any.
func (r *Reader) Path(id fileop.ObjID) (path string, err error) {
	err = r.look(func() error {
		for range maxDepth {
			if id == r.t.Source {
				return nil
			}
			o := r.a.cat.get(key{r.t.Tree, id})
			if o == nil || len(o.names) == 0 || o.names[0].parent.IsZero() {
				return errUnknown
			}
			if path = o.names[0].name + "/" + path; len(path) > 16*unix.PathMax {
				break
			}
			id = o.names[0].parent
		}
		return unix.ENAMETOOLONG
	})
	return strings.TrimSuffix(path, "/"), err
}

// describe looks at an object. Modification times that are still to be set count as set.
func (r *Reader) describe(id fileop.ObjID) (e fileop.Entry, err error) {
	o, fd, done, err := r.a.known(r.t, id)
	if err != nil {
		return e, err
	}
	defer done()
	st, err := r.a.at.Stat(fd, "")
	if err != nil {
		return e, fmt.Errorf("look at object: %w", err)
	}
	e = fileop.Entry{Obj: id, Attr: fsx.AttrOf(&st), Size: st.Size, Nlink: uint32(st.Nlink), Ctime: fsx.TimeOf(st.Ctim)}
	for _, due := range []map[key]fileop.Time{r.a.pend, r.a.pendDirs} {
		if at, ok := due[o.key]; ok {
			e.Attr.Mtime = at
		}
	}
	if e.Xattrs, err = r.a.at.Xattrs(fd); err != nil && o.kind != unix.S_IFLNK {
		return e, fmt.Errorf("read extended attributes: %w", err)
	}
	if o.kind != unix.S_IFLNK {
		return e, nil
	}
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", b[:])
	if err != nil {
		return e, fmt.Errorf("read link: %w", err)
	}
	e.Target = string(b[:n])
	return e, nil
}

// ReplicaFile is a regular file of a replica, open for reading.
type ReplicaFile struct {
	r  *Reader
	id fileop.ObjID
	fd int
}

// File opens a regular file.
func (r *Reader) File(id fileop.ObjID) (f *ReplicaFile, err error) {
	err = r.look(func() error {
		o := r.a.cat.get(key{r.t.Tree, id})
		if o == nil || !o.isReg() {
			return errUnknown
		}
		fd, done, err := r.a.anyFD(r.t, o)
		if err != nil {
			return err
		}
		defer done()
		own, err := unix.Open(fsx.ProcPath(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open file: %w", err)
		}
		f = &ReplicaFile{r, id, own}
		return nil
	})
	return f, err
}

// Self describes the file; its Name is "".
func (f *ReplicaFile) Self() (fileop.Entry, error) { return f.r.Self(f.id) }

// ReadAt reads as io.ReaderAt does.
func (f *ReplicaFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.a.at.Read(f.fd, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// Data finds the next range at or after off that is not a hole; io.EOF: there is none.
func (f *ReplicaFile) Data(off int64) (start, end int64, err error) {
	if start, err = unix.Seek(f.fd, off, unix.SEEK_DATA); err == nil {
		end, err = unix.Seek(f.fd, start, unix.SEEK_HOLE)
	}
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find data at byte %d: %w", off, err)
	}
	return start, end, nil
}

// Shifts counts the operations that moved or cut the file's content since somebody listens.
func (f *ReplicaFile) Shifts() uint64 {
	return f.r.a.listen.cutsOf(key{f.r.t.Tree, f.id})
}

// Close releases the file.
func (f *ReplicaFile) Close() error { return unix.Close(f.fd) }
