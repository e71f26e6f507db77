package history

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
	"understudy/internal/powercut"
	"understudy/internal/stories"
	"understudy/internal/testfuse"
)

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
	disk := filepath.Join(p.Base, "histories")
	must(t, os.Mkdir(disk, 0o755))
	must(t, unix.Mount("understudy-test", disk, "tmpfs", 0, "size=600m"))
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	p.Target.Cfg.HistoryDir = filepath.Join(disk, "h")
	p.Target.Restart()
	p.begin()
	for range 3 {
		p.fill("data", 20)
	}
	p.mark("last")
	was := p.snapshot("last")
	p.Settle()
	before := p.history().Bytes
	free := fillUp(t, disk, "of somebody else", 100<<20) // less than twice 64 MiB
	waitFor(t, "a short history", func() bool { return p.Target.Happened(20052) > 0 && p.history().Bytes < before })
	dir, _ := p.replay(control.ReplayRequest{Label: "last"})
	same(t, was, dir)
	more := fillUp(t, disk, "more of somebody else", 32<<20)
	waitFor(t, "a history that is gone", func() bool { h := p.history(); return p.Target.Happened(20053) > 0 && !h.Active && h.Bytes == 0 })
	p.Write("after", "the history")
	p.Settle()
	same(t, p.Dir, p.Replica)
	free()
	more()
	p.Target.Restart() // else it is tried again in a minute
	p.keeps()
	dir, _ = p.replay(control.ReplayRequest{})
	same(t, p.Dir, dir)
}

// TestKilledWhileTheBaseIsMade (G90): half a base is none.
func TestKilledWhileTheBaseIsMade(t *testing.T) {
	p := unconnected(t)
	p.fill("data", 150)
	p.Connect(control.ConnectRequest{Rules: p.All()})
	made := func(what string) bool {
		found, err := filepath.Glob(filepath.Join(p.Target.Cfg.Data, "history", "*", "g*", what))
		must(t, err)
		return len(found) > 0
	}
	for end := time.Now().Add(stories.Patience); !made("base-*"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no base is made")
		}
	}
	p.Target.Kill()
	t.Logf("killed when the base was whole: %t", made("gen.json"))
	p.Target.Start()
	p.keeps()
	p.Write("a", "one")
	p.mark("m")
	was := p.snapshot("m")
	p.Write("a", "changed")
	p.Settle()
	dir, _ := p.replay(control.ReplayRequest{Label: "m"})
	same(t, was, dir)
}

// TestReplayOfSeveralRoots (G90): each root directory is rebuilt below the directory, by
// its path on the source, as of one moment.
func TestReplayOfSeveralRoots(t *testing.T) {
	p := unconnected(t)
	second := filepath.Join(p.Base, "second")
	must(t, os.Mkdir(second, 0o755))
	testfuse.Watchdog(t, second, stories.Limit)
	p.Source.Ask("mount", control.DirRequest{Dir: second}, nil)
	p.Connect(control.ConnectRequest{Set: "both", Rules: append(p.All(), second+" inc, rec"), Map: map[string]string{p.Dir: p.Replica, second: p.Replica + "2"}})
	p.Settle()
	p.keeps()
	p.Write("a", "one")
	must(t, os.WriteFile(filepath.Join(second, "b"), []byte("two"), 0o600))
	p.mark("m")
	was := p.snapshot("m")
	p.Copy(second, filepath.Join(p.Base, "was-second"))
	p.Write("a", "changed")
	must(t, os.Remove(filepath.Join(second, "b")))
	p.Settle()
	dir, _ := p.replay(control.ReplayRequest{Label: "m"})
	same(t, was, filepath.Join(dir, p.Dir))
	same(t, filepath.Join(p.Base, "was-second"), filepath.Join(dir, second))
}

// TestHistoryOnSharedBlocks (G90): where the file system shares content between files, base
// and rebuilt tree take no space of their own.
func TestHistoryOnSharedBlocks(t *testing.T) {
	powercut.Need(t)
	p := unconnected(t)
	disk := powercut.NewStore(t, stories.Limit).Disk("xfs", "disk", 1<<30)
	p.Target.Stop()
	data := filepath.Join(disk.At(), "data")
	p.Copy(p.Target.Cfg.Data, data)
	p.Target.Cfg.Data, p.Replica = data, filepath.Join(disk.At(), "replica")
	p.Target.Start()
	p.fill("data", 40)
	p.begin()
	p.Write("a", "one")
	p.mark("m")
	was := p.snapshot("m")
	p.Write("a", "changed")
	p.Settle()
	to := filepath.Join(disk.At(), "rebuilt")
	rep := p.replayed(control.ReplayRequest{Label: "m", To: to})
	if rep.State != "done" || rep.Copied != 0 {
		t.Fatalf("replay: %+v; nothing is copied where it can be shared", rep)
	}
	same(t, was, to)
}
