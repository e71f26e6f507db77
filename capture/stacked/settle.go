package stacked

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/fileop"
	"understudy/internal/fsx"
)

// settle decides by looking, for every request that was under way on names and
// attributes, whether it took effect. If so, its operation is given to the sinks that
// do not have it, and the request is answered as done when it comes again; if not, it is
// done then. Nothing is served yet, and nobody else changes what the kernel above holds.
// It returns what it found to be done.
func (f *fileSystem) settle() (done []string, err error) {
	for unique, n := range f.open.former {
		if n.it == nil || n.it.state.Load() == intentTold {
			continue
		}
		s := settling{f: f, it: n.it}
		took, err := s.decide()
		s.release()
		if err != nil {
			return done, fmt.Errorf("decide whether request %d, %v, took effect: %w", unique, n.it.kind, err)
		}
		if !took {
			f.open.release(n.it)
			n.it = nil
			continue
		}
		done = append(done, n.it.kind.String())
		n.it.state.Store(intentTold)
	}
	return done, nil
}

// settling is one intent being decided.
type settling struct {
	f             *fileSystem
	it            *intent
	held          []*node
	parent        *node
	parent2, node *node
	pfd, pfd2, fd int
	name, name2   string
}

func (s *settling) release() {
	for _, n := range s.held {
		s.f.fds.release(n)
	}
}

func (s *settling) hold(id uint64) (*node, int, error) {
	if id == 0 {
		return nil, -1, nil
	}
	n := s.f.nodes.get(id)
	if n == nil {
		return nil, -1, fmt.Errorf("node %d is not known", id)
	}
	fd, err := s.f.fds.hold(n)
	if err == nil {
		s.held = append(s.held, n)
	}
	return n, fd, err
}

// decide reports whether the request took effect, and if so completes it.
func (s *settling) decide() (took bool, err error) {
	var errs [3]error
	s.parent, s.pfd, errs[0] = s.hold(s.it.parent)
	s.parent2, s.pfd2, errs[1] = s.hold(s.it.parent2)
	s.node, s.fd, errs[2] = s.hold(s.it.node)
	if err := errors.Join(errs[:]...); err != nil {
		return false, err
	}
	s.name, s.name2 = s.it.names()
	var ops []*fileop.Op
	switch s.it.kind {
	case fileop.Create, fileop.Mkdir, fileop.Mknod, fileop.Symlink:
		ops, err = s.made()
	case fileop.Link:
		ops, err = s.linked()
	case fileop.Unlink, fileop.Rmdir:
		ops, err = s.removed()
	case fileop.Rename:
		ops, err = s.renamed()
	case fileop.SetXattr, fileop.RemoveXattr:
		ops, err = s.xattr()
	default:
		err = fmt.Errorf("unknown kind of request %d", s.it.kind)
	}
	if err != nil || len(ops) == 0 {
		return false, err
	}
	for i, op := range ops {
		if op.Kind != fileop.SetAttr { // which does no harm twice
			op.Token = s.it.token + uint64(i)
		}
	}
	s.f.sinks.complete(ops)
	return true, nil
}

// at identifies a name; absent is true if there is none.
func at(pfd int, name string) (v victim, absent bool, err error) {
	v, err = identify(pfd, name, true)
	return v, err == nil && v.obj.IsZero(), err
}

func (s *settling) op(kind fileop.Kind, obj fileop.ObjID) *fileop.Op {
	op := &fileop.Op{Kind: kind, Obj: obj}
	if s.parent != nil && s.name != "" {
		op.Parent, op.Name = s.parent.obj, s.name
		op.PMtime, op.Path = mtime(s.pfd), s.f.nodes.pathIn(s.parent, s.name)
	}
	return op
}

