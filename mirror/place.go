package mirror

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// gone reports that an object vanished between listing and reading it, which is
// everyday life beside a live application.
func gone(err error) bool { return errors.Is(err, ErrGone) || errors.Is(err, fs.ErrNotExist) }

func isDir(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }
func isReg(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFREG }
func isLnk(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFLNK }

// join puts a name behind a relative or absolute directory path.
func join(dir, name string) string {
	switch {
	case dir == "":
		return name
	case name == "":
		return dir
	case dir == "/":
		return "/" + name
	}
	return dir + "/" + name
}

// abs is the absolute path of a path relative to the tree.
func (r *Root) abs(rel string) string { return join(r.TreePath, rel) }

// rel is the set's root directory relative to the tree.
func (r *Root) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.Dir, r.TreePath), "/")
}

// below reports whether path is beneath dir, or dir itself.
func below(path, dir string) bool {
	if !strings.HasPrefix(path, dir) {
		return false
	}
	return len(path) == len(dir) || dir == "/" || path[len(dir)] == '/'
}

// place judges paths of one root by the rules.
type place struct {
	*Root
	rules Rules
}

func (m *Mirror) place(i int) place { return place{&m.cfg.Roots[i], *m.rules.Load()} }

// carries reports whether the object at the tree-relative path travels.
func (p place) carries(rel string, dir bool) bool {
	at := p.abs(rel)
	if !below(at, p.Dir) {
		return false
	}
	if len(at) == len(p.Dir) {
		return dir
	}
	if dir {
		return p.rules.Leads(at)
	}
	return p.rules.Selects(at, false)
}

// names reports whether the name at the tree-relative path is in the set. The set's
// root has its name outside.
func (p place) names(rel string, dir bool) bool {
	return !p.isRoot(rel) && p.carries(rel, dir)
}

func (p place) isRoot(rel string) bool { return p.abs(rel) == p.Dir }

// leadsToRoot reports that the directory at rel is the set's root or above it.
func (p place) leadsToRoot(rel string) bool { return below(p.Dir, p.abs(rel)) }

// same reports that the set looks the same at and below two paths.
func (p place) same(a, b string) bool {
	return p.carries(a, true) == p.carries(b, true) && p.carries(a, false) == p.carries(b, false) &&
		p.rules.SameBelow(p.abs(a), p.abs(b))
}

func (p place) selectsEntry(dir string, e *fileop.Entry) bool {
	return p.names(join(dir, e.Name), isDir(e.Attr.Mode))
}
