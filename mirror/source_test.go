package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture/lower"
	"understudy/fileop"
	"understudy/internal/digest"
	"understudy/internal/fsx"
)

// lowerTree makes a Tree of a lower.Tree.
type lowerTree struct{ *lower.Tree }

func (t lowerTree) Dir(e fileop.Entry) (Dir, error) {
	d, err := t.Tree.Dir(e)
	if err != nil {
		return nil, err
	}
	return lowerDir{d}, nil
}

func (t lowerTree) File(e fileop.Entry) (File, error) {
	f, err := t.Tree.File(e)
	if err != nil {
		return nil, err
	}
	return f, nil
}

type lowerDir struct{ *lower.Dir }

func (d lowerDir) OpenEntry(name string) (fileop.Entry, File, error) {
	e, f, err := d.Dir.OpenEntry(name)
	if f == nil {
		return e, nil, err
	}
	return e, f, err
}

// locks are those of the simulated capture.
type locks struct {
	mu     sync.Mutex
	of     map[fileop.ObjID]*sync.Mutex
	shifts map[fileop.ObjID]uint64
}

func (l *locks) get(id fileop.ObjID) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[id] == nil {
		l.of[id] = &sync.Mutex{}
	}
	return l.of[id]
}

func (l *locks) LockDir(id fileop.ObjID) func() {
	m := l.get(id)
	m.Lock()
	return m.Unlock
}

func (l *locks) LockFile(id fileop.ObjID) func() { return l.LockDir(id) }

func (l *locks) Shifts(id fileop.ObjID) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shifts[id]
}

// source is a real directory with a simulated capture: each change is made and put
// under the locks of its objects.
type source struct {
	t     testing.TB
	dir   string
	tree  Tree
	locks *locks
	world sync.RWMutex // a directory that moves changes paths: nobody else acts then
	sinks []*Border
	token atomic.Uint64
}

func newSource(t testing.TB) *source {
	dir, err := os.MkdirTemp(os.Getenv("MIRROR_TEST_DIR"), "source")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &locks{of: map[fileop.ObjID]*sync.Mutex{}, shifts: map[fileop.ObjID]uint64{}}
	tree := lower.New(fd, l)
	unix.Close(fd)
	return &source{t: t, dir: dir, tree: lowerTree{tree}, locks: l}
}

func (s *source) close() {
	s.tree.(lowerTree).Close()
	os.RemoveAll(s.dir)
}

func (s *source) path(rel string) string { return filepath.Join(s.dir, rel) }

func (s *source) put(op *fileop.Op) {
	op.Token = s.token.Add(1)
	for _, b := range s.sinks {
		b.Put(op)
	}
}

func (s *source) id(rel string) (fileop.ObjID, unix.Stat_t, bool) {
	id, _, st, err := fsx.Identify(unix.AT_FDCWD, s.path(rel))
	return id, st, err == nil
}

// find is id as the kernel finds a name: not while the directory changes.
func (s *source) find(rel string) (fileop.ObjID, unix.Stat_t, bool) {
	if rel == "" {
		return s.id(rel)
	}
	dir, _ := split(rel)
	parent, _, ok := s.find(dir)
	if !ok {
		return s.id(rel)
	}
	defer s.lock([]fileop.ObjID{parent}, nil)()
	return s.id(rel)
}

func (s *source) attr(rel string) (*fileop.Attr, fileop.Time) {
	_, st, _ := s.id(rel)
	a := fsx.AttrOf(&st)
	return &a, a.Mtime
}

// lock takes directories, then files, each in the order of identities.
func (s *source) lock(dirs, files []fileop.ObjID) func() {
	var held []func()
	seen := map[fileop.ObjID]bool{{}: true}
	for _, group := range [][]fileop.ObjID{dirs, files} {
		sort.Slice(group, func(i, j int) bool {
			a, b := group[i], group[j]
			return a.Ino < b.Ino || a.Ino == b.Ino && a.Gen < b.Gen
		})
		for _, id := range group {
			if !seen[id] {
				seen[id] = true
				held = append(held, s.locks.LockDir(id))
			}
		}
	}
	return func() {
		for i := len(held) - 1; i >= 0; i-- {
			held[i]()
		}
	}
}

