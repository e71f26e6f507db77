package stacked

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"understudy/internal/testfuse"
)

// Thousands of known objects hold few descriptors, and the ones without still work.
func TestDescriptorsBounded(t *testing.T) {
	c, dir, lower := start(t, Config{MaxDescriptors: 50})
	before := testfuse.Descriptors(t)
	const files = 5000
	name := func(i int) string { return fmt.Sprintf("%s/d%d/f%d", dir, i%20, i) }
	for i := range 20 {
		must(t, os.Mkdir(fmt.Sprintf("%s/d%d", dir, i), 0o755))
	}
	for i := range files {
		must(t, os.WriteFile(name(i), nil, 0o644))
	}
	for i := range files {
		must(t, os.Chmod(name(i), 0o600))
		if i%500 == 0 {
			if n := testfuse.Descriptors(t) - before; n > 80 {
				t.Fatalf("%d descriptors more after %d files", n, i)
			}
		}
	}
	if open, idle := c.fs.fds.counts(); open > 50 || idle != open {
		t.Errorf("%d descriptors kept, %d idle", open, idle)
	}
	for i := range files {
		if m := stat(t, fmt.Sprintf("%s/d%d/f%d", lower, i%20, i)).Mode; m != 0o100600 {
			t.Fatalf("%s: mode %o", name(i), m)
		}
	}
}

// An object without a name that nobody has open, but somebody refers to, is reached by
// a pinned descriptor; it goes when the kernel forgets it.
func TestUnlinkedReferenced(t *testing.T) {
	c, dir, _ := start(t, Config{MaxDescriptors: 2})
	must(t, os.WriteFile(dir+"/f", []byte("x"), 0o640))
	fd, err := unix.Open(dir+"/f", unix.O_PATH, 0)
	must(t, err)
	must(t, os.Mkdir(dir+"/d", 0o755))
	dfd, err := unix.Open(dir+"/d", unix.O_PATH, 0)
	must(t, err)
	must(t, os.Remove(dir+"/f"))
	must(t, os.Remove(dir+"/d"))
	for i := range 20 { // pushes everything else out of the cache
		must(t, os.WriteFile(fmt.Sprintf("%s/g%d", dir, i), nil, 0o644))
		must(t, os.Chmod(fmt.Sprintf("%s/g%d", dir, i), 0o600))
	}
	var st unix.Stat_t
	must(t, unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC))
	if st.Nlink != 0 || st.Mode != 0o100640 {
		t.Errorf("links %d, mode %o", st.Nlink, st.Mode)
	}
	must(t, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), 0o600))
	must(t, unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", dfd), 0o700))
	known := func() int {
		c.fs.nodes.mu.RLock()
		defer c.fs.nodes.mu.RUnlock()
		c.fs.fds.mu.Lock()
		defer c.fs.fds.mu.Unlock()
		n := 0
		for _, node := range c.fs.nodes.byID {
			if node.pinned && node != c.fs.root {
				n++
			}
		}
		return n
	}
	if n := known(); n != 2 {
		t.Errorf("%d pinned, want 2", n)
	}
	unix.Close(fd)
	unix.Close(dfd)
	until(t, "the kernel forgets them", func() bool { return known() == 0 })
}

// Reused inode numbers give new objects.
func TestInodeReuse(t *testing.T) {
	_, r, dir, _ := tapped(t)
	seen := map[uint64]bool{}
	reused := false
	for range 200 {
		must(t, os.WriteFile(dir+"/f", nil, 0o644))
		op := r.take(t)[0]
		if seen[op.Obj.Gen] {
			t.Fatalf("identity %v seen twice", op.Obj)
		}
		reused = reused || seen[op.Obj.Ino]
		seen[op.Obj.Gen], seen[op.Obj.Ino] = true, true
		must(t, os.Remove(dir+"/f"))
		r.take(t)
	}
	if !reused {
		t.Log("this file system did not reuse an inode number")
	}
}

