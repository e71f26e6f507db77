package stacked

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// direct is a file system without a mount, called as the kernel would, except that
// nothing is kept apart: the kernel's own locks hide whether ours are right. The sink
// takes its time, so that what is not under a lock is overtaken.
func direct(t *testing.T) (f *fileSystem, r *recorder, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: opens by handle")
	}
	dir = t.TempDir()
	low, err := openLower(dir)
	must(t, err)
	f, err = newFileSystem(low, Config{MaxDescriptors: 8}.withDefaults(), slog.New(slog.DiscardHandler))
	must(t, err)
	t.Cleanup(f.close)
	r = &recorder{slow: 100 * time.Microsecond}
	f.sinks.attach(r)
	return f, r, dir
}

// soon fails the test if the calls do not end: they wait for each other's locks.
func soon(t *testing.T, group *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(deadline):
		t.Fatal("calls wait for each other")
	}
}

func TestNamesDirect(t *testing.T) {
	f, r, _ := direct(t)
	var dirs [4]uint64
	for i := range dirs {
		var out fuse.EntryOut
		in := fuse.MkdirIn{Mode: 0o755}
		in.NodeId = fuse.FUSE_ROOT_ID
		if st := f.Mkdir(nil, &in, fmt.Sprint(i), &out); !st.Ok() {
			t.Fatal(st)
		}
		dirs[i] = out.NodeId
	}
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for range 1500 {
				step(f, dirs[rnd.IntN(4)], fmt.Sprint(rnd.IntN(2)), dirs[rnd.IntN(4)], fmt.Sprint(rnd.IntN(2)), rnd.IntN(9))
			}
		})
	}
	soon(t, &group)
	checkNames(t, r.take(t))
}

// step does one operation on names.
func step(f *fileSystem, a uint64, name string, b uint64, name2 string, what int) {
	var out fuse.EntryOut
	head := fuse.InHeader{NodeId: a}
	switch what {
	case 0, 1:
		f.Mknod(nil, &fuse.MknodIn{InHeader: head, Mode: unix.S_IFREG | 0o644}, name, &out)
	case 2:
		f.Mkdir(nil, &fuse.MkdirIn{InHeader: head, Mode: 0o755}, name, &out)
	case 3, 8:
		l := f.locks.lock(f.nodes.get(a).obj) // as the kernel: no look at what is not answered yet
		st := f.Lookup(nil, &head, name, &out)
		f.locks.unlock(l)
		if st.Ok() && out.NodeId != 0 && out.Mode&unix.S_IFMT == unix.S_IFREG {
			in := fuse.LinkIn{InHeader: fuse.InHeader{NodeId: b}, Oldnodeid: out.NodeId}
			f.Link(nil, &in, name2, &out)
		}
	case 4:
		f.Unlink(nil, &head, name)
	case 5:
		f.Rmdir(nil, &head, name)
	case 6:
		f.Rename(nil, &fuse.RenameIn{InHeader: head, Newdir: b}, name, name2)
	case 7:
		f.Rename(nil, &fuse.RenameIn{InHeader: head, Newdir: b, Flags: unix.RENAME_EXCHANGE}, name, name2)
	}
}

// Writes and truncations of one file, called at the same time: the log is in the order
// of their effects.
func TestDataDirect(t *testing.T) {
	f, r, dir := direct(t)
	in := fuse.CreateIn{Flags: unix.O_RDWR, Mode: 0o644}
	in.NodeId = fuse.FUSE_ROOT_ID
	var out fuse.CreateOut
	if st := f.Create(nil, &in, "f", &out); !st.Ok() {
		t.Fatal(st)
	}
	for round := range 40 {
		var group sync.WaitGroup
		for w := range 6 {
			group.Go(func() { burst(f, &out, round, w) })
		}
		soon(t, &group)
		content, err := os.ReadFile(dir + "/f")
		must(t, err)
		if got := replay(r.all(), identity(t, dir+"/f")); !bytes.Equal(got, content) {
			t.Fatalf("after round %d the log replays to something else", round)
		}
	}
}

func burst(f *fileSystem, out *fuse.CreateOut, round, w int) {
	for i := range 6 {
		if (i+w)%3 == 0 {
			set := fuse.SetAttrIn{}
			set.NodeId, set.Valid, set.Fh = out.NodeId, fuse.FATTR_SIZE|fuse.FATTR_FH, out.Fh
			set.Size = uint64(1000 * (w + i))
			f.SetAttr(nil, &set, &fuse.AttrOut{})
		}
		write := fuse.WriteIn{Fh: out.Fh, Offset: uint64((i + w) % 4 * 1000)}
		f.Write(nil, &write, bytes.Repeat([]byte{byte(w), byte(i), byte(round), 0}, 500))
	}
}

// Copies back and forth between two files lock them in one order.
func TestCopyDirect(t *testing.T) {
	f, _, _ := direct(t)
	var fh [2]fuse.CreateOut
	for i := range fh {
		in := fuse.CreateIn{Flags: unix.O_RDWR, Mode: 0o644}
		in.NodeId = fuse.FUSE_ROOT_ID
		if st := f.Create(nil, &in, fmt.Sprint(i), &fh[i]); !st.Ok() {
			t.Fatal(st)
		}
		f.Write(nil, &fuse.WriteIn{Fh: fh[i].Fh}, make([]byte, 10000))
	}
	var group sync.WaitGroup
	for w := range 6 {
		group.Go(func() {
			for range 300 {
				in := fuse.CopyFileRangeIn{FhIn: fh[w%2].Fh, FhOut: fh[1-w%2].Fh, Len: 5000}
				if n, st := f.CopyFileRange(nil, &in); n == 0 {
					t.Errorf("copied %d, %v", n, st)
				}
			}
		})
	}
	soon(t, &group)
}