// in runs f under the lock of the directory of rel.
func (s *source) in(rel string, f func(parent fileop.ObjID, dir, name string)) {
	s.world.RLock()
	defer s.world.RUnlock()
	dir, name := split(rel)
	parent, _, ok := s.find(dir)
	if !ok {
		return
	}
	defer s.lock([]fileop.ObjID{parent}, nil)()
	f(parent, dir, name)
}

// make creates something by f, which is a system call, and puts op.
func (s *source) make(rel string, kind fileop.Kind, data []byte, f func(path string) error) {
	s.in(rel, func(parent fileop.ObjID, dir, name string) {
		if f(s.path(rel)) != nil {
			return
		}
		id, _, _ := s.id(rel)
		a, _ := s.attr(rel)
		_, pm := s.attr(dir)
		s.put(&fileop.Op{Kind: kind, Obj: id, Parent: parent, Name: name, Data: data, Attr: a, PMtime: pm, Path: rel, Nlink: 1})
	})
}

func (s *source) create(rel string) {
	s.make(rel, fileop.Create, nil, func(p string) error {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			f.Close()
		}
		return err
	})
}

func (s *source) mkdir(rel string) {
	s.make(rel, fileop.Mkdir, nil, func(p string) error { return os.Mkdir(p, 0o755) })
}

func (s *source) symlink(rel, target string) {
	s.make(rel, fileop.Symlink, []byte(target), func(p string) error { return os.Symlink(target, p) })
}

func (s *source) mkfifo(rel string) {
	s.make(rel, fileop.Mknod, nil, func(p string) error { return unix.Mkfifo(p, 0o600) })
}

