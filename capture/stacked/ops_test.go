package stacked

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// tapped is start with a recorder attached.
func tapped(t testing.TB) (c *Capture, r *recorder, dir, lower string) {
	t.Helper()
	c, dir, lower = start(t, Config{})
	r = &recorder{}
	t.Cleanup(c.Attach(r))
	return c, r, dir, lower
}

func TestNameOps(t *testing.T) {
	_, r, dir, lower := tapped(t)
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)

	must(t, os.WriteFile(dir+"/f", []byte("hello"), 0o666))
	ops := r.want(t, "create and write", "create f 100644 0:0", "write f 0+5")
	root, f := identity(t, lower+"/."), identity(t, lower+"/f")
	if ops[0].Obj != f || ops[0].Parent != root || ops[0].Name != "f" || ops[1].Obj != f {
		t.Errorf("identities: %v", ops)
	}
	if string(ops[1].Data) != "hello" || ops[1].Mtime != timeOf(stat(t, lower+"/f").Mtim) {
		t.Errorf("write: %q at %v", ops[1].Data, ops[1].Mtime)
	}
	if ops[0].PMtime != timeOf(stat(t, lower+"/.").Mtim) {
		t.Errorf("directory time %v", ops[0].PMtime)
	}

	must(t, os.Mkdir(dir+"/d", 0o777))
	must(t, unix.Mkfifo(dir+"/d/fifo", 0o640))
	must(t, unix.Mknod(dir+"/d/dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(dir+"/d/sock", unix.S_IFSOCK|0o600, 0))
	must(t, unix.Mknod(dir+"/d/reg", unix.S_IFREG|0o600, 0))
	must(t, os.Symlink("some/where", dir+"/d/link"))
	must(t, os.Link(dir+"/f", dir+"/d/g"))
	ops = r.want(t, "making things", "mkdir d 40755 0:0", "mknod d/fifo 10640 0:0", "mknod d/dev 20600 0:0 dev 103",
		"mknod d/sock 140600 0:0", "create d/reg 100600 0:0", "symlink d/link 120777 0:0 some/where", "link d/g")
	d := identity(t, lower+"/d")
	if ops[6].Obj != f || ops[6].Parent != d || ops[6].Name != "g" || ops[6].PMtime.IsZero() {
		t.Errorf("link: %+v", ops[6])
	}

	must(t, os.Rename(dir+"/d/link", dir+"/moved"))
	must(t, os.Rename(dir+"/d/reg", dir+"/moved"))
	ops = r.want(t, "rename", "rename d/link -> moved", "rename d/reg -> moved over last")
	if ops[1].Obj != identity(t, lower+"/moved") || ops[1].Obj2 != ops[0].Obj || ops[1].Parent != d || ops[1].Parent2 != root {
		t.Errorf("rename: %+v", ops[1])
	}
	must(t, os.Remove(dir+"/f"))
	must(t, os.Remove(dir+"/d/g"))
	must(t, os.RemoveAll(dir+"/d"))
	ops = r.take(t)
	if got := brief(ops[0]) + "," + brief(ops[1]); got != "unlink f,unlink d/g last" || ops[1].Obj != f {
		t.Errorf("unlink: %s", got)
	}
	if last := ops[len(ops)-1]; brief(last) != "rmdir d last" || last.Obj != d || last.PMtime.IsZero() {
		t.Errorf("rmdir: %+v", last)
	}
}

func timeOf(ts unix.Timespec) fileop.Time { return fileop.Time{Sec: ts.Sec, Nsec: uint32(ts.Nsec)} }

func TestRenameFlags(t *testing.T) {
	_, r, dir, lower := tapped(t)
	for _, n := range []string{"a", "b"} {
		must(t, os.WriteFile(dir+"/"+n, nil, 0o644))
	}
	must(t, os.Mkdir(dir+"/d", 0o755))
	must(t, os.Link(dir+"/a", dir+"/a2"))
	r.take(t)
	a, d := identity(t, lower+"/a"), identity(t, lower+"/d")
	rename := func(from, to string, flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, dir+"/"+from, unix.AT_FDCWD, dir+"/"+to, flags)
	}
	must(t, rename("a", "a2", 0)) // two names of one file: nothing happens
	if err := rename("a", "b", unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("no replace: %v", err)
	}
	r.want(t, "renames without effect")
	must(t, rename("b", "c", unix.RENAME_NOREPLACE))
	r.want(t, "no replace", "rename b -> c")
	must(t, rename("a", "d", unix.RENAME_EXCHANGE))
	ops := r.want(t, "exchange", "rename a -> d flags 2 over")
	if ops[0].Obj != a || ops[0].Obj2 != d {
		t.Errorf("exchange: %+v", ops[0])
	}
	must(t, os.WriteFile(dir+"/a/in", nil, 0o600)) // a is the directory now
	r.want(t, "in the exchanged directory", "create a/in 100600 0:0")
	must(t, rename("c", "a2", unix.RENAME_WHITEOUT))
	ops = r.want(t, "whiteout", "rename c -> a2 over", "mknod c 20000 0:0")
	if ops[0].Flags != 0 || ops[1].Obj != identity(t, lower+"/c") || ops[1].Attr.Rdev != 0 {
		t.Errorf("whiteout: %+v", ops)
	}
	st := stat(t, dir+"/c")
	if st.Mode != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout is %o %x", st.Mode, st.Rdev)
	}
	must(t, os.Mkdir(dir+"/e", 0o755))
	must(t, os.Mkdir(dir+"/g", 0o755))
	r.take(t)
	must(t, rename("e", "g", 0))
	r.want(t, "directory over an empty one", "rename e -> g over last")
}

