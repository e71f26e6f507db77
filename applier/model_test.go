package applier

import (
	"fmt"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// model is a file system in memory that logs what is done to it, as a source does.
type model struct {
	root  *node
	next  uint64
	clock int64
	tmp   []*node // without a name
	ops   []fileop.Op
	pick  func(n int) int // a random number below n
}

type node struct {
	id     fileop.ObjID
	mode   uint32
	mtime  fileop.Time
	data   []byte
	target string
	xattr  map[string]string
	kids   map[string]*node // of a directory
	up     *node            // of a directory
	nlink  int
}

func newModel(pick func(int) int) *model {
	m := &model{next: 100, pick: pick}
	m.root = &node{id: rootID, mode: unix.S_IFDIR | 0o755, kids: map[string]*node{}}
	m.log(fileop.Op{Kind: fileop.Gap})
	m.log(fileop.Op{Kind: fileop.SetAttr, Obj: rootID, Attr: m.attr(m.root)})
	return m
}

func (m *model) log(op fileop.Op) { m.ops = append(m.ops, op) }

func (m *model) tick() fileop.Time { m.clock++; return at(m.clock) }

func (m *model) attr(n *node) *fileop.Attr {
	if n.mtime.IsZero() {
		n.mtime = m.tick()
	}
	return &fileop.Attr{Mode: n.mode, Mtime: n.mtime}
}

func (n *node) isDir() bool { return n.kids != nil }

// dirs lists all directories, sorted by creation.
func (m *model) dirs() []*node {
	var out []*node
	var walk func(n *node)
	walk = func(n *node) {
		out = append(out, n)
		for _, name := range names(n) {
			if k := n.kids[name]; k.isDir() {
				walk(k)
			}
		}
	}
	walk(m.root)
	return out
}

func names(n *node) []string {
	var out []string
	for name := range n.kids {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

func (m *model) anyDir() *node { d := m.dirs(); return d[m.pick(len(d))] }

func (m *model) anyName() string { return string(rune('a' + m.pick(5))) }

// anyEntry finds an entry, if the first directory tried has one.
func (m *model) anyEntry() (*node, string, *node) {
	d := m.anyDir()
	ns := names(d)
	if len(ns) == 0 {
		return d, "", nil
	}
	name := ns[m.pick(len(ns))]
	return d, name, d.kids[name]
}

func (m *model) anyFile() *node {
	if len(m.tmp) > 0 && m.pick(5) == 0 {
		return m.tmp[m.pick(len(m.tmp))]
	}
	for range 4 {
		if _, _, n := m.anyEntry(); n != nil && n.mode&unix.S_IFMT == unix.S_IFREG {
			return n
		}
	}
	return nil
}

func (m *model) fresh(mode uint32) *node {
	m.next++
	n := &node{id: id(m.next), mode: mode, mtime: m.tick(), xattr: map[string]string{}}
	if mode&unix.S_IFMT == unix.S_IFDIR {
		n.kids = map[string]*node{}
	}
	return n
}

// step does one random thing; it may do nothing.
func (m *model) step() {
	switch m.pick(20) {
	case 0, 1, 2, 3:
		m.create()
	case 4, 5:
		m.mkdir()
	case 6:
		m.mkother()
	case 7, 8:
		m.unlink()
	case 9, 10, 11, 12:
		m.rename()
	case 13:
		m.exchange()
	case 14:
		m.link()
	case 15:
		m.tmpfile()
	case 16:
		m.copyRange()
	case 17:
		m.attrs()
	case 18:
		m.truncate()
	default:
		m.write()
	}
}

func (m *model) put(d *node, name string, n *node) fileop.Time {
	d.kids[name] = n
	n.nlink++
	if n.isDir() {
		n.up = d
	}
	d.mtime = m.tick()
	return d.mtime
}

func (m *model) create() {
	d, name := m.anyDir(), m.anyName()
	if d.kids[name] != nil {
		return
	}
	n := m.fresh(unix.S_IFREG | uint32(0o600+m.pick(0o200)))
	pm := m.put(d, name, n)
	m.log(fileop.Op{Kind: fileop.Create, Obj: n.id, Parent: d.id, Name: name, Attr: m.attr(n), PMtime: pm})
	if m.pick(2) == 0 {
		m.writeTo(n)
	}
}

func (m *model) tmpfile() {
	n := m.fresh(unix.S_IFREG | 0o600)
	m.tmp = append(m.tmp, n)
	m.log(fileop.Op{Kind: fileop.Create, Obj: n.id, Attr: m.attr(n)})
	m.writeTo(n)
}

func (m *model) mkdir() {
	d, name := m.anyDir(), m.anyName()
	if d.kids[name] != nil {
		return
	}
	n := m.fresh(unix.S_IFDIR | 0o755)
	pm := m.put(d, name, n)
	m.log(fileop.Op{Kind: fileop.Mkdir, Obj: n.id, Parent: d.id, Name: name, Attr: m.attr(n), PMtime: pm})
}

func (m *model) mkother() {
	d, name := m.anyDir(), m.anyName()
	if d.kids[name] != nil {
		return
	}
	if m.pick(2) == 0 {
		n := m.fresh(unix.S_IFIFO | 0o600)
		pm := m.put(d, name, n)
		m.log(fileop.Op{Kind: fileop.Mknod, Obj: n.id, Parent: d.id, Name: name, Attr: m.attr(n), PMtime: pm})
		return
	}
	n := m.fresh(unix.S_IFLNK | 0o777)
	n.target = "../../" + name
	pm := m.put(d, name, n)
	m.log(fileop.Op{Kind: fileop.Symlink, Obj: n.id, Parent: d.id, Name: name, Data: []byte(n.target), Attr: m.attr(n), PMtime: pm})
}

func (m *model) drop(d *node, name string) (last bool, pm fileop.Time) {
	n := d.kids[name]
	delete(d.kids, name)
	n.nlink--
	d.mtime = m.tick()
	return n.nlink == 0, d.mtime
}

func (m *model) unlink() {
	d, name, n := m.anyEntry()
	if n == nil {
		return
	}
	op := fileop.Op{Kind: fileop.Unlink, Obj: n.id, Parent: d.id, Name: name}
	if n.isDir() {
		op.Kind = fileop.Rmdir
		if len(n.kids) > 0 {
			op.Flags = fileop.FlagTree
			if m.pick(3) > 0 {
				return
			}
			m.dropLinks(n)
		}
	}
	op.Last, op.PMtime = m.drop(d, name)
	m.log(op)
}

// dropLinks takes away the names below a directory that leaves the set.
func (m *model) dropLinks(d *node) {
	for _, k := range d.kids {
		k.nlink--
		if k.isDir() {
			m.dropLinks(k)
		}
	}
}

func below(n, d *node) bool {
	for ; d != nil; d = d.up {
		if d == n {
			return true
		}
	}
	return false
}

func (m *model) rename() {
	d, name, n := m.anyEntry()
	d2, name2 := m.anyDir(), m.anyName()
	if n == nil || n.isDir() && below(n, d2) {
		return
	}
	old := d2.kids[name2]
	if old == n || old != nil && (old.isDir() != n.isDir() || len(old.kids) > 0) {
		return
	}
	op := fileop.Op{Kind: fileop.Rename, Obj: n.id, Parent: d.id, Name: name, Parent2: d2.id, Name2: name2}
	if old != nil {
		op.Obj2 = old.id
		op.Last, _ = m.drop(d2, name2)
	}
	m.drop(d, name)
	m.put(d2, name2, n)
	d.mtime = d2.mtime
	op.PMtime, op.PMtime2 = d.mtime, d2.mtime
	m.log(op)
}

func (m *model) exchange() {
	d, name, n := m.anyEntry()
	d2, name2, n2 := m.anyEntry()
	if n == nil || n2 == nil || n == n2 || n.isDir() && below(n, d2) || n2.isDir() && below(n2, d) {
		return
	}
	m.drop(d, name)
	m.drop(d2, name2)
	m.put(d, name, n2)
	m.put(d2, name2, n)
	d.mtime = d2.mtime
	m.log(fileop.Op{Kind: fileop.Rename, Flags: fileop.RenameExchange, Obj: n.id, Parent: d.id, Name: name,
		Obj2: n2.id, Parent2: d2.id, Name2: name2, PMtime: d.mtime, PMtime2: d2.mtime})
}

func (m *model) link() {
	n := m.anyFile()
	d, name := m.anyDir(), m.anyName()
	if n == nil || d.kids[name] != nil {
		return
	}
	for i, o := range m.tmp {
		if o == n {
			m.tmp = append(m.tmp[:i:i], m.tmp[i+1:]...)
		}
	}
	pm := m.put(d, name, n)
	m.log(fileop.Op{Kind: fileop.Link, Obj: n.id, Parent: d.id, Name: name, PMtime: pm})
}

func (m *model) write() {
	if n := m.anyFile(); n != nil {
		m.writeTo(n)
	}
}

func (m *model) writeTo(n *node) {
	off, size := m.pick(50), 1+m.pick(50)
	b := []byte(strings.Repeat(string(rune('A'+m.pick(26))), size))
	n.resize(max(len(n.data), off+size))
	copy(n.data[off:], b)
	n.mtime = m.tick()
	m.log(fileop.Op{Kind: fileop.Write, Obj: n.id, Off: int64(off), Data: b, Mtime: n.mtime})
}

func (n *node) resize(size int) {
	if size <= len(n.data) {
		n.data = n.data[:size:size]
		return
	}
	n.data = append(n.data[:len(n.data):len(n.data)], make([]byte, size-len(n.data))...)
}

func (m *model) truncate() {
	if n := m.anyFile(); n != nil {
		n.resize(m.pick(80))
		n.mtime = m.tick()
		m.log(fileop.Op{Kind: fileop.Truncate, Obj: n.id, Len: int64(len(n.data)), Mtime: n.mtime})
	}
}

func (m *model) copyRange() {
	n, n2 := m.anyFile(), m.anyFile()
	if n == nil || n2 == nil || len(n.data) == 0 {
		return
	}
	off, off2 := m.pick(len(n.data)), m.pick(60)
	size := 1 + m.pick(len(n.data)-off)
	if n == n2 && off < off2+size && off2 < off+size {
		return
	}
	b := append([]byte(nil), n.data[off:off+size]...)
	n2.resize(max(len(n2.data), off2+size))
	copy(n2.data[off2:], b)
	n2.mtime = m.tick()
	m.log(fileop.Op{Kind: fileop.CopyRange, Obj: n.id, Off: int64(off), Obj2: n2.id, Off2: int64(off2), Len: int64(size), Mtime: n2.mtime})
}

func (m *model) attrs() {
	_, _, n := m.anyEntry()
	if n == nil || n.mode&unix.S_IFMT == unix.S_IFLNK || n.mode&unix.S_IFMT == unix.S_IFIFO {
		return
	}
	switch m.pick(3) {
	case 0:
		n.mode = n.mode&unix.S_IFMT | uint32(0o700+m.pick(0o100))
		n.mtime = m.tick()
		m.log(fileop.Op{Kind: fileop.SetAttr, Obj: n.id, Attr: m.attr(n)})
	case 1:
		n.xattr["user.x"] = m.anyName()
		m.log(fileop.Op{Kind: fileop.SetXattr, Obj: n.id, Xattrs: []fileop.Xattr{{Name: "user.x", Value: []byte(n.xattr["user.x"])}}})
	case 2:
		delete(n.xattr, "user.x")
		m.log(fileop.Op{Kind: fileop.RemoveXattr, Obj: n.id, Xattrs: []fileop.Xattr{{Name: "user.x"}}})
	}
}

// text is what treeText must say.
func (m *model) text() string {
	var lines []string
	group := map[*node][]int{}
	var walk func(rel string, n *node)
	walk = func(rel string, n *node) {
		line := fmt.Sprintf("%s %o 0:0 %d.%d", rel, n.mode, n.mtime.Sec, n.mtime.Nsec)
		switch n.mode & unix.S_IFMT {
		case unix.S_IFREG:
			line += fmt.Sprintf(" %d %q", n.nlink, shorten(n.data))
			group[n] = append(group[n], len(lines))
		case unix.S_IFLNK:
			line += " -> " + n.target
		}
		tail := ""
		if v, ok := n.xattr["user.x"]; ok {
			tail = fmt.Sprintf(" user.x=%x", v)
		}
		if g := group[n]; len(g) > 1 {
			first, _, _ := strings.Cut(lines[g[0]], " ")
			line += " = " + first
		}
		lines = append(lines, line+tail)
		for _, name := range names(n) {
			sub := name
			if rel != "." {
				sub = rel + "/" + name
			}
			walk(sub, n.kids[name])
		}
	}
	walk(".", m.root)
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}
