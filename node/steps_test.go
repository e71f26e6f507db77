package node

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"understudy/internal/exercise"
)

// step is one call; A and B are names of the universe.
type step struct{ Kind, A, B string }

func (s step) String() string { return strings.TrimSpace(s.Kind + " " + s.A + " " + s.B) }

// names is the universe: at the beginning "a" is a file of some blocks with a second
// name "d/a", "b" is nothing, "d" a directory, "e" an empty one.
var names = []string{"a", "b", "d", "d/a", "e"}

// populate makes the beginning of a sequence.
func populate(dir string) error {
	data := bytes.Repeat([]byte("0123456789abcde\n"), 1280) // 20 KiB
	return errors.Join(os.MkdirAll(filepath.Join(dir, "d"), 0o755), os.Mkdir(filepath.Join(dir, "e"), 0o700),
		os.WriteFile(filepath.Join(dir, "a"), data, 0o6755), os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "d/a")))
}

// place is where a sequence works.
type place struct {
	dir   string
	plain bool // not captured
	open  int  // descriptor kept over steps, or -1
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// execute performs the steps in dir, which is made, and returns how each was answered.
func execute(dir string, plain bool, steps []step) (answers []string, err error) {
	unix.Umask(0o022)
	if err := populate(dir); err != nil {
		return nil, err
	}
	p := &place{dir: dir, plain: plain, open: -1}
	defer p.close()
	for _, s := range steps {
		do, ok := singles[s.Kind]
		if ok {
			err = do(p, p.path(s.A))
		} else {
			err = doubles[s.Kind](p.path(s.A), p.path(s.B))
		}
		answers = append(answers, answerOf(err))
	}
	return answers, nil
}

func answerOf(err error) string {
	var no unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no):
		return no.Error()
	}
	return err.Error()
}

func (p *place) close() {
	if p.open >= 0 {
		unix.Close(p.open)
		p.open = -1
	}
}

// with opens path and calls f with the descriptor.
func with(path string, flags int, f func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func writer(flags int, off int64, data string) func(*place, string) error {
	return func(_ *place, path string) error {
		return with(path, unix.O_WRONLY|flags, func(fd int) error {
			var err error
			if off < 0 {
				_, err = unix.Write(fd, []byte(data))
			} else {
				_, err = unix.Pwrite(fd, []byte(data), off)
			}
			return err
		})
	}
}

func truncater(n int64) func(*place, string) error {
	return func(_ *place, path string) error {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return err
		}
		return unix.Truncate(path, n)
	}
}

func faller(mode uint32, off, n int64) func(*place, string) error {
	return func(_ *place, path string) error {
		return with(path, unix.O_WRONLY, func(fd int) error { return unix.Fallocate(fd, mode, off, n) })
	}
}

// shifter moves what follows in a file, which the kernel does not pass on to any FUSE
// file system: the plain directory must answer the same.
func shifter(mode uint32) func(*place, string) error {
	return func(p *place, path string) error {
		return with(path, unix.O_WRONLY, func(fd int) error {
			if p.plain {
				return unix.EOPNOTSUPP
			}
			return unix.Fallocate(fd, mode, 4096, 8192)
		})
	}
}

func noder(mode uint32, dev uint64) func(*place, string) error {
	return func(_ *place, path string) error { return unix.Mknod(path, mode, int(dev)) }
}

func chmodder(mode uint32) func(*place, string) error {
	return func(_ *place, path string) error {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return err // it would change what the link points to
		}
		return unix.Chmod(path, mode)
	}
}

func attr(name string, value []byte, flags int) func(*place, string) error {
	return func(_ *place, path string) error { return unix.Lsetxattr(path, name, value, flags) }
}

func noAttr(name string) func(*place, string) error {
	return func(_ *place, path string) error { return unix.Lremovexattr(path, name) }
}

// fsyncer is fsync of a file or a directory.
func fsyncer(_ *place, path string) error { return with(path, unix.O_RDONLY, unix.Fsync) }

// tmpfile gives a file without a name one, after writing to it.
func tmpfile(_ *place, path string) error {
	return with(filepath.Dir(path), unix.O_TMPFILE|unix.O_RDWR, func(fd int) error {
		if _, err := unix.Write(fd, []byte("without a name")); err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	})
}

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

