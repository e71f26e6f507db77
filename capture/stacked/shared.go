package stacked

import (
	"fmt"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/capture/holder"
)

// What has to outlive this process stands in shared memory, in records of fixed size
// that are changed in place:
//
//	   0  sharedHeader
//	4 Ki  maxIntents intents of 1 KiB
//	1 Mi  slots of 64 bytes
//	3 Gi  slots of 320 bytes, for long names and handles
//
// The memory is sparse: a page costs memory once something stood in it, and chunks
// without a record are given back. The process may die between any two stores. So a
// record is filled first and its state set last, by an atomic store; a record is freed
// by one store of 0; and whoever reads after a death expects every state in between.
const (
	sharedMagic = 0x756e646572737401 // "underst" and the version of this layout
	intentsAt   = 4 << 10
	smallAt     = 1 << 20
	largeAt     = 3 << 30
	sharedSize  = 4 << 30
	smallSize   = 64
	largeSize   = 320
	chunkSize   = 64 << 10
)

// sharedHeader begins the shared memory.
type sharedHeader struct {
	progress holder.Progress
	_        [64 - unsafe.Sizeof(holder.Progress{})]byte
	magic    atomic.Uint64
	lastNode atomic.Uint64 // node numbers given so far
	lastFile atomic.Uint64 // handle numbers given so far, of files
	lastDir  atomic.Uint64 // and of directories
	broken   atomic.Uint64 // not 0: something could not be noted, so nothing can be resumed
}

// shared is the memory, mapped.
type shared struct {
	file *os.File
	mem  []byte

	small, large slots
}

