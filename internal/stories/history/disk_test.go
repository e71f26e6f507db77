package history

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/powercut"
	"understudy/internal/testfuse"
)

// told reports whether the target told an event with this number.
func (p *pair) told(id int) bool {
	p.t.Helper()
	var list control.Events
	p.target.ask("events", control.EventsRequest{}, &list)
	return slices.ContainsFunc(list.Events, func(e control.Event) bool { return e.ID == id })
}

// fillUp leaves so many bytes free on the disk of dir, as somebody else would.
func fillUp(t *testing.T, dir, name string, leave int64) (free func()) {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	name = filepath.Join(dir, name)
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave))
	return func() { must(t, os.Remove(name)) }
}

// TestHistoryMakesWay: where the disk of the histories runs low the history becomes short,
// then it goes, both told; the replica goes on, and with room again a history begins.
func TestHistoryMakesWay(t *testing.T) {
	p := unconnected(t)
	disk := filepath.Join(p.base, "histories")
	must(t, os.Mkdir(disk, 0o755))
	must(t, unix.Mount("understudy-test", disk, "tmpfs", 0, "size=600m"))
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	p.target.cfg.HistoryDir = filepath.Join(disk, "h")
	p.target.restart()
	p.con = p.connect("tree", p.dir, p.replica)
	p.settle()
	p.keeps()
	for range 3 {
		p.fill("data", 20)
	}
	p.mark("last")
	was := p.snapshot("last")
	p.settle()
	before := p.history().Bytes
	free := fillUp(t, disk, "of somebody else", 100<<20) // less than twice 64 MiB
	waitFor(t, "a short history", func() bool { return p.told(20052) && p.history().Bytes < before })
	dir, _ := p.replay(control.ReplayRequest{Label: "last"})
	same(t, was, dir)
	more := fillUp(t, disk, "more of somebody else", 32<<20)
	waitFor(t, "a history that is gone", func() bool { h := p.history(); return p.told(20053) && !h.Active && h.Bytes == 0 })
	p.write("after", "the history")
	p.settle()
	same(t, p.dir, p.replica)
	free()
	more()
	p.target.restart() // else it is tried again in a minute
	p.keeps()
	dir, _ = p.replay(control.ReplayRequest{})
	same(t, p.dir, dir)
}

// TestKilledWhileTheBaseIsMade (G90): half a base is none.
func TestKilledWhileTheBaseIsMade(t *testing.T) {
	p := unconnected(t)
	p.fill("data", 150)
	p.con = p.connect("tree", p.dir, p.replica)
	made := func(what string) bool {
		found, err := filepath.Glob(filepath.Join(p.target.cfg.Data, "history", "*", "g*", what))
		must(t, err)
		return len(found) > 0
	}
	for end := time.Now().Add(patience); !made("base-*"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no base is made")
		}
	}
	p.target.kill()
	t.Logf("killed when the base was whole: %t", made("gen.json"))
	p.target.start()
	p.keeps()
	p.write("a", "one")
	p.mark("m")
	was := p.snapshot("m")
	p.write("a", "changed")
	p.settle()
	dir, _ := p.replay(control.ReplayRequest{Label: "m"})
	same(t, was, dir)
}

// TestReplayOfSeveralRoots (G90): each root directory is rebuilt below the directory, by
// its path on the source, as of one moment.
func TestReplayOfSeveralRoots(t *testing.T) {
	p := unconnected(t)
	second := filepath.Join(p.base, "second")
	must(t, os.Mkdir(second, 0o755))
	testfuse.Watchdog(t, second, storyLimit)
	p.source.ask("mount", control.DirRequest{Dir: second}, nil)
	var reply control.ConnectReply
	p.source.ask("connect", control.ConnectRequest{Set: "both", Rules: []string{p.dir + " inc, rec", second + " inc, rec"}, Target: "jersey",
		Address: p.target.d.Addr(), Map: map[string]string{p.dir: p.replica, second: p.replica + "2"}, Capture: "stacked"}, &reply)
	p.con = reply.ID
	p.settle()
	p.keeps()
	p.write("a", "one")
	must(t, os.WriteFile(filepath.Join(second, "b"), []byte("two"), 0o600))
	p.mark("m")
	was := p.snapshot("m")
	p.copy(second, filepath.Join(p.base, "was-second"))
	p.write("a", "changed")
	must(t, os.Remove(filepath.Join(second, "b")))
	p.settle()
	dir, _ := p.replay(control.ReplayRequest{Label: "m"})
	same(t, was, filepath.Join(dir, p.dir))
	same(t, filepath.Join(p.base, "was-second"), filepath.Join(dir, second))
}

// TestHistoryOnSharedBlocks (G90): where the file system shares content between files, base
// and rebuilt tree take no space of their own.
func TestHistoryOnSharedBlocks(t *testing.T) {
	powercut.Need(t)
	p := unconnected(t)
	disk := powercut.NewStore(t, storyLimit).Disk("xfs", "disk", 1<<30)
	p.target.close()
	p.target.d.Stop()
	data := filepath.Join(disk.At(), "data")
	p.copy(p.target.cfg.Data, data)
	p.target.cfg.Data, p.replica = data, filepath.Join(disk.At(), "replica")
	p.target.start()
	p.fill("data", 40)
	p.con = p.connect("tree", p.dir, p.replica)
	p.settle()
	p.keeps()
	p.write("a", "one")
	p.mark("m")
	was := p.snapshot("m")
	p.write("a", "changed")
	p.settle()
	to := filepath.Join(disk.At(), "rebuilt")
	rep := p.replayed(control.ReplayRequest{Label: "m", To: to})
	if rep.State != "done" || rep.Copied != 0 {
		t.Fatalf("replay: %+v; nothing is copied where it can be shared", rep)
	}
	same(t, was, to)
}