// file runs f on an open file under its lock and puts what it returns.
func (s *source) file(rel string, f func(fd int, op *fileop.Op) error) {
	s.world.RLock()
	defer s.world.RUnlock()
	fd, err := unix.Open(s.path(rel), unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	s.find(rel) // whoever made it has put that by now
	id, _, st, err := fsx.Identify(fd, "")
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	defer s.lock(nil, []fileop.ObjID{id})()
	op := &fileop.Op{Obj: id, Path: rel}
	if f(fd, op) != nil {
		return
	}
	_ = unix.Fstat(fd, &st)
	a := fsx.AttrOf(&st)
	op.Mtime, op.Nlink = a.Mtime, uint32(st.Nlink)
	if op.Kind == fileop.SetAttr {
		op.Attr, op.Mtime = &a, fileop.Time{}
	}
	s.put(op)
}

func (s *source) write(rel string, off int64, data []byte) {
	for len(data) > fileop.MaxData {
		s.write(rel, off, data[:fileop.MaxData])
		off, data = off+fileop.MaxData, data[fileop.MaxData:]
	}
	if len(data) == 0 {
		return
	}
	s.file(rel, func(fd int, op *fileop.Op) error {
		op.Kind, op.Off, op.Data = fileop.Write, off, data
		_, err := unix.Pwrite(fd, data, off)
		return err
	})
}

func (s *source) truncate(rel string, n int64) {
	s.file(rel, func(fd int, op *fileop.Op) error {
		op.Kind, op.Len = fileop.Truncate, n
		err := unix.Ftruncate(fd, n)
		s.shifted(op.Obj)
		return err
	})
}

func (s *source) shifted(id fileop.ObjID) {
	s.locks.mu.Lock()
	defer s.locks.mu.Unlock()
	s.locks.shifts[id]++
}

func (s *source) fallocate(rel string, mode uint32, off, n int64) {
	s.file(rel, func(fd int, op *fileop.Op) error {
		op.Kind, op.Off, op.Len, op.Flags = fileop.Fallocate, off, n, mode
		if unix.Fallocate(fd, mode, off, n) != nil { // the modification time changes all the same
			op.Kind = fileop.SetAttr
			return nil
		}
		s.shifted(op.Obj)
		return nil
	})
}

func (s *source) copyRange(from, to string, off, off2, n int64) {
	s.world.RLock()
	defer s.world.RUnlock()
	a, st0, ok := s.find(from)
	b, st, ok2 := s.find(to)
	if !ok || !ok2 || a == b || !isReg(st0.Mode) || !isReg(st.Mode) {
		return
	}
	defer s.lock(nil, []fileop.ObjID{a, b})()
	in, err := os.OpenFile(s.path(from), unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer in.Close()
	out, err := os.OpenFile(s.path(to), os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer out.Close()
	got, err := unix.CopyFileRange(int(in.Fd()), &off, int(out.Fd()), &off2, int(n), 0)
	if err != nil || got == 0 { // the kernel changes the modification time all the same
		at, _ := s.attr(to)
		s.put(&fileop.Op{Kind: fileop.SetAttr, Obj: b, Attr: at, Nlink: uint32(st.Nlink), Path: to})
		return
	}
	_, m := s.attr(to)
	s.put(&fileop.Op{Kind: fileop.CopyRange, Obj: a, Obj2: b, Off: off - int64(got), Off2: off2 - int64(got), Len: int64(got),
		Mtime: m, Nlink: uint32(st.Nlink), Path: from, Path2: to})
}

func (s *source) chmod(rel string, mode uint32) {
	s.world.RLock()
	defer s.world.RUnlock()
	id, st, ok := s.find(rel)
	if !ok || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return
	}
	defer s.lock([]fileop.ObjID{id}, nil)()
	if id2, _, _ := s.id(rel); id2 != id || os.Chmod(s.path(rel), os.FileMode(mode)) != nil {
		return
	}
	a, _ := s.attr(rel)
	s.put(&fileop.Op{Kind: fileop.SetAttr, Obj: id, Attr: a, Path: rel, Nlink: uint32(st.Nlink)})
}

func (s *source) setxattr(rel, name, value string) {
	s.file(rel, func(fd int, op *fileop.Op) error {
		op.Kind, op.Xattrs = fileop.SetXattr, []fileop.Xattr{{Name: name, Value: []byte(value)}}
		return unix.Fsetxattr(fd, name, []byte(value), 0)
	})
}

func (s *source) link(old, rel string) {
	s.find(old)
	s.in(rel, func(parent fileop.ObjID, dir, name string) {
		if os.Link(s.path(old), s.path(rel)) != nil {
			return
		}
		id, st, _ := s.id(rel)
		_, pm := s.attr(dir)
		s.put(&fileop.Op{Kind: fileop.Link, Obj: id, Parent: parent, Name: name, PMtime: pm, Path: rel, Nlink: uint32(st.Nlink)})
	})
}

func (s *source) remove(rel string) {
	s.in(rel, func(parent fileop.ObjID, dir, name string) {
		id, st, ok := s.id(rel)
		if !ok || os.Remove(s.path(rel)) != nil {
			return
		}
		_, pm := s.attr(dir)
		op := &fileop.Op{Kind: fileop.Unlink, Obj: id, Parent: parent, Name: name, PMtime: pm, Path: rel, Last: st.Nlink <= 1, Nlink: uint32(st.Nlink) - 1}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			op.Kind, op.Last, op.Nlink = fileop.Rmdir, true, 0
		}
		s.put(op)
	})
}

func (s *source) rename(from, to string) { s.renameFlags(from, to, 0) }

func (s *source) renameFlags(from, to string, flags uint32) {
	s.world.Lock()
	defer s.world.Unlock()
	dir1, name1 := split(from)
	dir2, name2 := split(to)
	p1, _, ok1 := s.id(dir1)
	p2, _, ok2 := s.id(dir2)
	if !ok1 || !ok2 {
		return
	}
	defer s.lock([]fileop.ObjID{p1, p2}, nil)()
	id, _, ok := s.id(from)
	old, st, had := s.id(to)
	if !ok || id == old {
		return
	}
	if unix.Renameat2(unix.AT_FDCWD, s.path(from), unix.AT_FDCWD, s.path(to), uint(flags)) != nil {
		return
	}
	_, m1 := s.attr(dir1)
	_, m2 := s.attr(dir2)
	op := &fileop.Op{Kind: fileop.Rename, Obj: id, Parent: p1, Name: name1, Parent2: p2, Name2: name2, PMtime: m1, PMtime2: m2,
		Path: from, Path2: to, Flags: flags}
	if had {
		op.Obj2, op.Last = old, flags == 0 && (st.Nlink <= 1 || st.Mode&unix.S_IFMT == unix.S_IFDIR)
	}
	s.put(op)
}

// describe lists what of the source is in the set, in the words of replica.describe.
func (s *source) describe(p place) []string {
	var out []string
	links := map[fileop.ObjID]int{}
	walk := func(f func(rel string, e fileop.Entry)) {
		_ = filepath.WalkDir(s.dir, func(at string, d os.DirEntry, err error) error {
			if err != nil {
				s.t.Fatal(err)
			}
			rel, _ := filepath.Rel(s.dir, at)
			if rel == "." {
				rel = ""
			}
			if !p.carries(rel, d.IsDir()) {
				if d.IsDir() && !p.leadsToRoot(rel) {
					return filepath.SkipDir
				}
				return nil
			}
			e, err := s.tree.Lookup(rel)
			if err != nil {
				s.t.Fatal(err)
			}
			f(rel, e)
			return nil
		})
	}
	walk(func(rel string, e fileop.Entry) { links[e.Obj]++ })
	walk(func(rel string, e fileop.Entry) {
		var data []byte
		if isReg(e.Attr.Mode) {
			data, _ = os.ReadFile(s.path(rel))
		}
		name := rel
		if p.Dir != p.TreePath {
			name, _ = filepath.Rel(p.rel(), rel)
			if name == "." {
				name = ""
			}
		}
		out = append(out, describe(name, e.Obj, e.Attr, e.Xattrs, e.Target, data, links[e.Obj]))
	})
	sort.Strings(out)
	return out
}

// wire is the log and the target behind it. The target lags: it applies when it is
// asked and now and then.
type wire struct {
	mu      sync.Mutex
	ops     []fileop.Op
	queue   fileop.Seq
	mirror  fileop.Seq
	applied int // of ops
	rep     *replica
	lagging bool
	rnd     *rand.Rand
	err     error
	refuse  error
	onPut   func(op *fileop.Op)
	lists   atomic.Int64
	digests atomic.Int64
	old     atomic.Bool // it does not know of spans
	sizes   []int64     // bytes of content of each of ops
	bytes   int64       // content in mirror records
	down    atomic.Bool

	busy  atomic.Bool     // what Config.Busy said
	quiet map[uint64]bool // requests whose first record was put in a quiet moment
}

func (w *wire) tellBusy(busy, _ bool) { w.busy.Store(busy) }

func newWire() *wire {
	w := &wire{rep: newReplica(), rnd: rand.New(rand.NewPCG(1, 2))}
	w.busy.Store(true) // until it is told otherwise
	return w
}

func (w *wire) Put(op *fileop.Op) (fileop.Seq, error)       { return w.add(op, fileop.LaneQueue) }
func (w *wire) PutMirror(op *fileop.Op) (fileop.Seq, error) { return w.add(op, fileop.LaneMirror) }

func (w *wire) Credit(ctx context.Context, n int) error { return ctx.Err() }

func (w *wire) add(op *fileop.Op, lane fileop.Lane) (fileop.Seq, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return 0, w.refuse
	}
	if op.Kind.Lane() != lane {
		w.err = errors.Join(w.err, errors.New(op.Kind.String()+" in the wrong lane"))
	}
	o := *op
	o.Data = append([]byte(nil), op.Data...)
	o.Names = append([]string(nil), op.Names...)
	if op.Attr != nil {
		a := *op.Attr
		o.Attr = &a
	}
	if lane == fileop.LaneQueue {
		w.queue++
		o.Seq, o.Other = w.queue, w.mirror
	} else {
		w.mirror++
		o.Seq, o.Other = w.mirror, w.queue
		w.bytes += int64(len(o.Data))
	}
	op.Seq, op.Other = o.Seq, o.Other
	w.checkBusy(&o, lane)
	w.ops = append(w.ops, o)
	w.sizes = append(w.sizes, int64(len(op.Data)))
	if w.onPut != nil {
		w.onPut(&o)
	}
	if !w.lagging || w.rnd.IntN(8) == 0 {
		w.catchUp(w.rnd.IntN(20))
	}
	return o.Seq, nil
}