// singles are the steps with one name.
var singles = map[string]func(*place, string) error{
	"create":     writer(unix.O_CREAT|unix.O_EXCL, 0, "created"),
	"overwrite":  writer(unix.O_CREAT|unix.O_TRUNC, 0, "written anew"),
	"write":      writer(0, 5000, "in the middle"),
	"write far":  writer(0, 100_000, "behind a hole"),
	"append":     writer(unix.O_APPEND, -1, "at the end"),
	"mkdir":      func(_ *place, path string) error { return unix.Mkdir(path, 0o2755) },
	"mkfifo":     noder(unix.S_IFIFO|0o600, 0),
	"mkdev":      noder(unix.S_IFCHR|0o600, unix.Mkdev(60, 3)),
	"symlink":    func(_ *place, path string) error { return unix.Symlink("a", path) },
	"unlink":     func(_ *place, path string) error { return unix.Unlink(path) },
	"rmdir":      func(_ *place, path string) error { return unix.Rmdir(path) },
	"shorten":    truncater(700),
	"lengthen":   truncater(70_000),
	"allocate":   faller(0, 10_000, 50_000),
	"keep size":  faller(unix.FALLOC_FL_KEEP_SIZE, 10_000, 50_000),
	"punch":      faller(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1000, 9000),
	"zero":       faller(unix.FALLOC_FL_ZERO_RANGE, 15_000, 9000),
	"zero keep":  faller(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, 15_000, 9000),
	"collapse":   shifter(unix.FALLOC_FL_COLLAPSE_RANGE),
	"insert":     shifter(unix.FALLOC_FL_INSERT_RANGE),
	"chmod":      chmodder(0o640),
	"chmod suid": chmodder(0o6711),
	"chown":      func(_ *place, path string) error { return unix.Lchown(path, 1, 2) },
	"chgrp":      func(_ *place, path string) error { return unix.Lchown(path, -1, 3) },
	"utimens": func(_ *place, path string) error {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1_000_000_000, Nsec: 123_456_789}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	},
	"setxattr":         attr("user.one", []byte("value"), 0),
	"setxattr new":     attr("user.one", []byte("another"), unix.XATTR_CREATE),
	"trusted":          attr("trusted.two", nil, 0),
	"removexattr":      noAttr("user.one"),
	"acl":              attr(aclAccess, exercise.ACL(7, 5, 4, 1, 6), 0),
	"acl default":      attr(aclDefault, exercise.ACL(7, 5, 0, 2, 7), 0),
	"acl none":         noAttr(aclAccess),
	"acl default none": noAttr(aclDefault),
	"tmpfile":          tmpfile,
	"fsync":            fsyncer,
	"open": func(p *place, path string) (err error) {
		p.close()
		p.open, err = unix.Open(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	},
}

// Steps on the descriptor that is open; they take no name.
var held = map[string]func(*place, string) error{
	"write open": func(p *place, _ string) error {
		_, err := unix.Pwrite(p.open, []byte("through a descriptor"), 3000)
		return err
	},
	"chmod open":   func(p *place, _ string) error { return unix.Fchmod(p.open, 0o604) },
	"shorten open": func(p *place, _ string) error { return unix.Ftruncate(p.open, 4000) },
	"close":        func(p *place, _ string) error { p.close(); return nil },
}

func init() {
	for k, f := range held {
		singles[k] = f
	}
}

func renamer(flags uint) func(a, b string) error {
	return func(a, b string) error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, flags) }
}

// copier copies n bytes from one file into another; a source that is shorter is made
// longer first.
func copier(n int) func(a, b string) error {
	return func(a, b string) error {
		return with(a, unix.O_RDWR, func(from int) error {
			var st unix.Stat_t
			if err := unix.Fstat(from, &st); err != nil {
				return err
			}
			if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size < int64(n) {
				if _, err := unix.Pwrite(from, []byte("the end"), int64(n)-7); err != nil {
					return err
				}
			}
			return with(b, unix.O_WRONLY|unix.O_CREAT, func(to int) error { return copyAll(from, to, n) })
		})
	}
}

func copyAll(from, to, n int) error {
	var in, out int64 = 0, 2048
	for n > 0 {
		k, err := unix.CopyFileRange(from, &in, to, &out, n, 0)
		if err != nil || k == 0 {
			return err
		}
		n -= k
	}
	return nil
}

// doubles are the steps with two names.
var doubles = map[string]func(a, b string) error{
	"link":   func(a, b string) error { return unix.Link(a, b) },
	"rename": renamer(0), "rename new": renamer(unix.RENAME_NOREPLACE), "exchange": renamer(unix.RENAME_EXCHANGE),
	"whiteout": renamer(unix.RENAME_WHITEOUT),
	"copy":     copier(6000), "copy big": copier(1<<20 + 5000),
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// allSteps is every step there is, in a fixed order.
func allSteps() (all []step) {
	for _, kind := range sortedKeys(singles) {
		if held[kind] != nil {
			all = append(all, step{Kind: kind})
			continue
		}
		for _, a := range names {
			all = append(all, step{Kind: kind, A: a})
		}
	}
	for _, kind := range sortedKeys(doubles) {
		for _, a := range names {
			for _, b := range names {
				all = append(all, step{kind, a, b})
			}
		}
	}
	return all
}

// stepGen draws a kind, then names for it.
func stepGen() *rapid.Generator[step] {
	kinds := append(sortedKeys(singles), sortedKeys(doubles)...)
	return rapid.Custom(func(t *rapid.T) step {
		s := step{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		if held[s.Kind] == nil {
			s.A = rapid.SampledFrom(names).Draw(t, "a")
		}
		if doubles[s.Kind] != nil {
			s.B = rapid.SampledFrom(names).Draw(t, "b")
		}
		return s
	})
}