func TestDataOps(t *testing.T) {
	_, r, dir, lower := tapped(t)
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	_, err = f.Write(big)
	must(t, err)
	ops := r.take(t)
	var got []byte
	for _, op := range ops[1:] {
		if op.Kind != fileop.Write || op.Off != int64(len(got)) {
			t.Fatalf("got %s", brief(op))
		}
		got = append(got, op.Data...)
	}
	if !bytes.Equal(got, big) {
		t.Error("data of writes is not what was written")
	}
	must(t, f.Truncate(5))
	must(t, os.Truncate(dir+"/f", 100_000))
	must(t, unix.Fallocate(int(f.Fd()), 0, 90_000, 20_000))
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	zero := []string{"fallocate f 4096+4096 flags 16"}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, 4096, 4096); err == unix.EOPNOTSUPP {
		zero = nil // tmpfs
	} else {
		must(t, err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, 4096); err != unix.EOPNOTSUPP {
		t.Errorf("collapse: %v", err)
	}
	ops = r.want(t, "sizes", append([]string{"truncate f 5", "truncate f 100000", "fallocate f 90000+20000",
		"fallocate f 0+4096 flags 3"}, zero...)...)
	if last := ops[len(ops)-1]; last.Mtime != timeOf(stat(t, lower+"/f").Mtim) {
		t.Errorf("time %v", last.Mtime)
	}
	must(t, f.Sync())
	must(t, unix.Fdatasync(int(f.Fd())))
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	must(t, d.Sync())
	r.want(t, "sync", "sync f", "sync f", "sync ")
	tr, err := os.OpenFile(dir+"/f", os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	tr.Close()
	r.want(t, "open with O_TRUNC", "truncate f 0")
	ro, err := os.OpenFile(dir+"/f", os.O_RDONLY|os.O_TRUNC, 0)
	must(t, err)
	ro.Close()
	r.want(t, "open read-only with O_TRUNC", "truncate f 0")
	ds, err := os.OpenFile(dir+"/f", os.O_WRONLY|unix.O_DSYNC, 0)
	must(t, err)
	defer ds.Close()
	_, err = ds.Write([]byte("x"))
	must(t, err)
	r.want(t, "O_DSYNC", "write f 0+1", "sync f") // by the kernel; ours alone would lose it
	dd, err := os.OpenFile(dir+"/f", os.O_WRONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer dd.Close()
	_, err = dd.Write([]byte("any size"))
	must(t, err)
	r.want(t, "O_DIRECT", "write f 0+8")
	var above, below unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, dir+"/f", 0, unix.STATX_BTIME, &above))
	must(t, unix.Statx(unix.AT_FDCWD, lower+"/f", 0, unix.STATX_BTIME, &below))
	if above.Mask&unix.STATX_BTIME == 0 || above.Btime != below.Btime {
		t.Errorf("born %v, below %v", above.Btime, below.Btime)
	}
}

