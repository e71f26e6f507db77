package exercise

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// FSXOptions of FSX.
type FSXOptions struct {
	Name     string // of the file; "fsx" if empty
	MaxSize  int    // bytes; 256 KiB if 0
	NoMmap   bool
	NoFalloc bool
	NoCopy   bool
	Stop     <-chan struct{} `json:"-"` // ends early when closed; may be nil
}

const blockSize = 4096 // alignment of collapse and insert

// FSX makes ops random changes and reads of one new file in dir and checks every read
// against a copy in memory. A difference is an error that names the first wrong byte
// and the last calls.
func FSX(dir string, seed int64, ops int, opt FSXOptions) (Stats, error) {
	if opt.Name == "" {
		opt.Name = "fsx"
	}
	if opt.MaxSize == 0 {
		opt.MaxSize = 256 << 10
	}
	x := &fsx{path: filepath.Join(dir, opt.Name), opt: opt, fd: -1, afd: -1, stats: newStats(),
		r: rand.New(rand.NewPCG(uint64(seed), 0x667378)), missing: map[string]bool{}}
	// A store to a mapping that the file system cannot serve is a fault, which would
	// end the process.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	err := x.run(ops)
	x.close()
	if err != nil {
		err = x.trace.wrap(fmt.Errorf("fsx %s, seed %d: %w", x.path, seed, err))
	}
	return x.stats, err
}

type fsx struct {
	path    string
	opt     FSXOptions
	r       *rand.Rand
	fd, afd int    // the second one appends
	good    []byte // what the file must hold
	stats   Stats
	trace   trace
	missing map[string]bool // kinds this file system does not know
}

type fsxOp struct {
	name   string
	weight int
	do     func(x *fsx) error
}

var fsxOps = []fsxOp{
	{"read", 15, (*fsx).read}, {"mapread", 8, (*fsx).mapRead}, {"write", 20, (*fsx).write},
	{"append", 5, (*fsx).append}, {"truncate", 6, (*fsx).truncate}, {"mapwrite", 10, (*fsx).mapWrite},
	{"allocate", 3, fall(0)}, {"keep-size", 3, fall(unix.FALLOC_FL_KEEP_SIZE)},
	{"punch", 8, fall(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)},
	{"zero", 4, fall(unix.FALLOC_FL_ZERO_RANGE)}, {"zero-keep", 4, fall(unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE)},
	{"collapse", 4, fall(unix.FALLOC_FL_COLLAPSE_RANGE)}, {"insert", 4, fall(unix.FALLOC_FL_INSERT_RANGE)},
	{"copy-range", 6, (*fsx).copyRange}, {"reopen", 2, (*fsx).reopen}, {"fsync", 1, (*fsx).sync},
}

func (x *fsx) run(ops int) error {
	if err := x.open(unix.O_CREAT | unix.O_TRUNC); err != nil {
		return err
	}
	total := 0
	for _, o := range fsxOps {
		total += o.weight
	}
	for range ops {
		select {
		case <-x.opt.Stop:
			return x.checkAll()
		default:
		}
		o, n := fsxOps[0], x.r.IntN(total)
		for _, o = range fsxOps {
			if n -= o.weight; n < 0 {
				break
			}
		}
		if err := x.one(o); err != nil {
			return err
		}
	}
	return x.checkAll()
}

func (x *fsx) one(o fsxOp) (err error) {
	if x.missing[o.name] {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: fault: %v", o.name, p)
		}
	}()
	err = o.do(x)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && o.name != "read" && o.name != "write":
		x.missing[o.name] = true
		x.stats.Failed[o.name+" "+errName(err)]++
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", o.name, err)
	}
	x.stats.Ops++
	x.stats.Done[o.name]++
	return x.checkSize()
}

func (x *fsx) open(flags int) error {
	var err error
	if x.fd, err = unix.Open(x.path, unix.O_RDWR|unix.O_CLOEXEC|flags, 0o644); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if x.afd, err = unix.Open(x.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open to append: %w", err)
	}
	return nil
}

func (x *fsx) close() {
	for _, fd := range []int{x.fd, x.afd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	x.fd, x.afd = -1, -1
}

func (x *fsx) checkSize() error {
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Size != int64(len(x.good)) {
		return fmt.Errorf("size is %d, must be %d", st.Size, len(x.good))
	}
	return nil
}

// checkAll reads the file anew through another descriptor.
func (x *fsx) checkAll() error {
	if err := x.reopen(); err != nil {
		return err
	}
	return x.check(0, len(x.good))
}

// check reads n bytes at off and compares them.
func (x *fsx) check(off, n int) error {
	got := make([]byte, n)
	for k := 0; k < n; {
		var m int
		err := retry(func() (err error) { m, err = unix.Pread(x.fd, got[k:], int64(off+k)); return err })
		if err != nil {
			return fmt.Errorf("read at byte %d: %w", off+k, err)
		}
		if m == 0 {
			return fmt.Errorf("read at byte %d: end of a file of %d bytes", off+k, len(x.good))
		}
		k += m
	}
	return x.compare(off, got)
}

func (x *fsx) compare(off int, got []byte) error {
	want := x.good[off : off+len(got)]
	if bytes.Equal(got, want) {
		return nil
	}
	first, wrong := -1, 0
	for i := range got {
		if got[i] != want[i] {
			if wrong++; first < 0 {
				first = i
			}
		}
	}
	return fmt.Errorf("byte %d is %#x, must be %#x (%d of %d bytes at %d are wrong)",
		off+first, got[first], want[first], wrong, len(got), off)
}