// A listing under way goes on where it was while what it listed is removed.
func TestReadDirWhileRemoving(t *testing.T) {
	_, dir, lower := start(t, Config{})
	const files = 3000
	for i := range files { // made below, so that nothing is cached above
		must(t, os.WriteFile(fmt.Sprintf("%s/some-file-%d", lower, i), nil, 0o644))
	}
	d, err := os.Open(dir)
	must(t, err)
	defer d.Close()
	var all []string
	for {
		names, _ := d.Readdirnames(100)
		if len(names) == 0 {
			break
		}
		all = append(all, names...)
		for _, n := range names {
			must(t, os.Remove(dir+"/"+n))
		}
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != files {
		t.Errorf("listed %d of %d", n, files)
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("%d left, %v", len(left), err)
	}
}

// ENOSPC comes through, and a write cut short logs what was written.
func TestNoSpace(t *testing.T) {
	testfuse.Need(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c, dir, lower := startAt(t, dir, Config{})
	r := &recorder{}
	defer c.Attach(r)()
	f, err := os.Create(dir + "/f")
	must(t, err)
	defer f.Close()
	total := 0
	for err == nil {
		var n int
		n, err = unix.Write(int(f.Fd()), make([]byte, 300_000))
		total += max(n, 0)
	}
	if err != unix.ENOSPC {
		t.Errorf("write: %v", err)
	}
	logged := replay(r.take(t), identity(t, lower+"/f"))
	if int64(len(logged)) != stat(t, lower+"/f").Size || len(logged) != total {
		t.Errorf("%d bytes written, %d logged, size %d", total, len(logged), stat(t, lower+"/f").Size)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 8<<20); err != unix.ENOSPC {
		t.Errorf("fallocate: %v", err)
	}
}

// A file system without handles (overlayfs, as below a container) holds a descriptor
// for every object the kernel knows, and otherwise works.
func TestWithoutHandles(t *testing.T) {
	testfuse.Need(t)
	base, dir := t.TempDir(), t.TempDir()
	for _, d := range []string{"low", "up", "work"} {
		must(t, os.Mkdir(base+"/"+d, 0o755))
	}
	must(t, os.WriteFile(base+"/low/old", []byte("below"), 0o644))
	err := unix.Mount("overlay", dir, "overlay", 0,
		fmt.Sprintf("lowerdir=%s/low,upperdir=%s/up,workdir=%s/work", base, base, base))
	if err != nil {
		t.Skipf("needs overlayfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c, dir, _ := startAt(t, dir, Config{MaxDescriptors: 1})
	r := &recorder{}
	defer c.Attach(r)()
	must(t, os.WriteFile(dir+"/f", []byte("x"), 0o644))
	must(t, os.Mkdir(dir+"/d", 0o755))
	must(t, os.Rename(dir+"/f", dir+"/d/g"))
	must(t, os.Chmod(dir+"/d/g", 0o600))
	f, err := os.OpenFile(dir+"/old", os.O_RDWR|os.O_APPEND, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString(" and above")
	must(t, err)
	must(t, os.Remove(dir+"/d/g"))
	must(t, os.Remove(dir+"/d"))
	if b, err := os.ReadFile(dir + "/old"); string(b) != "below and above" {
		t.Errorf("read %q, %v", b, err)
	}
	r.want(t, "on overlayfs", "create f 100644 0:0", "write f 0+1", "mkdir d 40755 0:0", "rename f -> d/g",
		"set-attr d/g 100600 0:0", "write old 5+10", "unlink d/g last", "rmdir d last")
}

func TestBorder(t *testing.T) {
	_, r, dir, _ := tapped(t)
	outside := t.TempDir()
	must(t, os.WriteFile(dir+"/f", nil, 0o644))
	must(t, os.WriteFile(outside+"/f", nil, 0o644))
	r.take(t)
	for what, err := range map[string]error{
		"rename out": unix.Rename(dir+"/f", outside+"/g"),
		"rename in":  unix.Rename(outside+"/f", dir+"/g"),
		"link out":   unix.Link(dir+"/f", outside+"/g"),
	} {
		if err != unix.EXDEV {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.want(t, "crossing the border")
	var fs unix.Statfs_t
	must(t, unix.Statfs(dir, &fs))
	var native unix.Statfs_t
	must(t, unix.Statfs(outside, &native))
	if fs.Blocks != native.Blocks || fs.Files != native.Files || fs.Namelen != native.Namelen {
		t.Errorf("statfs %+v, natively %+v", fs, native)
	}
}