func TestAttributeOps(t *testing.T) {
	_, r, dir, lower := tapped(t)
	must(t, os.WriteFile(dir+"/f", nil, 0o644))
	r.take(t)
	must(t, os.Chmod(dir+"/f", 0o600))
	must(t, os.Chown(dir+"/f", 12, 34))
	when := time.Unix(-5, 123456789)
	must(t, os.Chtimes(dir+"/f", time.Time{}, when))
	ops := r.want(t, "attributes", "set-attr f 100600 0:0", "set-attr f 100600 12:34", "set-attr f 100600 12:34")
	if m := ops[2].Attr.Mtime; m != (fileop.Time{Sec: -5, Nsec: 123456789}) || m != timeOf(stat(t, lower+"/f").Mtim) {
		t.Errorf("time %v", m)
	}
	must(t, os.Chtimes(dir+"/f", when, when))
	r.want(t, "access time", "set-attr f 100600 12:34 atime")
	must(t, unix.Setxattr(dir+"/f", "user.a", []byte("v"), 0))
	must(t, unix.Setxattr(dir+"/f", "trusted.b", nil, 0))
	ops = r.want(t, "xattrs", "set-xattr f user.a", "set-xattr f trusted.b")
	if string(ops[0].Xattrs[0].Value) != "v" {
		t.Errorf("value %q", ops[0].Xattrs[0].Value)
	}
	if err := unix.Setxattr(dir+"/f", "user.a", nil, unix.XATTR_CREATE); err != unix.EEXIST {
		t.Errorf("create of an attribute that exists: %v", err)
	}
	must(t, unix.Removexattr(dir+"/f", "user.a"))
	r.want(t, "removal", "remove-xattr f user.a")
	must(t, os.Symlink("x", dir+"/l"))
	must(t, os.Lchown(dir+"/l", 5, 6))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/l", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 7}}, unix.AT_SYMLINK_NOFOLLOW))
	r.want(t, "of a link", "symlink l 120777 0:0 x", "set-attr l 120777 5:6", "set-attr l 120777 5:6")
	must(t, os.Chmod(dir, 0o711))
	r.want(t, "of the root", "set-attr  40711 0:0")
}

