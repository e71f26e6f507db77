package sametree

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Options leave something out of the comparison, or take something more in.
type Options struct {
	Ignore       []string // names or paths, or patterns of them (path.Match), with all below
	IgnoreXattrs []string // patterns of names ("security.*")
	NoRoot       bool     // the roots' own attributes
	NoMtime      bool
	NoDirMtime   bool // of directories alone
	NoOwner      bool // where the test does not run as root
	NoXattrs     bool
	NoMode       bool // permission bits; types are always compared
	Holes        bool // where data is allocated, in blocks of 4 KiB
}

// Diff compares the trees at a and b and returns a line for each difference.
func Diff(a, b string, opts Options) ([]string, error) {
	ta, err := Snapshot(a)
	if err != nil {
		return nil, err
	}
	tb, err := Snapshot(b)
	if err != nil {
		return nil, err
	}
	return DiffTrees(ta, tb, opts), nil
}

// maxLines bounds what a failing test prints.
const maxLines = 60

// Check fails the test unless the trees at a and b are equal.
func Check(t testing.TB, a, b string, opts Options) {
	t.Helper()
	lines, err := Diff(a, b, opts)
	if err != nil {
		t.Errorf("compare %s with %s: %v", a, b, err)
	}
	Report(t, a, b, lines)
}

// CheckTrees fails the test unless two remembered trees are equal.
func CheckTrees(t testing.TB, a, b *Tree, opts Options) {
	t.Helper()
	Report(t, "first tree", "second tree", DiffTrees(a, b, opts))
}

// Report fails the test if there are lines, and prints them.
func Report(t testing.TB, a, b string, lines []string) {
	t.Helper()
	if len(lines) == 0 {
		return
	}
	more := ""
	if len(lines) > maxLines {
		more = fmt.Sprintf("\n  and %d more", len(lines)-maxLines)
	}
	t.Errorf("%d differences between %s and %s:\n  %s%s", len(lines), a, b,
		strings.Join(lines[:min(len(lines), maxLines)], "\n  "), more)
}

// DiffTrees compares two remembered trees. Each line begins with the path; what is
// missing as a whole is one line.
func DiffTrees(a, b *Tree, opts Options) []string {
	d := &differ{opts: opts, a: a, b: b}
	all := maps.Clone(a.Nodes)
	maps.Copy(all, b.Nodes)
	gone := "" // directory reported as missing or of another type, with a slash
	for _, p := range (&Tree{all}).Paths() {
		if p == "." && opts.NoRoot || opts.ignored(p) || gone != "" && strings.HasPrefix(p, gone) {
			continue
		}
		na, nb := a.Nodes[p], b.Nodes[p]
		switch {
		case nb == nil:
			d.add(p, "only in the first tree (%s)", typeOf(na.Mode))
		case na == nil:
			d.add(p, "only in the second tree (%s)", typeOf(nb.Mode))
		case na.Mode&unix.S_IFMT != nb.Mode&unix.S_IFMT:
			d.add(p, "type %s, %s", typeOf(na.Mode), typeOf(nb.Mode))
		default:
			d.node(p, na, nb)
			d.common = append(d.common, p)
			continue
		}
		gone = p + "/"
	}
	d.links()
	return d.lines
}

// ignored says that p or a directory above it is to be left out.
func (o *Options) ignored(p string) bool {
	for ; p != "." && p != ""; p = path.Dir(p) {
		for _, pat := range o.Ignore {
			byName, _ := path.Match(pat, path.Base(p))
			byPath, _ := path.Match(pat, p)
			if byName || byPath {
				return true
			}
		}
	}
	return false
}

type differ struct {
	opts   Options
	a, b   *Tree
	common []string // paths in both trees, of one type
	lines  []string
}

func (d *differ) add(p, format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf("%q: ", p)+fmt.Sprintf(format, args...))
}

// node compares what two nodes of one type say.
func (d *differ) node(p string, a, b *Node) {
	o, kind := d.opts, a.Mode&unix.S_IFMT
	if a.Mode != b.Mode && !o.NoMode && kind != unix.S_IFLNK {
		d.add(p, "mode %04o, %04o", a.Mode&07777, b.Mode&07777)
	}
	if (a.UID != b.UID || a.GID != b.GID) && !o.NoOwner {
		d.add(p, "owner %d:%d, %d:%d", a.UID, a.GID, b.UID, b.GID)
	}
	if a.Mtime != b.Mtime && !o.NoMtime && !(o.NoDirMtime && kind == unix.S_IFDIR) {
		d.add(p, "modified %s, %s", a.Mtime, b.Mtime)
	}
	if a.Rdev != b.Rdev {
		d.add(p, "device %d:%d, %d:%d", unix.Major(a.Rdev), unix.Minor(a.Rdev), unix.Major(b.Rdev), unix.Minor(b.Rdev))
	}
	if a.Target != b.Target {
		d.add(p, "points to %q, %q", a.Target, b.Target)
	}
	if !o.NoXattrs {
		d.xattrs(p, a.Xattrs, b.Xattrs)
	}
	if kind == unix.S_IFREG {
		d.content(p, a, b)
	}
}

func (t Time) String() string {
	return time.Unix(t.Sec, int64(t.Nsec)).UTC().Format("2006-01-02 15:04:05.000000000")
}

func (d *differ) xattrs(p string, a, b map[string]string) {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		va, ina := a[name]
		vb, inb := b[name]
		if va == vb && ina == inb || slices.ContainsFunc(d.opts.IgnoreXattrs, func(pat string) bool {
			ok, _ := path.Match(pat, name)
			return ok
		}) {
			continue
		}
		d.add(p, "attribute %s %s, %s", name, showValue(va, ina), showValue(vb, inb))
	}
}

func showValue(v string, there bool) string {
	if !there {
		return "missing"
	}
	return fmt.Sprintf("%d bytes %.40q", len(v), v)
}

func (d *differ) content(p string, a, b *Node) {
	if a.Size != b.Size {
		d.add(p, "size %d, %d", a.Size, b.Size)
	}
	first, n := int64(-1), 0
	count := func(i int64) {
		if n++; first < 0 || i < first {
			first = i
		}
	}
	for i, sum := range a.Blocks {
		if b.Blocks[i] != sum && i*BlockSize < b.Size {
			count(i)
		}
	}
	for i := range b.Blocks {
		if _, ok := a.Blocks[i]; !ok && i*BlockSize < a.Size {
			count(i)
		}
	}
	// Where the sizes differ, the block in which the shorter file ends is cut.
	if end := min(a.Size, b.Size) / BlockSize; n == 1 && first == end && a.Size != b.Size {
		n = 0
	}
	if n > 0 {
		d.add(p, "content of %d blocks differs, first between bytes %d and %d", n, first*BlockSize, (first+1)*BlockSize)
	}
	if d.opts.Holes && a.Size == b.Size && a.ExtentsKnown && b.ExtentsKnown && !slices.Equal(a.Extents, b.Extents) {
		d.add(p, "data at %v, %v", a.Extents, b.Extents)
	}
}

func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFCHR:
		return "character device"
	}
	return fmt.Sprintf("type %o", mode&unix.S_IFMT)
}