// newShared makes an empty one.
func newShared() (*shared, error) {
	fd, err := unix.MemfdCreate("understudy-session", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "session")
	if err := f.Truncate(sharedSize); err != nil {
		f.Close()
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	s, err := mapShared(f)
	if err != nil {
		return nil, err
	}
	s.header().magic.Store(sharedMagic)
	return s, nil
}

// mapShared maps the memory a process before this one made.
func mapShared(f *os.File) (*shared, error) {
	st, err := f.Stat()
	if err == nil && st.Size() != sharedSize {
		err = fmt.Errorf("it has %d bytes", st.Size())
	}
	var mem []byte
	if err == nil {
		mem, err = unix.Mmap(int(f.Fd()), 0, sharedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	s := &shared{file: f, mem: mem}
	s.small.init(s, smallAt, largeAt, smallSize)
	s.large.init(s, largeAt, sharedSize, largeSize)
	return s, nil
}

func (s *shared) header() *sharedHeader { return (*sharedHeader)(unsafe.Pointer(&s.mem[0])) }

func (s *shared) close() {
	unix.Munmap(s.mem)
	s.file.Close()
}

// slot is one record. Its kind stands in the lowest byte of state, 0: free.
type slot struct {
	state   atomic.Uint64
	a, b, c uint64 // c of a node changes in place, by atomic stores
	tail    [smallSize - 32]byte
}

// place names a slot: its number from 1, large ones with the highest bit. 0: none.
type place uint32

const largePlace place = 1 << 31

func (s *shared) of(p place) *slots {
	if p&largePlace != 0 {
		return &s.large
	}
	return &s.small
}

// at is the slot, and the bytes behind its fields.
func (s *shared) at(p place) (*slot, []byte) {
	set := s.of(p)
	off := set.offset(int(p&^largePlace) - 1)
	r := (*slot)(unsafe.Pointer(&s.mem[off]))
	return r, unsafe.Slice(&r.tail[0], set.size-32)
}

// take finds a free slot with room for tail bytes; 0 if there is none.
func (s *shared) take(tail int) place {
	set, bit := &s.small, place(0)
	if tail > smallSize-32 {
		set, bit = &s.large, largePlace
	}
	i := set.take()
	if i < 0 {
		s.header().broken.Store(1)
		return 0
	}
	return place(i+1) | bit
}

// free gives a slot back; it is freed in the memory first.
func (s *shared) free(p place) {
	if p == 0 {
		return
	}
	r, _ := s.at(p)
	r.state.Store(0)
	s.of(p).free(int(p&^largePlace) - 1)
}

// slots are those of one size. Which are free is known to this process only; a later
// one looks.
type slots struct {
	s     *shared
	begin int
	size  int
	per   int // slots of a chunk

	mu     sync.Mutex // guards the rest
	chunks []chunk    // as far as slots were ever used
	max    int        // chunks
	low    int        // no chunk below has a free slot
}

type chunk struct {
	used int
	busy [chunkSize / smallSize / 64]uint64
}

func (t *slots) init(s *shared, begin, end, size int) {
	t.s, t.begin, t.size, t.per, t.max = s, begin, size, chunkSize/size, (end-begin)/chunkSize
}

func (t *slots) offset(i int) int { return t.begin + i/t.per*chunkSize + i%t.per*t.size }

// take marks the first free slot as used and returns its number, -1 if there is none.
func (t *slots) take() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; ; t.low++ {
		if t.low == len(t.chunks) {
			if t.low == t.max {
				return -1
			}
			t.chunks = append(t.chunks, chunk{})
		}
		if c := &t.chunks[t.low]; c.used < t.per {
			for w := range c.busy {
				if bit := bits.TrailingZeros64(^c.busy[w]); bit < 64 && w*64+bit < t.per {
					c.busy[w] |= 1 << bit
					c.used++
					return t.low*t.per + w*64 + bit
				}
			}
		}
	}
}

// free gives back the memory of a chunk that has become empty, unless it is the next to
// be used.
func (t *slots) free(i int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := i / t.per
	c := &t.chunks[n]
	i %= t.per
	c.busy[i/64] &^= 1 << (i % 64)
	c.used--
	if c.used == 0 && n > t.low {
		unix.Fallocate(int(t.s.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(t.begin+n*chunkSize), chunkSize)
	}
	t.low = min(t.low, n)
}

// scan calls visit with every used slot another process left and marks it as used.
func (s *shared) scan(visit func(p place, r *slot, tail []byte)) error {
	for _, set := range []*slots{&s.small, &s.large} {
		if err := set.scan(visit); err != nil {
			return err
		}
	}
	return nil
}

func (t *slots) scan(visit func(place, *slot, []byte)) error {
	bit := place(0)
	if t == &t.s.large {
		bit = largePlace
	}
	end, err := t.written()
	if err != nil {
		return err
	}
	for n := range end {
		t.chunks = append(t.chunks, chunk{})
		hole, err := unix.Seek(int(t.s.file.Fd()), int64(t.begin+n*chunkSize), unix.SEEK_DATA)
		if err != nil || hole >= int64(t.begin+(n+1)*chunkSize) {
			continue // nothing was ever written there
		}
		c := &t.chunks[n]
		for i := range t.per {
			p := place(n*t.per+i+1) | bit
			r, tail := t.s.at(p)
			if r.state.Load() == 0 {
				continue
			}
			c.busy[i/64] |= 1 << (i % 64)
			c.used++
			visit(p, r, tail)
		}
	}
	return nil
}

// written is the number of chunks up to the last one with memory.
func (t *slots) written() (end int, err error) {
	limit := int64(t.begin + t.max*chunkSize)
	for off := int64(t.begin); off < limit; {
		data, err := unix.Seek(int(t.s.file.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO || err == nil && data >= limit {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("look through shared memory: %w", err)
		}
		if off, err = unix.Seek(int(t.s.file.Fd()), data, unix.SEEK_HOLE); err != nil {
			return 0, fmt.Errorf("look through shared memory: %w", err)
		}
		end = (int(min(off, limit)) - t.begin + chunkSize - 1) / chunkSize
	}
	return end, nil
}