// acl makes the value of an ACL attribute: owner, one named user, group, mask, other.
func acl(perm, user, uid uint16) []byte {
	b := []byte{2, 0, 0, 0}
	for _, e := range [][3]uint32{{1, uint32(perm), 1<<32 - 1}, {2, uint32(user), uint32(uid)},
		{4, 5, 1<<32 - 1}, {16, 7, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		b = append(b, byte(e[0]), 0, byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
	}
	return b
}

// Objects made in a directory with a default ACL inherit it; the umask does not count.
func TestACL(t *testing.T) {
	_, r, dir, lower := tapped(t)
	must(t, os.Mkdir(dir+"/d", 0o755))
	must(t, os.WriteFile(dir+"/d/earlier", nil, 0o644))
	r.take(t)
	must(t, unix.Setxattr(dir+"/d", aclDefaultName, acl(7, 7, 1000), 0))
	r.want(t, "default ACL", "set-xattr d system.posix_acl_default")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	must(t, os.WriteFile(dir+"/d/f", nil, 0o666))
	must(t, os.Mkdir(dir+"/d/s", 0o777))
	r.want(t, "inheriting", "create d/f 100660 0:0 system.posix_acl_access",
		"mkdir d/s 40770 0:0 system.posix_acl_access system.posix_acl_default")
	native := t.TempDir()
	must(t, unix.Setxattr(native, aclDefaultName, acl(7, 7, 1000), 0))
	must(t, os.WriteFile(native+"/f", nil, 0o666))
	if a, b := stat(t, native+"/f").Mode, stat(t, lower+"/d/f").Mode; a != b {
		t.Errorf("mode %o natively, %o captured", a, b)
	}
	must(t, unix.Setxattr(dir+"/d/f", aclAccessName, acl(6, 7, 1000), 0))
	r.want(t, "access ACL changes the mode", "set-xattr d/f system.posix_acl_access", "set-attr d/f 100670 0:0")
	must(t, unix.Removexattr(dir+"/d/f", aclAccessName))
	must(t, unix.Removexattr(dir+"/d", aclDefaultName))
	r.want(t, "removal", "remove-xattr d/f system.posix_acl_access", "remove-xattr d system.posix_acl_default")
	must(t, os.WriteFile(dir+"/d/g", nil, 0o666))
	r.want(t, "without it the umask counts", "create d/g 100600 0:0")
}

func TestTmpfile(t *testing.T) {
	c, r, dir, lower := tapped(t)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o640)
	must(t, err)
	_, err = unix.Write(fd, []byte("data"))
	must(t, err)
	ops := r.want(t, "tmpfile", "create  100640 0:0", "write  0+4")
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/named", unix.AT_SYMLINK_FOLLOW))
	_, err = unix.Pwrite(fd, []byte("more"), 4)
	must(t, err)
	must(t, unix.Close(fd))
	linked := r.want(t, "linking it", "link named", "write named 4+4")
	if id := identity(t, lower+"/named"); ops[0].Obj != id || ops[0].Name != "" || linked[0].Obj != id {
		t.Errorf("identities %v %v, want %v", ops[0].Obj, linked[0].Obj, id)
	}
	if n := c.fs.nodes.find(identity(t, lower+"/named")); n == nil || n.pinned {
		t.Error("descriptor still pinned")
	}
	if b, err := os.ReadFile(dir + "/named"); string(b) != "datamore" {
		t.Errorf("content %q, %v", b, err)
	}
	fd, err = unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL, 0o640)
	must(t, err)
	defer unix.Close(fd)
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/no", unix.AT_SYMLINK_FOLLOW); err != unix.ENOENT {
		t.Errorf("linking an exclusive one: %v", err)
	}
}

func TestCopyRange(t *testing.T) {
	c, r, dir, lower := tapped(t)
	data := bytes.Repeat([]byte("abcdefg"), 1<<19) // 3.5 MiB
	must(t, os.WriteFile(dir+"/src", data, 0o644))
	src, err := os.Open(dir + "/src")
	must(t, err)
	defer src.Close()
	dst, err := os.OpenFile(dir+"/dst", os.O_WRONLY|os.O_CREATE, 0o644)
	must(t, err)
	defer dst.Close()
	r.take(t)
	copyRange := func(from, to int64, n int) {
		t.Helper()
		for n > 0 {
			got, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, n, 0)
			must(t, err)
			n -= got
		}
	}
	copyRange(10, 0, 3<<20)
	ops := r.take(t)
	if len(ops) == 0 || ops[0].Kind != fileop.CopyRange || ops[0].Obj != identity(t, lower+"/src") ||
		ops[0].Obj2 != identity(t, lower+"/dst") || ops[0].Off != 10 || ops[0].Off2 != 0 ||
		ops[0].Path != "src" || ops[0].Path2 != "dst" || ops[0].Mtime.IsZero() {
		t.Fatalf("copy of 3 MiB gives %s", brief(ops[0]))
	}
	check := func(what string, wants int64) {
		t.Helper()
		var written int64
		for _, op := range r.take(t) {
			if op.Kind != fileop.Write || op.Path != "dst" || !bytes.Equal(op.Data, data[op.Off+10:][:len(op.Data)]) {
				t.Errorf("%s gives %s", what, brief(op))
			}
			written += int64(len(op.Data))
		}
		if written != wants {
			t.Errorf("%s: %d bytes logged, want %d", what, written, wants)
		}
	}
	copyRange(10, 0, 1000)
	check("a small copy", 1000)
	c.SetMirrorActive(true)
	copyRange(10, 0, 3<<20)
	check("a copy beside a mirror", 3<<20)
	c.SetMirrorActive(false)
	if b, err := os.ReadFile(dir + "/dst"); err != nil || !bytes.Equal(b, data[10:][:3<<20]) {
		t.Errorf("copy differs, %v", err)
	}
}

