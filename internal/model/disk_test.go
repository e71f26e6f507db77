package model

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/exercise"
	"understudy/internal/sametree"
)

// disk makes changes in a directory and records them as operations, as an honest
// capture does.
type disk struct {
	t    testing.TB
	root string
	r    *rand.Rand
	gens map[uint64]uint64 // by inode number
	log  []fileop.Op
}

func newDisk(t testing.TB, seed int64) *disk {
	d := &disk{t: t, root: t.TempDir(), r: rand.New(rand.NewPCG(uint64(seed), 1)), gens: map[uint64]uint64{}}
	must(t, os.Chmod(d.root, 0o755))
	return d
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (d *disk) abs(rel string) string { return filepath.Join(d.root, rel) }

func (d *disk) stat(rel string) (st unix.Stat_t, ok bool) {
	err := unix.Lstat(d.abs(rel), &st)
	return st, err == nil
}

func (d *disk) id(rel string) fileop.ObjID {
	st, ok := d.stat(rel)
	if !ok {
		d.t.Helper()
		d.t.Fatalf("%s is not there", rel)
	}
	return fileop.ObjID{Ino: st.Ino, Gen: d.gens[st.Ino]}
}

func (d *disk) attr(rel string) *fileop.Attr {
	st, _ := d.stat(rel)
	return &fileop.Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Rdev: st.Rdev, Mtime: d.mtime(rel)}
}

func (d *disk) mtime(rel string) fileop.Time {
	st, _ := d.stat(rel)
	return fileop.Time{Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
}

func (d *disk) xattrs(rel string) (xs []fileop.Xattr) {
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(d.abs(rel), list)
	must(d.t, err)
	for _, name := range bytes.Split(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		v := make([]byte, 4096)
		if k, err := unix.Lgetxattr(d.abs(rel), string(name), v); err == nil {
			xs = append(xs, fileop.Xattr{Name: string(name), Value: v[:k]})
		}
	}
	return xs
}

func (d *disk) put(op fileop.Op) { op.Seq = fileop.Seq(len(d.log) + 1); d.log = append(d.log, op) }

// in fills in the parent of a name.
func (d *disk) in(op fileop.Op, rel string) fileop.Op {
	dir := filepath.Dir(rel)
	op.Parent, op.Name, op.Path, op.PMtime = d.id(dir), filepath.Base(rel), rel, d.mtime(dir)
	return op
}

// made records what stands at rel now as newly created.
func (d *disk) made(kind fileop.Kind, rel string, data string) {
	st, _ := d.stat(rel)
	d.gens[st.Ino]++
	d.put(d.in(fileop.Op{Kind: kind, Obj: d.id(rel), Attr: d.attr(rel), Xattrs: d.xattrs(rel), Data: []byte(data)}, rel))
}

// mirror records the tree as a mirror reads it.
func (d *disk) mirror(rel string) {
	names, err := os.ReadDir(d.abs(rel))
	must(d.t, err)
	list := fileop.Op{Kind: fileop.MirrorDir, Obj: d.id(rel)}
	for _, n := range names {
		list.Names = append(list.Names, n.Name())
	}
	d.put(list)
	for _, n := range names {
		p := filepath.Join(rel, n.Name())
		st, _ := d.stat(p)
		op := fileop.Op{Kind: fileop.MirrorEntry, Obj: d.id(p), Parent: d.id(rel), Name: n.Name(), Attr: d.attr(p), Xattrs: d.xattrs(p),
			Nlink: uint32(st.Nlink), Len: st.Size}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(d.abs(p))
			must(d.t, err)
			op.Data = []byte(target)
		case unix.S_IFREG:
			b, err := os.ReadFile(d.abs(p))
			must(d.t, err)
			if len(b) < 20000 {
				op.Flags, op.Data = fileop.FlagWhole, b
				break
			}
			d.put(op)
			d.put(fileop.Op{Kind: fileop.MirrorBlock, Obj: op.Obj, Off: 0, Len: 8192, Flags: fileop.FlagHole})
			d.put(fileop.Op{Kind: fileop.MirrorBlock, Obj: op.Obj, Off: 0, Data: b})
			op.Kind, op.Data, op.Parent, op.Name = fileop.MirrorFileEnd, nil, fileop.ObjID{}, ""
		}
		d.put(op)
		if n.IsDir() {
			d.mirror(p)
		}
	}
	d.put(fileop.Op{Kind: fileop.MirrorDirEnd, Obj: d.id(rel), Attr: d.attr(rel), Xattrs: d.xattrs(rel)})
}

// start records the empty root.
func (d *disk) start() {
	d.put(fileop.Op{Kind: fileop.MirrorEntry, Obj: d.id("."), Attr: d.attr("."), Xattrs: d.xattrs(".")})
}

func (d *disk) name() string {
	if d.r.IntN(10) == 0 {
		return []string{"d0", "d1", "d0/d2"}[d.r.IntN(3)]
	}
	return filepath.Join([]string{".", "d0", "d1", "d0/d2"}[d.r.IntN(4)], fmt.Sprintf("n%d", d.r.IntN(6)))
}

