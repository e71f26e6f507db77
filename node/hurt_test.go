package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/control"
)

// hurt is a trouble of the target's file system, and its end.
type hurt struct {
	name     string
	disk     string // options of the file system
	before   string // work on the source before the trouble
	begin    func(t *testing.T, p *pair, disk string)
	work     string
	cure     func(t *testing.T, p *pair, disk string)
	says     []string // in the error the operator sees
	overtook string   // what would be there had something overtaken
}

func remount(flags uintptr, data string) func(*testing.T, *pair, string) {
	return func(t *testing.T, _ *pair, disk string) {
		t.Helper()
		must(t, unix.Mount("", disk, "", unix.MS_REMOUNT|flags, data))
	}
}

// hurts are what B8.19 names, on real file systems.
func hurts() []hurt {
	var running *exec.Cmd
	none := func(*testing.T, *pair, string) {}
	return []hurt{
		{name: "no room", disk: "2m", begin: none, work: "head -c 4000000 /dev/urandom >large; echo x >later", cure: remount(0, "size=32m"),
			says: []string{"target disk full", "no space left on device", "replica/large", "free space"}, overtook: "later"},
		{name: "no inodes", disk: "32m,nr_inodes=40", begin: none, work: "for i in $(seq 80); do echo $i >f$i; done; echo x >later", cure: remount(0, "nr_inodes=1000"),
			says: []string{"target disk full", "no space left on device", "replica/f", "inodes"}, overtook: "later"},
		{name: "read-only", disk: "32m", begin: remount(unix.MS_RDONLY, ""), work: "echo x >first; echo x >later", cure: remount(0, ""),
			says: []string{"target read-only", "read-only file system", "replica/first", "writable"}, overtook: "later"},
		{name: "busy file", disk: "32m", before: "cp /bin/sleep program",
			begin: func(t *testing.T, p *pair, _ string) {
				p.restartWith(func(*Config) {}) // it has no file open
				running = exec.Command(filepath.Join(p.replica, "program"), "300")
				must(t, running.Start())
			},
			work: "echo x >>program; echo x >later",
			cure: func(t *testing.T, _ *pair, _ string) { must(t, running.Process.Kill()); _ = running.Wait() },
			says: []string{"target file busy", "text file busy", "replica/program", "end what holds the file"}, overtook: "later"},
	}
}

// restartWith starts the target again with short retries and what set changes.
func (p *pair) restartWith(set func(*Config)) {
	p.t.Helper()
	addr := p.target.Addr()
	p.stops[0]()
	p.target = p.startWith("jersey", func(c *Config) {
		c.Listen, c.TargetRetry = addr, 50*time.Millisecond
		set(c)
	})
	p.stops[0], p.stops = p.stops[len(p.stops)-1], p.stops[:len(p.stops)-1]
}

// hurtPair is a connected pair whose replica lies on a small file system.
func hurtPair(t *testing.T, options string, set func(*Config)) (p *pair, disk string) {
	p = newPair(t, true)
	disk = tinyDisk(t, p.base, options)
	p.replica = disk + "/replica"
	t.Cleanup(p.stop) // before the disk goes
	p.restartWith(set)
	p.mount()
	p.connect()
	waitFor(t, "the first mirror", func() bool { return p.applier().Position().Usable() })
	return p, disk
}

// TestHurtTargetWaits (B8.19, B8.22, B8.25): a target without room or inodes, read-only,
// or with a file in use says which file, which error and what to do; nothing overtakes
// what waits; at the end of the trouble it goes on by itself, without a mirror.
func TestHurtTargetWaits(t *testing.T) {
	needRoot(t)
	for _, h := range hurts() {
		t.Run(h.name, func(t *testing.T) {
			p, disk := hurtPair(t, h.disk, func(*Config) {})
			if h.before != "" {
				p.shell(h.before)
				p.settle()
			}
			status := func() control.Connection { return p.source.Status().Connections[0] }
			epoch := status().Epoch
			h.begin(t, p, disk)
			p.shell(h.work)
			waitFor(t, "the target to retry", func() bool { return status().TargetState == "Retrying" })
			waitFor(t, "retries", func() bool { return p.applier().Stats().Retries > 2 })
			st := status()
			if missing := lacks(st.LastError, h.says...); len(missing) > 0 || len(st.Alerts) == 0 {
				t.Errorf("the error lacks %q: %+v", missing, st)
			}
			if _, err := os.Lstat(filepath.Join(p.replica, h.overtook)); err == nil {
				t.Errorf("%s overtook what waits", h.overtook)
			}
			h.cure(t, p, disk)
			p.settle()
			p.same()
			if st := status(); st.TargetState != "OK" || st.LastError != "" || len(st.Alerts) > 0 || st.Epoch != epoch {
				t.Errorf("after the end of the trouble: %+v", st)
			}
			if s := p.applier().Stats(); s.Dropped > 0 {
				t.Errorf("%d operations were dropped", s.Dropped)
			}
		})
	}
}

// TestRetryLimit (B8.20, B8.21): after so many attempts the operation is dropped, a
// mirror is required, and when the trouble is over that heals it.
func TestRetryLimit(t *testing.T) {
	needRoot(t)
	p, disk := hurtPair(t, "2m", func(c *Config) { c.TargetRetryLimit = 3 })
	p.shell("head -c 4000000 /dev/urandom >large; echo x >later")
	waitFor(t, "an operation to be dropped", func() bool { return p.applier().Stats().Dropped > 0 })
	waitFor(t, "the target to be unusable", func() bool { return !p.applier().Position().Usable() })
	remount(0, "size=32m")(t, p, disk)
	waitFor(t, "the healing mirror", func() bool { return p.applier().Position().Usable() })
	p.settle()
	p.same()
}