// checkBusy notes what a kill would not leave whole: records beyond the first of one
// request, or mirror records, in a moment that is called quiet; and records that do not
// name their request.
func (w *wire) checkBusy(o *fileop.Op, lane fileop.Lane) {
	busy := w.busy.Load()
	mark := o.Kind == fileop.MirrorBegin || o.Kind == fileop.MirrorEnd || o.Kind == fileop.MirrorAbort
	switch {
	case lane == fileop.LaneMirror || mark:
		if !busy {
			w.err = errors.Join(w.err, fmt.Errorf("%s in a quiet moment", o.Kind))
		}
	case o.Token == 0:
		w.err = errors.Join(w.err, fmt.Errorf("%s does not name its request", o.Kind))
	default:
		if w.quiet[o.Token] {
			w.err = errors.Join(w.err, fmt.Errorf("%s is a further record of a request that began in a quiet moment", o.Kind))
		}
		if w.quiet == nil {
			w.quiet = map[uint64]bool{}
		}
		w.quiet[o.Token] = !busy
	}
}

// catchUp applies the next n records. w.mu is held.
func (w *wire) catchUp(n int) {
	for ; n > 0 && w.applied < len(w.ops); n-- {
		if err := w.rep.apply(&w.ops[w.applied]); err != nil {
			w.err = errors.Join(w.err, err)
		}
		w.ops[w.applied].Data = nil
		w.applied++
	}
}