// step makes one random change. Changes that make no sense at the moment do nothing.
func (d *disk) step() {
	a, b := d.name(), d.name()
	sa, oka := d.stat(a)
	_, okb := d.stat(b)
	okDir, okDir2 := d.isDir(filepath.Dir(a)), d.isDir(filepath.Dir(b))
	isReg := oka && sa.Mode&unix.S_IFMT == unix.S_IFREG
	switch k := d.r.IntN(20); {
	case k == 0:
		d.mkdirs()
	case okDir && !oka && k < 12:
		d.create(a, k)
	case oka && k == 12:
		d.unlink(a, sa)
	case oka && okDir2 && !okb && k == 13 && sa.Mode&unix.S_IFMT != unix.S_IFDIR:
		must(d.t, os.Link(d.abs(a), d.abs(b)))
		d.put(d.in(fileop.Op{Kind: fileop.Link, Obj: d.id(b), Nlink: uint32(sa.Nlink) + 1}, b))
	case oka && okDir2 && k < 16:
		d.rename(a, b, k == 15)
	case oka && k < 18:
		d.attributes(a, sa)
	case isReg:
		d.change(a, int(sa.Size))
	}
}

func (d *disk) isDir(rel string) bool {
	st, ok := d.stat(rel)
	return ok && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (d *disk) mkdirs() {
	for _, rel := range []string{"d0", "d1", "d0/d2"} {
		if _, ok := d.stat(rel); !ok && os.Mkdir(d.abs(rel), 0o750) == nil {
			d.made(fileop.Mkdir, rel, "")
		}
	}
}

func (d *disk) create(rel string, k int) {
	switch {
	case k == 1:
		must(d.t, os.Symlink("to somewhere", d.abs(rel)))
		d.made(fileop.Symlink, rel, "to somewhere")
	case k == 2:
		must(d.t, unix.Mkfifo(d.abs(rel), 0o640))
		d.made(fileop.Mknod, rel, "")
	case k == 3 && os.Geteuid() == 0:
		must(d.t, unix.Mknod(d.abs(rel), unix.S_IFCHR|0o600, int(unix.Mkdev(60, 300))))
		d.made(fileop.Mknod, rel, "")
	default:
		must(d.t, os.WriteFile(d.abs(rel), nil, 0o644))
		d.made(fileop.Create, rel, "")
		d.change(rel, 0)
	}
}

func (d *disk) unlink(rel string, st unix.Stat_t) {
	op := d.in(fileop.Op{Kind: fileop.Unlink, Obj: d.id(rel), Last: st.Nlink == 1}, rel)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if os.Remove(d.abs(rel)) != nil {
			return
		}
		op.Kind, op.Last = fileop.Rmdir, true
	} else {
		must(d.t, os.Remove(d.abs(rel)))
	}
	op.PMtime = d.mtime(filepath.Dir(rel))
	d.put(op)
}

func (d *disk) rename(a, b string, exchange bool) {
	old, ok := d.stat(b)
	op := fileop.Op{Kind: fileop.Rename, Obj: d.id(a), Parent: d.id(filepath.Dir(a)), Name: filepath.Base(a),
		Parent2: d.id(filepath.Dir(b)), Name2: filepath.Base(b), Path: a, Path2: b}
	if ok {
		op.Obj2, op.Last = d.id(b), !exchange && (old.Nlink == 1 || old.Mode&unix.S_IFMT == unix.S_IFDIR)
	}
	if exchange {
		op.Flags = fileop.RenameExchange
	}
	if op.Obj == op.Obj2 || unix.Renameat2(unix.AT_FDCWD, d.abs(a), unix.AT_FDCWD, d.abs(b), uint(op.Flags)) != nil {
		return
	}
	op.PMtime, op.PMtime2 = d.mtime(filepath.Dir(a)), d.mtime(filepath.Dir(b))
	d.put(op)
}

