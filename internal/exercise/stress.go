package exercise

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// StressOptions of Stress.
type StressOptions struct {
	// UID is the file system user of every second worker, if not 0 and the process is
	// root: such a worker meets permissions, and its writes clear set-id bits. The
	// directory is made writable for all.
	UID         int
	NoSpecial   bool            // no fifos, sockets and devices
	NoWhiteout  bool            // no RENAME_WHITEOUT
	NoTrusted   bool            // no trusted.* attributes
	NoTmpfile   bool            // no O_TMPFILE (go-fuse's stock loopback cannot link one)
	NoFalloc    bool            // no fallocate
	Stop        <-chan struct{} `json:"-"` // ends early when closed; may be nil
	MaxFileSize int             // bytes; 256 KiB if 0
}

// Stress runs workers against each other on dir, which should be empty, until they
// have tried ops calls together. The first error that no random call should meet ends
// all of them.
func Stress(dir string, seed int64, workers, ops int, opt StressOptions) (Stats, error) {
	if opt.MaxFileSize == 0 {
		opt.MaxFileSize = 256 << 10
	}
	if opt.UID != 0 && os.Geteuid() == 0 {
		if err := unix.Chmod(dir, 0o777); err != nil {
			return newStats(), err
		}
	}
	world := newWorld(dir)
	all := make([]*worker, workers)
	var wg sync.WaitGroup
	failed := make(chan struct{})
	var once sync.Once
	for i := range all {
		w := &worker{world: world, opt: opt, stats: newStats(), id: i,
			r: rand.New(rand.NewPCG(uint64(seed), uint64(i)))}
		all[i] = w
		wg.Go(func() {
			w.err = w.run(ops/workers, stressOps, failed)
			if w.err != nil {
				once.Do(func() { close(failed) })
			}
		})
	}
	wg.Wait()
	stats := newStats()
	var errs []error
	for _, w := range all {
		stats.merge(w.stats)
		if w.err != nil {
			errs = append(errs, fmt.Errorf("stress %s, seed %d, worker %d: %w", dir, seed, w.id, w.err))
		}
	}
	return stats, errors.Join(errs...)
}

// worker makes random calls one after the other.
type worker struct {
	world *world
	opt   StressOptions
	id    int
	r     *rand.Rand
	fds   []openFile
	attrs [16][2]string // path and name of some attributes set
	stats Stats
	trace trace
	err   error
}

// openFile is a regular file a worker holds open, whatever became of its names.
type openFile struct {
	fd     int
	append bool
}

const maxOpen = 8

// errSkip: there is nothing to do this to yet.
var errSkip = errors.New("nothing to work on")

type stressOp struct {
	name   string // kind, for counting and for what errors are expected
	weight int
	do     func(w *worker) error
}

var stressOps = []stressOp{
	{"create", 8, (*worker).create}, {"open", 8, (*worker).openFile}, {"close", 3, (*worker).closeFile},
	{"mkdir", 4, (*worker).mkdir}, {"mknod", 2, (*worker).mknod}, {"symlink", 3, (*worker).symlink},
	{"link", 5, (*worker).link}, {"unlink", 6, (*worker).unlink}, {"rmdir", 2, (*worker).rmdir},
	{"unlink", 2, (*worker).unlinkOpen}, {"tmpfile", 3, (*worker).tmpfile},
	{"rename", 8, rename(0)}, {"exchange", 3, rename(unix.RENAME_EXCHANGE)},
	{"noreplace", 2, rename(unix.RENAME_NOREPLACE)}, {"whiteout", 1, rename(unix.RENAME_WHITEOUT)},
	{"write", 18, (*worker).write}, {"append", 8, (*worker).appendData}, {"truncate", 4, (*worker).truncate},
	{"truncate", 4, (*worker).ftruncate}, {"fallocate", 10, (*worker).fallocate}, {"copy-range", 5, (*worker).copyRange},
	{"read", 4, (*worker).read}, {"readdir", 1, (*worker).readdir},
	{"chmod", 4, (*worker).chmod}, {"chown", 3, (*worker).chown}, {"utimens", 4, (*worker).utimens},
	{"setxattr", 5, (*worker).setxattr}, {"removexattr", 3, (*worker).removexattr}, {"acl", 3, (*worker).acl},
	{"fsync", 1, (*worker).fsync}, {"fdatasync", 1, (*worker).fdatasync},
}

// run makes n calls out of table.
func (w *worker) run(n int, table []stressOp, failed <-chan struct{}) error {
	if w.opt.UID != 0 && w.id%2 == 1 && os.Geteuid() == 0 {
		// The file system user belongs to the thread; the runtime ends a locked thread
		// with its goroutine, so no other goroutine inherits it.
		runtime.LockOSThread()
		if err := unix.Setfsgid(w.opt.UID); err != nil {
			return err
		}
		if err := unix.Setfsuid(w.opt.UID); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := retry(func() error { return unix.Stat(w.world.dir, &st) }); err != nil {
			return fmt.Errorf("user %d cannot reach the directory: %w", w.opt.UID, err)
		}
	}
	defer func() {
		for len(w.fds) > 0 {
			w.drop(0)
		}
	}()
	for range n {
		select {
		case <-failed:
			return nil
		case <-w.opt.Stop:
			return nil
		default:
		}
		if err := w.one(table); err != nil {
			return err
		}
	}
	return nil
}

// one makes one call; an error is one that no random call should meet.
func (w *worker) one(table []stressOp) error {
	total := 0
	for _, o := range table {
		total += o.weight
	}
	n, o := w.r.IntN(total), table[0]
	for _, o = range table {
		if n -= o.weight; n < 0 {
			break
		}
	}
	err := o.do(w)
	switch {
	case err == nil:
		w.stats.Ops++
		w.stats.Done[o.name]++
	case errors.Is(err, errSkip):
	case expected(o.name, err):
		w.stats.Failed[o.name+" "+errName(err)]++
	default:
		return w.trace.wrap(fmt.Errorf("%s: %w", o.name, err))
	}
	return nil
}

// forget takes a path off the map if the kernel says it is not there.
func (w *worker) forget(rel string, err error) {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		w.world.remove(rel)
	}
}

// hold keeps a descriptor open; with too many, another one is closed.
func (w *worker) hold(f openFile) {
	if len(w.fds) >= maxOpen {
		w.drop(w.r.IntN(len(w.fds)))
	}
	w.fds = append(w.fds, f)
}

func (w *worker) drop(i int) error {
	err := unix.Close(w.fds[i].fd)
	w.fds[i] = w.fds[len(w.fds)-1]
	w.fds = w.fds[:len(w.fds)-1]
	return err
}

// some draws an open file.
func (w *worker) some() (openFile, error) {
	if len(w.fds) == 0 {
		return openFile{}, errSkip
	}
	return w.fds[w.r.IntN(len(w.fds))], nil
}
