package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/exercise"
)

// verified runs a verification to its end.
func (p *pair) verified(req control.VerifyRequest) control.VerifyReport {
	p.t.Helper()
	req.ID, req.Action = p.id, "start"
	if _, err := p.source.verify(context.Background(), req); err != nil {
		p.t.Fatal(err)
	}
	return p.waitVerified()
}

func (p *pair) waitVerified() control.VerifyReport {
	p.t.Helper()
	for range 10 {
		r, err := p.source.verify(context.Background(), control.VerifyRequest{ID: p.id, Action: "status", WaitMS: 20_000})
		must(p.t, err)
		if rep := r.(control.VerifyReport); rep.State != "running" {
			return rep
		}
	}
	p.t.Fatalf("verification does not end\n%s", p.where())
	return control.VerifyReport{}
}

// planted is a difference made on the replica, behind the applier's back.
type planted struct {
	path string // below the tree
	kind string
	make func(path string) error
}

const plantSize = 300 << 10

// plantTree makes what the faults are planted in. It is at rest while others change.
func plantTree(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "p/empty"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "p/full/sub"), 0o755))
	for _, n := range plantNames {
		must(t, os.WriteFile(filepath.Join(dir, "p", n), bytes.Repeat([]byte("abcdefgh"), plantSize/8), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(dir, "p/full/sub/one"), []byte("1"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "p/full/two"), nil, 0o600))
	must(t, os.Link(filepath.Join(dir, "p/link-a"), filepath.Join(dir, "p/link-b")))
	must(t, os.Link(filepath.Join(dir, "p/group-a"), filepath.Join(dir, "p/group-b")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "p/sym")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "p/sym-time")))
	must(t, unix.Mkfifo(filepath.Join(dir, "p/fifo"), 0o600))
	must(t, unix.Mkfifo(filepath.Join(dir, "p/fifo-mode"), 0o600))
	must(t, unix.Mknod(filepath.Join(dir, "p/dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Setxattr(filepath.Join(dir, "p/xattr-byte"), "user.a", []byte("value"), 0))
	must(t, unix.Setxattr(filepath.Join(dir, "p/xattr-gone"), "user.a", []byte("value"), 0))
	must(t, os.Mkdir(filepath.Join(dir, "p/dirmode"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "p/dirtime"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "p/dirxattr"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "p/dirtype"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "p/gone-dir"), 0o755))
}

var plantNames = []string{"bit", "lastbyte", "short", "long", "ns", "sec", "mode", "setuid", "uid", "gid", "xattr-byte", "xattr-gone", "xattr-new",
	"acl", "gone", "type", "totype", "replaced", "link-a", "group-a", "swap", "zeros", "middle"}

// plantBytes changes content and gives the file its date again.
func plantBytes(path string, off int64, b []byte) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	return os.Chtimes(path, st.ModTime(), st.ModTime())
}

// resized changes the size and keeps the date.
func resized(path string, by int64) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.Truncate(path, st.Size()+by); err != nil {
		return err
	}
	return os.Chtimes(path, st.ModTime(), st.ModTime())
}

