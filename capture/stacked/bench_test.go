package stacked

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"understudy/fileop"
	"understudy/internal/testfuse"
)

// loads give operations per second.
var loads = map[string]func(dir string) (float64, error){
	"sequential-write-1M": func(dir string) (float64, error) {
		return withFile(dir, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 3000, func(fd, i int, buf []byte) error {
			_, err := unix.Pwrite(fd, buf, int64(i%64)<<20)
			return err
		})
	},
	"random-write-4K": func(dir string) (float64, error) {
		return withFile(dir, unix.O_CREAT|unix.O_WRONLY, 30000, func(fd, i int, buf []byte) error {
			_, err := unix.Pwrite(fd, buf[:4096], rand.Int64N(16<<8)<<12)
			return err
		})
	},
	"create-4K": func(dir string) (float64, error) {
		return timed(1500, func(i int) error {
			return os.WriteFile(fmt.Sprintf("%s/new%d", dir, i), make([]byte, 4096), 0o644)
		})
	},
	"stat-cold": func(dir string) (float64, error) {
		return timed(3000, func(i int) error {
			var st unix.Stat_t
			return unix.Lstat(fmt.Sprintf("%s/old/f%d", dir, i), &st)
		})
	},
	"read-warm-1M": func(dir string) (float64, error) {
		buf := make([]byte, 1<<20)
		fd, err := unix.Open(dir+"/big", unix.O_RDONLY, 0)
		if err != nil {
			return 0, err
		}
		for i := range int64(64) {
			unix.Pread(fd, buf, i<<20)
		}
		return timed(5000, func(i int) error {
			_, err := unix.Pread(fd, buf, int64(i%64)<<20)
			return err
		})
	},
	"read-cold-1M": func(dir string) (float64, error) { // cold above, warm below
		return withFile(dir, unix.O_RDONLY, 2000, func(fd, i int, buf []byte) error {
			if i%64 == 0 {
				unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
			}
			_, err := unix.Pread(fd, buf, int64(i%64)<<20)
			return err
		})
	},
}

func withFile(dir string, flags, n int, do func(fd, i int, buf []byte) error) (float64, error) {
	fd, err := unix.Open(dir+"/big", flags, 0o644)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 1<<20)
	return timed(n, func(i int) error { return do(fd, i, buf) })
}

func timed(n int, do func(i int) error) (float64, error) {
	begin := time.Now()
	for i := range n {
		if err := do(i); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// encoder is a sink that does what the journal must: encode, then throw away.
type encoder struct {
	mu  sync.Mutex
	buf []byte
}

func (e *encoder) Put(op *fileop.Op) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.buf = fileop.AppendRecord(e.buf, op); len(e.buf) > 256<<10 {
		e.buf = e.buf[:0]
	}
}

func (e *encoder) Pace() time.Duration { return 0 }

// benchDir is on a file system in memory where there is one, which is the worst case.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp("/dev/shm", "understudy")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// fill makes what the loads read.
func fill(b *testing.B, dir string) {
	must(b, os.Mkdir(dir+"/old", 0o755))
	for i := range 3000 {
		must(b, os.WriteFile(fmt.Sprintf("%s/old/f%d", dir, i), nil, 0o644))
	}
	must(b, os.WriteFile(dir+"/big", make([]byte, 64<<20), 0o644))
}

// captured mounts a capture with a sink; reference mounts go-fuse's own loopback.
func captured(b *testing.B) (dir string, stop func()) { return capturedWith(b, Config{}) }

// heldCapture is captured, with everything noted for a process after this one.
func heldCapture(b *testing.B) (dir string, stop func()) {
	return capturedWith(b, Config{Keeper: nobody{}})
}

// nobody is a keeper that keeps nothing: what is measured is what is noted.
type nobody struct{}

func (nobody) Keep(string, []byte, ...*os.File) error           { return nil }
func (nobody) Hand(string, int) error                           { return nil }
func (nobody) Take(string) (meta []byte, f []*os.File, e error) { return nil, nil, os.ErrNotExist }
func (nobody) Names() ([]string, error)                         { return nil, nil }
func (nobody) Drop(string) error                                { return nil }
func (nobody) Discard(string) error                             { return nil }

// BenchmarkHeld gives the rate of creations with and without notes in shared memory.
func BenchmarkHeld(b *testing.B) {
	testfuse.Need(b)
	const rounds = 9
	for _, name := range []string{"create-4K", "stat-cold", "random-write-4K"} {
		b.Run(name, func(b *testing.B) {
			var with, without []float64
			for range rounds {
				with = append(with, once(b, name, heldCapture))
				without = append(without, once(b, name, captured))
			}
			slices.Sort(with)
			slices.Sort(without)
			for b.Loop() { // the rounds are fixed: the figures below are what counts
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(with[rounds/2], "held/s")
			b.ReportMetric(without[rounds/2], "alone/s")
			b.ReportMetric(with[rounds/2]/without[rounds/2], "ratio")
			b.ReportMetric(with[rounds-1]/without[rounds-1], "best-ratio")
		})
	}
}

func capturedWith(b *testing.B, cfg Config) (dir string, stop func()) {
	dir = benchDir(b)
	fill(b, dir)
	testfuse.Watchdog(b, dir, 5*time.Minute)
	c, err := Mount(dir, cfg, slog.New(slog.DiscardHandler))
	must(b, err)
	detach := c.Attach(&encoder{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	<-c.Ready()
	return dir, func() {
		detach()
		cancel()
		must(b, <-done)
		os.RemoveAll(dir)
	}
}

func reference(b *testing.B) (dir string, stop func()) {
	lower := benchDir(b)
	fill(b, lower)
	dir = b.TempDir()
	testfuse.Watchdog(b, dir, 5*time.Minute)
	root, err := fs.NewLoopbackRoot(lower)
	must(b, err)
	ttl := time.Hour
	srv, err := fs.Mount(dir, root, &fs.Options{
		AttrTimeout: &ttl, EntryTimeout: &ttl, NegativeTimeout: &ttl,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, AllowOther: true, MaxWrite: maxRequest,
			Options: []string{"default_permissions"}, DisabledCapabilities: fuse.CAP_PASSTHROUGH},
	})
	must(b, err)
	return dir, func() {
		must(b, srv.Unmount())
		os.RemoveAll(lower)
	}
}

// load runs one load in a new process.
func load(b *testing.B, what, dir string) float64 {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+what+":"+dir)
	out, err := cmd.Output()
	must(b, err)
	rate, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	must(b, err)
	return rate
}

// BenchmarkCapture gives the rate of each load through capture, through the reference,
// and their ratio: medians of interleaved rounds on fresh mounts. The goal is 0.9.
func BenchmarkCapture(b *testing.B) {
	testfuse.Need(b)
	const rounds = 5
	var names []string
	for name := range loads {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			var ours, theirs []float64
			for range rounds {
				ours = append(ours, once(b, name, captured))
				theirs = append(theirs, once(b, name, reference))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			for b.Loop() { // the rounds are fixed: the figures below are what counts
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours[rounds/2], "captured/s")
			b.ReportMetric(theirs[rounds/2], "reference/s")
			b.ReportMetric(ours[rounds/2]/theirs[rounds/2], "ratio")
		})
	}
}

func once(b *testing.B, name string, mount func(*testing.B) (string, func())) float64 {
	dir, stop := mount(b)
	defer stop()
	return load(b, name, dir)
}