func (w *wire) drain(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.catchUp(len(w.ops))
	if w.err != nil {
		t.Fatal(w.err)
	}
}

// reach applies until mirror record k is applied, and a random number more. It returns
// the queue position.
func (w *wire) reach(k fileop.Seq) fileop.Seq {
	done := func() (q, m fileop.Seq) {
		if w.applied == 0 {
			return 0, 0
		}
		o := &w.ops[w.applied-1]
		if o.Kind.Lane() == fileop.LaneQueue {
			return o.Seq, o.Other
		}
		return o.Other, o.Seq
	}
	for {
		_, m := done()
		if m >= k || w.applied == len(w.ops) {
			w.catchUp(w.rnd.IntN(10))
			q, _ := done()
			return q
		}
		w.catchUp(1)
	}
}

var errDown = errors.New("link is down")

func (w *wire) List(ctx context.Context, q fileop.ListQuery) (fileop.ListReply, error) {
	w.lists.Add(1)
	if w.down.Load() {
		return fileop.ListReply{}, errDown
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := fileop.ListReply{Applied: w.reach(q.After)}
	if x := w.rep.get(q.Obj); x == nil {
		return r, nil
	}
	r.Known = true
	es := w.rep.entries(q.Obj)
	if q.Sum == digest.Dir(es) {
		r.Same = true
		return r, nil
	}
	for _, e := range es {
		if e.Name <= q.From {
			continue
		}
		if len(r.Entries) == listMax {
			r.More = true
			break
		}
		r.Entries = append(r.Entries, e)
	}
	return r, ctx.Err()
}

// listMax is small, so that pages are tested.
var listMax = fileop.ListMax

func (w *wire) Digests(ctx context.Context, q fileop.DigestQuery) (fileop.DigestReply, error) {
	w.digests.Add(1)
	if w.down.Load() {
		return fileop.DigestReply{}, errDown
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := fileop.DigestReply{Applied: w.reach(q.After)}
	x := w.rep.get(q.Obj)
	if x == nil {
		return r, nil
	}
	r.Known, r.Size = true, int64(len(x.data))
	if w.old.Load() {
		q.Spans = nil
	}
	for _, k := range q.Spans {
		for off := q.Off + int64(k*q.Span); off < q.Off+int64((k+1)*q.Span); off += int64(q.Block) {
			var sum fileop.Sum
			if off < r.Size {
				sum = digest.Block(x.data[off:min(off+int64(q.Block), r.Size)])
			}
			r.Sums = append(r.Sums, sum)
		}
	}
	for off := q.Off; off < min(r.Size, q.Off+q.Len); off += int64(q.Block) {
		r.Sums = append(r.Sums, digest.Block(x.data[off:min(off+int64(q.Block), r.Size)]))
	}
	return r, ctx.Err()
}

func (w *wire) marks() (queue, mirror fileop.Seq, bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queue, w.mirror, w.bytes
}

func ctxFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}
