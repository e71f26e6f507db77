package sametree

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Snapshot reads the tree at dir, which may itself be a symbolic link.
func Snapshot(dir string) (*Tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", dir, err)
	}
	s := &reader{tree: &Tree{Nodes: map[string]*Node{}}, buf: make([]byte, 1<<20),
		list: make([]byte, 64<<10), value: make([]byte, 64<<10), files: map[[2]uint64]*Node{}}
	if err := s.root(fd); err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", dir, err)
	}
	return s.tree, nil
}

type reader struct {
	tree  *Tree
	buf   []byte              // for content
	list  []byte              // for the names of extended attributes (XATTR_LIST_MAX)
	value []byte              // and a value (XATTR_SIZE_MAX)
	files map[[2]uint64]*Node // files with several names, read once
}

// root reads the directory behind fd, which it closes.
func (s *reader) root(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	n := nodeOf(&st)
	var err error
	if n.Xattrs, err = s.xattrs(fmt.Sprintf("/proc/self/fd/%d/.", fd)); err != nil {
		unix.Close(fd)
		return err
	}
	s.tree.Nodes["."] = n
	return s.dir(fd, "")
}

// dir reads everything below the directory behind fd, which it closes.
func (s *reader) dir(fd int, rel string) error {
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		p := path.Join(rel, name)
		if err := s.name(fd, name, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func (s *reader) name(dirfd int, name, rel string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	n := nodeOf(&st)
	if known := s.files[n.ID]; known != nil {
		// Shown again through another name: the same object, but not taken on trust.
		again := *known
		again.Mode, again.UID, again.GID, again.Mtime, again.Size = n.Mode, n.UID, n.GID, n.Mtime, n.Size
		s.tree.Nodes[rel] = &again
		return nil
	}
	var err error
	if n.Xattrs, err = s.xattrs(fmt.Sprintf("/proc/self/fd/%d/%s", dirfd, name)); err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	s.tree.Nodes[rel] = n
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return s.dir(fd, rel)
	case unix.S_IFREG:
		if err := s.content(dirfd, name, n); err != nil {
			return err
		}
	case unix.S_IFLNK:
		b := make([]byte, unix.PathMax)
		k, err := unix.Readlinkat(dirfd, name, b)
		if err != nil {
			return err
		}
		n.Target = string(b[:k])
	}
	if st.Nlink > 1 {
		s.files[n.ID] = n
	}
	return nil
}

func nodeOf(st *unix.Stat_t) *Node {
	n := &Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, ID: [2]uint64{st.Dev, st.Ino},
		Mtime: Time{st.Mtim.Sec, uint32(st.Mtim.Nsec)}}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Size = st.Size
	case unix.S_IFBLK, unix.S_IFCHR:
		n.Rdev = st.Rdev
	}
	return n
}

// xattrs reads all extended attributes of the object at p, not following it.
func (s *reader) xattrs(p string) (map[string]string, error) {
	n, err := unix.Llistxattr(p, s.list)
	if err != nil || n == 0 {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
		return nil, err
	}
	out := map[string]string{}
	for _, name := range strings.Split(strings.TrimSuffix(string(s.list[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.SGI_ACL_") {
			continue // xfs shows its ACLs a second time under these names
		}
		k, err := unix.Lgetxattr(p, name, s.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strconv.Quote(name), err)
		}
		out[name] = string(s.value[:k])
	}
	return out, nil
}
