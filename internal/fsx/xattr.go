package fsx

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// ProcPath names the object behind fd (an O_PATH descriptor too) for the calls that
// have no *at form. It needs /proc.
func ProcPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Xattrs reads all extended attributes of the object behind fd, ACLs included. A file
// system without extended attributes gives none.
func Xattrs(fd int) ([]fileop.Xattr, error) {
	path := ProcPath(fd)
	names, err := readSized(func(b []byte) (int, error) { return unix.Listxattr(path, b) })
	if err != nil || len(names) == 0 {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
		return nil, err
	}
	var out []fileop.Xattr
	for _, name := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.SGI_ACL_") {
			continue // xfs shows its ACLs a second time under these names
		}
		value, err := readSized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
			continue // removed meanwhile, or listed but not readable
		}
		if err != nil {
			return nil, err
		}
		out = append(out, fileop.Xattr{Name: name, Value: value})
	}
	return out, nil
}

// Xattr reads one extended attribute of the object behind fd; ENODATA if it has none of
// this name.
func Xattr(fd int, name string) ([]byte, error) {
	path := ProcPath(fd)
	return readSized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
}

// readSized calls f with a small buffer, and with the right one if that was too small.
func readSized(f func([]byte) (int, error)) ([]byte, error) {
	b := make([]byte, 256)
	for {
		n, err := f(b)
		if errors.Is(err, unix.ERANGE) {
			if n, err = f(nil); err == nil {
				b = make([]byte, n+256)
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// SetXattr sets one extended attribute of the object behind fd.
func SetXattr(fd int, x fileop.Xattr) error { return unix.Setxattr(ProcPath(fd), x.Name, x.Value, 0) }

// RemoveXattr removes one; removing what is not there is no error.
func RemoveXattr(fd int, name string) error {
	err := unix.Removexattr(ProcPath(fd), name)
	if errors.Is(err, unix.ENODATA) {
		return nil
	}
	return err
}