// made: a new object is there; the name was not before.
func (s *settling) made() ([]*fileop.Op, error) {
	m := &making{p: s.parent, pfd: s.pfd, name: s.name, mode: s.it.mode, acl: s.it.acl}
	if s.name == "" {
		n := s.f.nodes.find(s.it.obj)
		if n == nil || !n.handed.Load() {
			return nil, nil // made, perhaps, and gone with the process that made it
		}
		_, fd, err := s.hold(n.id)
		if err != nil {
			return nil, err
		}
		m.fd = fd
	} else {
		fd, err := unix.Openat(s.pfd, s.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		m.fd = fd
	}
	obj, _, st, err := fsx.Identify(m.fd, "")
	if err != nil {
		return nil, err
	}
	if err := m.fixMode(s.it.kind, &st); err != nil {
		return nil, err
	}
	target := ""
	if s.it.kind == fileop.Symlink {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(m.fd, "", buf)
		if err != nil {
			return nil, err
		}
		target = string(buf[:n])
	}
	op := s.op(s.it.kind, obj)
	op.Parent = s.parent.obj
	return []*fileop.Op{op}, s.f.describe(op, m, target, &st)
}

// linked: the name is there, and of this object.
func (s *settling) linked() ([]*fileop.Op, error) {
	v, absent, err := at(s.pfd, s.name)
	if err != nil || absent || v.obj != s.it.obj {
		return nil, err
	}
	s.f.fds.unpin(s.node)
	s.f.disown(s.node)
	op := s.op(fileop.Link, v.obj)
	op.Nlink = uint32(v.st.Nlink)
	return []*fileop.Op{op}, nil
}

// removed: the name is not there any more.
func (s *settling) removed() ([]*fileop.Op, error) {
	v, absent, err := at(s.pfd, s.name)
	if err != nil || !absent && v.obj == s.it.obj {
		return nil, err
	}
	s.f.nodes.unlinked(s.f.nodes.find(s.it.obj), s.parent, s.name)
	op := s.op(s.it.kind, s.it.obj)
	op.Last = s.it.last
	return []*fileop.Op{op}, nil
}

// renamed: the new name is what had the old one.
func (s *settling) renamed() ([]*fileop.Op, error) {
	v, absent, err := at(s.pfd2, s.name2)
	if err != nil || absent || v.obj != s.it.obj {
		return nil, err
	}
	f, it := s.f, s.it
	r := renaming{f: f, flags: it.flags, fromFD: s.pfd, toFD: s.pfd2, moved: it.obj, over: victim{obj: it.over, mode: it.overMode},
		from: alias{parent: s.parent, name: s.name}, to: alias{parent: s.parent2, name: s.name2}}
	exchange := it.flags&unix.RENAME_EXCHANGE != 0
	f.nodes.renamed(f.nodes.find(it.obj), f.nodes.find(it.over), r.from, r.to, exchange)
	ops := r.ops(it.last, it.flags&unix.RENAME_WHITEOUT != 0)
	if exchange && s.parent != s.parent2 { // xfs changes the times of directories
		ops = append(ops, s.state(it.obj), s.state(it.over))
	}
	return compactOps(ops), nil
}

// state is the full state of an object the kernel knows, nil if it does not.
func (s *settling) state(obj fileop.ObjID) *fileop.Op {
	n := s.f.nodes.find(obj)
	if n == nil {
		return nil
	}
	_, fd, err := s.hold(n.id)
	var st unix.Stat_t
	if err != nil || unix.Fstat(fd, &st) != nil {
		return nil
	}
	attr := fsx.AttrOf(&st)
	return &fileop.Op{Kind: fileop.SetAttr, Obj: obj, Attr: &attr, Path: s.f.nodes.path(n)}
}

func compactOps(ops []*fileop.Op) (out []*fileop.Op) {
	for _, op := range ops {
		if op != nil {
			out = append(out, op)
		}
	}
	return out
}

// xattr: an attribute that was not there is, or the other way round.
func (s *settling) xattr() ([]*fileop.Op, error) {
	value, err := fsx.Xattr(s.fd, s.name)
	if errors.Is(err, unix.ENODATA) {
		value, err = nil, nil
		if s.it.kind == fileop.SetXattr {
			return nil, nil
		}
	} else if s.it.kind == fileop.RemoveXattr {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	path := s.f.nodes.path(s.node)
	op := &fileop.Op{Kind: s.it.kind, Obj: s.it.obj, Path: path, Xattrs: []fileop.Xattr{{Name: s.name, Value: value}}}
	return compactOps([]*fileop.Op{op, s.state(s.it.obj)}), nil
}

// complete gives the operations of one request to every sink that does not have them.
func (s *sinks) complete(ops []*fileop.Op) {
	for _, t := range s.taps() {
		if !t.begin() {
			continue
		}
		log, _ := t.sink.(capture.Resumed)
		for _, op := range ops {
			if log == nil || op.Token == 0 || !log.Logged(op.Token) {
				t.sink.Put(op)
			}
		}
		t.end()
	}
	s.ops.Add(uint64(len(ops)))
}