// mapFile is a program that stores to a shared mapping, says so after msync, waits, and
// stores again before it closes the file. It is one of its own because a Go program
// that waits for a page of a file it serves itself can stop as a whole.
func mapFile(path string) error {
	// for appending, too: pages have offsets of their own
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if err := f.Truncate(64 << 10); err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m[5000:], "mapped")
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		return err
	}
	fmt.Println("synced")
	fmt.Scanln()
	copy(m[9000:], "closed")
	return errors.Join(unix.Munmap(m), f.Close())
}

// Stores to a shared mapping arrive by msync, as writes of pages, and by close.
func TestMmap(t *testing.T) {
	_, r, dir, lower := tapped(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"=map:"+dir+"/f")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "synced\n" {
		t.Fatalf("program says %q, %v", line, err)
	}
	content := make([]byte, 64<<10)
	for _, op := range r.take(t) {
		if op.Kind == fileop.Write {
			copy(content[op.Off:], op.Data)
		}
	}
	below, err := os.ReadFile(lower + "/f")
	must(t, err)
	if string(content[5000:5006]) != "mapped" || !bytes.Equal(below, content) {
		t.Error("the store is not in the log, or not below, after msync")
	}
	must(t, in.Close())
	must(t, cmd.Wait())
	closed := false
	for _, op := range r.take(t) {
		closed = closed || op.Kind == fileop.Write && strings.Contains(string(op.Data), "closed")
	}
	if !closed {
		t.Error("the store is not in the log after close")
	}
}

func TestUnlinkedOpenFile(t *testing.T) {
	_, r, dir, _ := tapped(t)
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	must(t, os.Remove(dir+"/f"))
	_, err = f.WriteString("orphan")
	must(t, err)
	must(t, f.Chmod(0o600))
	b := make([]byte, 6)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	st, err := f.Stat()
	must(t, err)
	if string(b) != "orphan" || st.Sys().(*syscall.Stat_t).Nlink != 0 {
		t.Errorf("read %q, %v", b, st)
	}
	r.want(t, "unlinked file", "create f 100644 0:0", "unlink f last", "write f 0+6", "set-attr f 100600 0:0")
}

// TestExchangedDirectoriesTellTheirTimes: directories exchanged between two parents say
// when they were modified. The target's file system may change that, and a power cut
// there take away what it was.
func TestExchangedDirectoriesTellTheirTimes(t *testing.T) {
	_, r, dir, lower := tapped(t)
	for _, n := range []string{"/a", "/b", "/a/one", "/b/two"} {
		must(t, os.Mkdir(dir+n, 0o755))
	}
	long := time.Unix(1_000_000_000, 0)
	must(t, os.Chtimes(dir+"/a/one", long, long))
	must(t, os.WriteFile(dir+"/b/f", nil, 0o644))
	r.take(t)
	must(t, unix.Renameat2(unix.AT_FDCWD, dir+"/a/one", unix.AT_FDCWD, dir+"/b/two", unix.RENAME_EXCHANGE))
	told := map[fileop.ObjID]fileop.Time{}
	for _, op := range r.take(t) {
		if op.Kind == fileop.SetAttr {
			told[op.Obj] = op.Attr.Mtime
		}
	}
	for _, n := range []string{"/b/two", "/a/one"} {
		st := stat(t, dir+n)
		if got := told[identity(t, lower+n)]; got != timeOf(st.Mtim) {
			t.Errorf("%s was modified %v, told is %v", n, st.Mtim, got)
		}
	}
	must(t, unix.Renameat2(unix.AT_FDCWD, dir+"/a/one", unix.AT_FDCWD, dir+"/b/f", unix.RENAME_EXCHANGE))
	if ops := r.take(t); len(ops) != 2 || ops[1].Kind != fileop.SetAttr || ops[1].Obj != identity(t, lower+"/b/f") {
		t.Errorf("a directory and a file exchanged: %v", ops)
	}
}
