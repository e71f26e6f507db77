package stacked

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"understudy/internal/fsx"
)

// workSpec is what an application does: steps of every kind in a directory of its own,
// until the stop file is there. It knows what each must give; anything else is an error.
type workSpec struct {
	Dir  string
	Stop string
	Seed uint64
}

// worker is an application and what it believes.
type worker struct {
	dir   string
	r     *rand.Rand
	files map[string][]byte // content by name
	open  []openFileOf      // with and without a name
	next  int
	list  *listing
	steps map[string]int
	slow  time.Duration // the longest step
}

type openFileOf struct {
	fd   int
	want []byte
}

// listing is a directory being read in small pieces.
type listing struct {
	fd   int
	dir  string
	want map[string]bool
}

func workChild(raw string) error {
	var spec workSpec
	if err := json.Unmarshal([]byte(raw), &spec); err != nil {
		return err
	}
	w := &worker{dir: spec.Dir, r: rand.New(rand.NewPCG(spec.Seed, 7)), files: map[string][]byte{}, steps: map[string]int{}}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return err
	}
	all := map[string]func() error{"create": w.create, "unlink": w.unlink, "rename": w.rename, "exchange": w.exchange,
		"mkdir": w.mkdir, "link": w.link, "special": w.special, "xattr": w.xattr, "append": w.append, "read": w.read, "list": w.listDir,
		"orphan": w.orphan, "tmpfile": w.tmpfile, "map": w.mapped, "attr": w.attr, "close": w.closeOne, "gonedir": w.goneDir}
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for {
		if _, err := os.Lstat(spec.Stop); err == nil {
			break
		}
		name := names[w.r.IntN(len(names))]
		begin := time.Now()
		if err := all[name](); err != nil {
			return fmt.Errorf("seed %d, step %v, %s: %w", spec.Seed, w.steps, name, err)
		}
		w.slow = max(w.slow, time.Since(begin))
		w.steps[name]++
	}
	for _, f := range w.open {
		if err := w.same(f); err != nil {
			return err
		}
	}
	fmt.Println(w.slow.Milliseconds(), w.steps)
	return nil
}

func (w *worker) path(name string) string { return w.dir + "/" + name }

func (w *worker) newName() string {
	w.next++
	return fmt.Sprintf("%s%d", strings.Repeat("n", 1+w.r.IntN(60)), w.next)
}

func (w *worker) some() string {
	if len(w.files) == 0 {
		return ""
	}
	names := make([]string, 0, len(w.files))
	for n := range w.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names[w.r.IntN(len(names))]
}

func (w *worker) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(w.r.Uint32())
	}
	return b
}