func shift(by time.Duration) func(string) error {
	return func(path string) error {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		ts := unix.NsecToTimespec(st.Mtim.Nano() + int64(by))
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
}

// kept does something to a directory entry and gives the directory its date again.
func kept(f func(path string) error) func(string) error {
	return func(path string) error {
		st, err := os.Stat(filepath.Dir(path))
		if err != nil {
			return err
		}
		if err := f(path); err != nil {
			return err
		}
		return os.Chtimes(filepath.Dir(path), st.ModTime(), st.ModTime())
	}
}

// copied replaces a file by a copy that is equal in everything.
func copied(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, st.Mode()); err != nil {
		return err
	}
	if err := os.Chtimes(path+".new", st.ModTime(), st.ModTime()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// acl is a POSIX ACL that gives user 65534 read access: version 2; user, named user,
// group, mask, other.
var acl = []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 254, 255, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255}

var plants = []planted{
	{"p/bit", "content", func(p string) error { return plantBytes(p, 100_000, []byte{'a' ^ 1}) }},
	{"p/lastbyte", "content", func(p string) error { return plantBytes(p, plantSize-1, []byte{'x'}) }},
	{"p/zeros", "content", func(p string) error { return plantBytes(p, 65536, make([]byte, 4096)) }},
	{"p/middle", "content,time", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("abcdefgH"), plantSize/8), 0o644) }},
	{"p/short", "size,content", func(p string) error { return resized(p, -1) }},
	{"p/long", "size,content", func(p string) error { return resized(p, 1) }},
	{"p/ns", "time", shift(1)},
	{"p/sec", "time", shift(time.Second)},
	{"p/mode", "mode", func(p string) error { return os.Chmod(p, 0o645) }},
	{"p/setuid", "mode", func(p string) error { return unix.Chmod(p, 0o4644) }},
	{"p/uid", "owner", func(p string) error { return os.Chown(p, 1, -1) }},
	{"p/gid", "owner", func(p string) error { return os.Chown(p, -1, 1) }},
	{"p/swap", "owner", func(p string) error { return os.Chown(p, 5, 7) }},
	{"p/xattr-byte", "xattrs", func(p string) error { return unix.Setxattr(p, "user.a", []byte("valuE"), 0) }},
	{"p/xattr-gone", "xattrs", func(p string) error { return unix.Removexattr(p, "user.a") }},
	{"p/xattr-new", "xattrs", func(p string) error { return unix.Setxattr(p, "user.b", nil, 0) }},
	{"p/acl", "xattrs", func(p string) error { return unix.Setxattr(p, "system.posix_acl_access", acl, 0) }},
	{"p/gone", "missing", kept(os.Remove)},
	{"p/gone-dir", "missing", kept(os.Remove)},
	{"p/type", "type", kept(func(p string) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return os.Mkdir(p, 0o755)
	})},
	{"p/totype", "type", kept(func(p string) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return os.Symlink("x", p)
	})},
	{"p/dirtype", "type", kept(func(p string) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return os.WriteFile(p, nil, 0o644)
	})},
	{"p/replaced", "replaced", kept(copied)},
	{"p/link-b", "replaced", kept(copied)},
	{"p/group-b", "replaced", kept(func(p string) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return os.Link(filepath.Join(filepath.Dir(p), "link-a"), p)
	})},
	{"p/extra", "orphan", kept(func(p string) error { return os.WriteFile(p, []byte("x"), 0o644) })},
	{"p/extra-dir", "orphan", kept(func(p string) error { return os.Mkdir(p, 0o755) })},
	{"p/empty/extra-link", "orphan", kept(func(p string) error { return os.Symlink("/etc", p) })},
	{"p/extra-name", "orphan", kept(func(p string) error { return os.Link(filepath.Join(filepath.Dir(p), "link-a"), p) })},
	{"p/sym", "replaced", kept(func(p string) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return os.Symlink("elsewhere", p)
	})},
	{"p/sym-time", "time", shift(1)},
	{"p/fifo", "owner", func(p string) error { return os.Lchown(p, 3, 3) }},
	{"p/fifo-mode", "mode", func(p string) error { return os.Chmod(p, 0o601) }},
	{"p/dev", "replaced", kept(func(p string) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
	})},
	{"p/dirmode", "mode", func(p string) error { return os.Chmod(p, 0o700) }},
	{"p/dirtime", "time", shift(1)},
	{"p/dirxattr", "xattrs", func(p string) error { return unix.Setxattr(p, "user.d", []byte("1"), 0) }},
}

// TestVerifyFindsEachPlantedDifference (G36): each of the kinds is found and named, and
// nothing else, while 500 changes a second run beside.
func TestVerifyFindsEachPlantedDifference(t *testing.T) {
	needRoot(t)
	p := newPair(t, true)
	plantTree(t, p.dir)
	must(t, os.Mkdir(filepath.Join(p.dir, "busy"), 0o755))
	p.mount()
	p.connect()
	p.settle()
	busy := &pair{t: t, dir: filepath.Join(p.dir, "busy")}
	begin, stop := time.Now(), busy.inBackground(exercise.Job{Kind: "rate", Seed: 3, Ops: 800}) // some are refused, and a busy machine is late
	for range scaled(3, 20) {
		if rep := p.verified(control.VerifyRequest{Checksum: true}); rep.State != "done" || len(rep.Differences) > 0 || rep.Totals.Unsettled+rep.Totals.Errors > 0 {
			t.Fatalf("nothing was planted: %+v", rep)
		}
	}
	var want []string
	for _, d := range plants {
		must(t, d.make(filepath.Join(p.replica, d.path)))
		want = append(want, d.path+" "+d.kind)
	}
	slices.Sort(want)
	for range scaled(3, 20) {
		rep := p.verified(control.VerifyRequest{Checksum: true})
		if got := found(p.dir, rep); !slices.Equal(got, want) {
			t.Fatalf("found\n%s\nwant\n%s\n%+v", strings.Join(got, "\n"), strings.Join(want, "\n"), rep)
		}
	}
	stats := stop()
	t.Logf("%d kinds, %d changes beside, %.0f a second: %s", len(plants), stats.Ops, float64(stats.Ops)/time.Since(begin).Seconds(), stats)
	if rep := p.verified(control.VerifyRequest{Checksum: true, Sync: true}); !rep.Remirror {
		t.Fatalf("no mirror follows: %+v", rep)
	}
	p.settle()
	if rep := p.verified(control.VerifyRequest{Checksum: true}); rep.Totals.Different != rep.Totals.Orphans || rep.Totals.Orphans != 4 {
		t.Fatalf("after the mirror: %+v", rep)
	}
}

// found are the differences of a report, by path.
func found(dir string, rep control.VerifyReport) []string {
	var out []string
	for _, d := range rep.Differences {
		out = append(out, strings.TrimPrefix(d.Path, dir+"/")+" "+strings.Join(d.Kinds, ","))
	}
	slices.Sort(out)
	return out
}