func (d *disk) attributes(rel string, st unix.Stat_t) {
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	op := fileop.Op{Kind: fileop.SetAttr, Obj: d.id(rel)}
	x := fileop.Xattr{Name: fmt.Sprintf("trusted.x%d", d.r.IntN(3)), Value: []byte{byte(d.r.IntN(256))}}
	if d.r.IntN(2) == 0 && !link {
		perm := func() uint16 { return uint16(d.r.IntN(8)) }
		x = fileop.Xattr{Name: accessACL, Value: exercise.ACL(perm(), perm(), perm(), 5, perm())}
	}
	switch k := d.r.IntN(5); {
	case k == 0 && !link:
		must(d.t, unix.Chmod(d.abs(rel), uint32(d.r.IntN(0o10000))))
	case k == 1:
		must(d.t, os.Lchown(d.abs(rel), d.r.IntN(4), d.r.IntN(4)))
	case k == 2:
		must(d.t, unix.Lsetxattr(d.abs(rel), x.Name, x.Value, 0))
		op.Kind, op.Xattrs = fileop.SetXattr, []fileop.Xattr{x}
	case k == 3:
		if unix.Lremovexattr(d.abs(rel), x.Name) != nil {
			return
		}
		op.Kind, op.Xattrs = fileop.RemoveXattr, []fileop.Xattr{{Name: x.Name}}
	default:
		ts := []unix.Timespec{{}, {Sec: d.r.Int64N(1e9), Nsec: d.r.Int64N(1e9)}}
		must(d.t, unix.UtimesNanoAt(unix.AT_FDCWD, d.abs(rel), ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	if op.Kind == fileop.SetAttr {
		op.Attr = d.attr(rel)
	}
	d.put(op)
}

// change changes content.
func (d *disk) change(rel string, size int) {
	f, err := os.OpenFile(d.abs(rel), os.O_RDWR, 0)
	must(d.t, err)
	defer f.Close()
	op := fileop.Op{Obj: d.id(rel), Off: int64(d.r.IntN(60000)), Path: rel}
	n := int64(1 + d.r.IntN(20000))
	switch modes := []uint32{0, 1, 3, 16, 17, 8, 32}; d.r.IntN(6) {
	case 0:
		op.Kind, op.Len, op.Off = fileop.Truncate, n*3, 0
		must(d.t, f.Truncate(op.Len))
	case 1, 2:
		op.Kind, op.Len, op.Flags = fileop.Fallocate, n, modes[d.r.IntN(len(modes))]
		if op.Flags == 8 || op.Flags == 32 {
			op.Off, op.Len = op.Off/4096*4096, n/4096*4096
		}
		if unix.Fallocate(int(f.Fd()), op.Flags, op.Off, op.Len) != nil {
			d.onlyTime(rel)
			return
		}
	case 3:
		off, off2 := op.Off, int64(100000)
		k, err := unix.CopyFileRange(int(f.Fd()), &off, int(f.Fd()), &off2, int(n), 0)
		if err != nil || k == 0 {
			d.onlyTime(rel)
			return
		}
		op.Kind, op.Obj2, op.Off2, op.Len = fileop.CopyRange, op.Obj, 100000, int64(k)
	default:
		op.Kind, op.Data = fileop.Write, bytes.Repeat([]byte{byte(1 + d.r.IntN(255))}, int(n))
		_, err := f.WriteAt(op.Data, op.Off)
		must(d.t, err)
	}
	op.Mtime = d.mtime(rel)
	d.put(op)
}

func (d *disk) last(n int) (s string) {
	for _, op := range d.log[max(0, len(d.log)-n):] {
		s += fmt.Sprintf("\n\t%v to %s flags %#x", op.LogValue(), op.Path2, op.Flags)
	}
	return s
}

// onlyTime records that a call that failed, or did nothing, changed the modification
// time all the same; ext4 does that.
func (d *disk) onlyTime(rel string) {
	d.put(fileop.Op{Kind: fileop.SetAttr, Obj: d.id(rel), Attr: d.attr(rel)})
}

// TestEqualsDisk: whatever the kernel did, the model does; and clones stay what they were.
func TestEqualsDisk(t *testing.T) {
	for seed := range int64(3) {
		d := newDisk(t, seed)
		d.start()
		d.mkdirs()
		m, done := New(d.id(".")), 0
		var clones []*Model
		var truths []*sametree.Tree
		for len(d.log) < 1500 {
			for range 25 {
				d.step()
			}
			for ; done < len(d.log); done++ {
				must(t, m.Apply(&d.log[done]))
			}
			truth, err := sametree.Snapshot(d.root)
			must(t, err)
			sametree.CheckTrees(t, truth, m.Snapshot(), sametree.Options{})
			if t.Failed() {
				t.Fatalf("seed %d, after %d operations, the last:%s", seed, done, d.last(30))
			}
			clones, truths = append(clones, m.Clone()), append(truths, truth)
		}
		for i := range clones {
			sametree.CheckTrees(t, truths[i], clones[i].Snapshot(), sametree.Options{})
		}
		kinds := map[fileop.Kind]int{}
		for _, op := range d.log {
			kinds[op.Kind]++
		}
		t.Logf("seed %d: %v", seed, kinds)
		if m.Dropped > 0 {
			t.Errorf("%d operations dropped", m.Dropped)
		}
		checkMirrors(t, d, m)
	}
}

// checkMirrors: a mirror into an empty model, and one over an older state, give the tree.
func checkMirrors(t *testing.T, d *disk, m *Model) {
	truth, err := sametree.Snapshot(d.root)
	must(t, err)
	older := m.Clone()
	for range 300 {
		d.step() // not told to older
	}
	begin := len(d.log)
	d.start()
	d.mirror(".")
	d.put(fileop.Op{Kind: fileop.MirrorEnd})
	now, err := sametree.Snapshot(d.root)
	must(t, err)
	for name, m := range map[string]*Model{"empty": New(fileop.ObjID{}), "older": older} {
		for i := range d.log[begin:] {
			must(t, m.Apply(&d.log[begin+i]))
		}
		if lines := sametree.DiffTrees(now, m.Snapshot(), sametree.Options{}); len(lines) > 0 {
			t.Errorf("mirror into %s: %q", name, lines)
		}
	}
	sametree.CheckTrees(t, truth, m.Snapshot(), sametree.Options{})
}