func (w *worker) create() error {
	if len(w.files) > 60 {
		return w.unlink()
	}
	name := w.newName()
	fd, err := unix.Open(w.path(name), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	b := w.bytes(w.r.IntN(20000))
	if n, err := unix.Pwrite(fd, b, 0); err != nil || n != len(b) {
		return fmt.Errorf("write %d: %d, %w", len(b), n, err)
	}
	w.files[name] = b
	if w.r.IntN(3) > 0 || len(w.open) > 20 {
		return unix.Close(fd)
	}
	w.open = append(w.open, openFileOf{fd, b}) // unchanged as long as nobody appends by name
	w.files[name] = nil                        // content not checked by name any more
	return nil
}

func (w *worker) gone(name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(w.path(name), &st); err != unix.ENOENT {
		return fmt.Errorf("%s should be gone: %w", name, err)
	}
	return nil
}

func (w *worker) unlink() error {
	name := w.some()
	if name == "" {
		return nil
	}
	delete(w.files, name)
	if err := unix.Unlink(w.path(name)); err != nil {
		return err
	}
	return w.gone(name)
}

func (w *worker) rename() error {
	from, to := w.some(), w.some()
	if from == "" || w.r.IntN(2) == 0 || from == to {
		to = w.newName()
	}
	if from == "" {
		return nil
	}
	if err := unix.Rename(w.path(from), w.path(to)); err != nil {
		return err
	}
	w.files[to] = w.files[from]
	delete(w.files, from)
	return w.gone(from)
}

func (w *worker) exchange() error {
	a, b := w.some(), w.some()
	if a == b {
		return nil
	}
	if err := unix.Renameat2(unix.AT_FDCWD, w.path(a), unix.AT_FDCWD, w.path(b), unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	w.files[a], w.files[b] = w.files[b], w.files[a]
	return nil
}

func (w *worker) mkdir() error {
	a, b := w.newName(), w.newName()
	if err := unix.Mkdir(w.path(a), 0o777); err != nil {
		return err
	}
	if err := unix.Mkdir(w.path(a+"/sub"), 0o777); err != nil {
		return err
	}
	if err := unix.Rename(w.path(a), w.path(b)); err != nil {
		return err
	}
	if err := unix.Rmdir(w.path(b + "/sub")); err != nil {
		return err
	}
	if w.r.IntN(4) == 0 {
		return nil
	}
	if err := unix.Rmdir(w.path(b)); err != nil {
		return err
	}
	return w.gone(b)
}

func (w *worker) link() error {
	name := w.some()
	if name == "" {
		return nil
	}
	to := w.newName()
	if err := unix.Link(w.path(name), w.path(to)); err != nil {
		return err
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(w.path(name), &a), unix.Stat(w.path(to), &b)); err != nil || a.Ino != b.Ino {
		return fmt.Errorf("link is another file: %w", err)
	}
	return unix.Unlink(w.path(to))
}

func (w *worker) special() error {
	name := w.newName()
	if err := unix.Mkfifo(w.path(name), 0o600); err != nil {
		return err
	}
	if err := unix.Unlink(w.path(name)); err != nil {
		return err
	}
	if err := unix.Symlink(name+"-target", w.path(name)); err != nil {
		return err
	}
	buf := make([]byte, 200)
	n, err := unix.Readlink(w.path(name), buf)
	if err != nil || string(buf[:n]) != name+"-target" {
		return fmt.Errorf("symlink to %q: %w", buf[:max(n, 0)], err)
	}
	if w.r.IntN(4) == 0 {
		return nil
	}
	return unix.Unlink(w.path(name))
}

func (w *worker) xattr() error {
	name := w.some()
	if name == "" {
		return nil
	}
	path, value := w.path(name), w.bytes(20)
	if err := unix.Setxattr(path, "user.one", value, unix.XATTR_CREATE); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := unix.Setxattr(path, "user.one", value, unix.XATTR_CREATE); err != unix.EEXIST {
		return fmt.Errorf("create twice: %w", err)
	}
	if err := unix.Setxattr(path, "user.one", value[1:], unix.XATTR_REPLACE); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	buf := make([]byte, 50)
	if n, err := unix.Getxattr(path, "user.one", buf); err != nil || !bytes.Equal(buf[:n], value[1:]) {
		return fmt.Errorf("get: %d, %w", n, err)
	}
	if err := unix.Removexattr(path, "user.one"); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

func (w *worker) append() error {
	name := w.some()
	if name == "" || w.files[name] == nil {
		return nil
	}
	fd, err := unix.Open(w.path(name), unix.O_WRONLY|unix.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for range w.r.IntN(5) {
		b := w.bytes(w.r.IntN(3000))
		if n, err := unix.Write(fd, b); err != nil || n != len(b) {
			return fmt.Errorf("append %d: %d, %w", len(b), n, err)
		}
		w.files[name] = append(w.files[name], b...)
	}
	return unix.Fsync(fd)
}

func (w *worker) read() error {
	if len(w.open) > 0 {
		if err := w.same(w.open[w.r.IntN(len(w.open))]); err != nil {
			return err
		}
	}
	name := w.some()
	if name == "" || w.files[name] == nil {
		return nil
	}
	fd, err := unix.Open(w.path(name), unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.same(openFileOf{fd, w.files[name]})
}

// same compares an open file with what it should have.
func (w *worker) same(f openFileOf) error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return fmt.Errorf("stat open file: %w", err)
	}
	unix.Fadvise(f.fd, 0, 0, unix.FADV_DONTNEED)
	b := make([]byte, len(f.want)+1)
	n, err := unix.Pread(f.fd, b, 0)
	if err != nil || !bytes.Equal(b[:n], f.want) || st.Size != int64(len(f.want)) {
		return fmt.Errorf("open file has %d bytes (size %d), not the %d expected: %w", n, st.Size, len(f.want), err)
	}
	return nil
}

// orphan makes a file that stays open without a name, and works on those there are.
func (w *worker) orphan() error {
	name := w.newName()
	fd, err := unix.Open(w.path(name), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	b := w.bytes(5000)
	if _, err := unix.Pwrite(fd, b, 0); err != nil {
		return err
	}
	if w.r.IntN(2) == 0 {
		if err := unix.Unlink(w.path(name)); err != nil {
			return err
		}
	} else { // replaced by another
		other := w.newName()
		o, err := unix.Open(w.path(other), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		unix.Close(o)
		if err := unix.Rename(w.path(other), w.path(name)); err != nil {
			return err
		}
		if err := unix.Unlink(w.path(name)); err != nil {
			return err
		}
	}
	if _, err := unix.Pwrite(fd, b[:100], 5000); err != nil {
		return fmt.Errorf("write without a name: %w", err)
	}
	w.open = append(w.open, openFileOf{fd, append(b, b[:100]...)})
	return w.closeOne()
}

func (w *worker) closeOne() error {
	if len(w.open) < 15 {
		return nil
	}
	i := w.r.IntN(len(w.open))
	f := w.open[i]
	w.open = slices.Delete(w.open, i, i+1)
	return errors.Join(w.same(f), unix.Close(f.fd))
}

func (w *worker) tmpfile() error {
	fd, err := unix.Open(w.dir, unix.O_TMPFILE|unix.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	b := w.bytes(3000)
	if _, err := unix.Pwrite(fd, b, 0); err != nil {
		return err
	}
	name := w.newName()
	if err := w.same(openFileOf{fd, b}); err != nil {
		return err
	}
	if w.r.IntN(2) == 0 {
		w.open = append(w.open, openFileOf{fd, b})
		return w.closeOne()
	}
	if err := unix.Linkat(unix.AT_FDCWD, fsx.ProcPath(fd), unix.AT_FDCWD, w.path(name), unix.AT_SYMLINK_FOLLOW); err != nil {
		return fmt.Errorf("give a name: %w", err)
	}
	w.files[name] = b
	return unix.Close(fd)
}

func (w *worker) mapped() error {
	name := w.newName()
	if err := os.WriteFile(w.path(name), make([]byte, 8192), 0o600); err != nil {
		return err
	}
	if err := storeMapped(w.path(name)); err != nil {
		return err
	}
	return unix.Unlink(w.path(name))
}

// storeMapped changes a file by a shared mapping and reads it by a descriptor.
func storeMapped(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	m, err := unix.Mmap(fd, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[5000:], "mapped")
	if err := errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m)); err != nil {
		return err
	}
	b := make([]byte, 6)
	if _, err := unix.Pread(fd, b, 5000); err != nil || string(b) != "mapped" {
		return fmt.Errorf("mapped file has %q: %w", b, err)
	}
	return nil
}

func (w *worker) attr() error {
	name := w.some()
	if name == "" {
		return nil
	}
	mode := uint32(0o600 | w.r.IntN(0o100))
	if err := unix.Chmod(w.path(name), mode); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(w.path(name), &st); err != nil || st.Mode&0o777 != mode {
		return fmt.Errorf("mode %o, not %o: %w", st.Mode, mode, err)
	}
	return nil
}

// listDir reads a piece of a directory that does not change.
func (w *worker) listDir() error {
	if w.list == nil {
		l := &listing{dir: w.path(w.newName()), want: map[string]bool{}}
		if err := unix.Mkdir(l.dir, 0o755); err != nil {
			return err
		}
		for i := range 40 {
			name := fmt.Sprintf("%s%d", strings.Repeat("l", w.r.IntN(100)), i)
			if err := unix.Mknod(l.dir+"/"+name, unix.S_IFREG|0o600, 0); err != nil {
				return err
			}
			l.want[name] = true
		}
		fd, err := unix.Open(l.dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		l.fd = fd
		w.list = l
	}
	l := w.list
	buf := make([]byte, 512)
	n, err := unix.Getdents(l.fd, buf)
	if err != nil {
		return err
	}
	if n > 0 {
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if !l.want[name] {
				return fmt.Errorf("name %s a second time", name)
			}
			delete(l.want, name)
		}
		return nil
	}
	if len(l.want) > 0 {
		return fmt.Errorf("%d names not listed", len(l.want))
	}
	w.list = nil
	unix.Close(l.fd)
	return os.RemoveAll(l.dir)
}

// goneDir keeps a directory open while it is removed.
func (w *worker) goneDir() error {
	name := w.newName()
	if err := unix.Mkdir(w.path(name), 0o700); err != nil {
		return err
	}
	fd, err := unix.Open(w.path(name), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Rmdir(w.path(name)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat removed directory: %w", err)
	}
	if n, err := unix.Getdents(fd, make([]byte, 512)); err != nil && err != unix.ENOENT {
		return fmt.Errorf("list removed directory: %d, %w", n, err)
	}
	return nil
}
