package stream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// Tail is the end of a journal in memory that outlives the process: what the queue has
// not acknowledged, and what a successor must know to go on in the same epoch. It is a
// memory file that another process holds, mapped here. The writer may be killed between
// any two stores: a record counts once the length of its segment's used part is stored,
// a segment once its order is.
//
//	offset     size  field (little endian)
//	0          8     "USTAIL01"
//	8          8     epoch
//	16         8     bytes of a segment
//	24         8     segments
//	32         8     trees (token tables)
//	40         4     CRC32C of the bytes 0 to 39
//	44         4     0
//	48         8     dead: not 0 once an operation was refused, or the epoch has ended
//	56         8     last mirror record logged
//	64         8     last mirror record in a finished frame
//	72         8     chain of that frame
//	80         8     unquiet: bits of Unquiet
//	88         8     doubt all: not 0 if Doubts.All
//	96         8     doubts since, seconds; 0: no such doubt
//	104        8     wall clock minus boot clock in seconds, when the tail was made
//	4096       ...   tokens logged last: TokenSlots words for each tree
//	then             segments: order from 1, 0 while free (8 bytes, checked); number of
//	                 the first record (8); bytes used (8, checked); unused (40); records
//
// A checked word holds its value in the lower half, the CRC32C of what it stands for in
// the upper one, so that one store changes both.
// A record is its CRC32C of the 36 bytes that follow (4), that of its content (4), its
// length (4), tree (4), number (8), Other (8), token (8), content, padding to 8.
//
// The queue's part is guarded by the journal's lock, the rest by mu.
type Tail struct {
	f     *os.File
	data  []byte // the mapping; nil once closed
	epoch fileop.Epoch
	size  int // bytes of a segment
	count int // segments
	trees int
	base  int    // offset of the first segment
	step  func() // tests look after each store; nil: none

	live    []segment // oldest first; the last one is written to
	free    []bool    // by segment
	touched []bool    // by segment: it has memory
	order   uint64    // of the newest segment
	next    fileop.Seq
	dead    atomic.Bool

	mu sync.Mutex // guards the words from unquiet on, and data against Close
}

// segment is one that holds records.
type segment struct {
	index int
	order uint64
	used  int        // bytes behind its header
	first fileop.Seq // of its records
	next  fileop.Seq // after its last record
}

// sealWord is a word that holds v, below 2^32, and a checksum of it and with.
func sealWord(v uint64, with ...uint64) uint64 {
	var b [24]byte
	n := len(binary.LittleEndian.AppendUint64(b[:0], v))
	for _, w := range with {
		n = len(binary.LittleEndian.AppendUint64(b[:n], w))
	}
	return v | uint64(crc32.Checksum(b[:n], castagnoli))<<32
}

// unsealWord is the value of a checked word, if it is whole.
func unsealWord(word uint64, with ...uint64) (v uint64, ok bool) {
	v = word & (1<<32 - 1)
	return v, sealWord(v, with...) == word
}

const (
	tailSegment = 2 << 20
	// tailSlack is how many times the journal's memory limit a tail may hold: records of
	// some bytes take more than twice their size with header and padding.
	tailSlack     = 3
	tailHeader    = 4096
	segmentHeader = 64
	recordHeader  = 40
	keepTouched   = 2 // free segments that keep their memory
)

var tailMagic = [8]byte{'U', 'S', 'T', 'A', 'I', 'L', '0', '1'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Offsets of the words that change.
const (
	wordDead       = 48
	wordMirror     = 56
	wordSealed     = 64
	wordChain      = 72
	wordUnquiet    = 80
	wordDoubtAll   = 88
	wordDoubtSince = 96
	wordClock      = 104
)

// NewTail makes an empty tail for a journal whose MemoryMax is memoryMax (0: the
// default), of a connection with so many root directories. Memory is taken as it fills.
func NewTail(epoch fileop.Epoch, memoryMax int64, trees int) (*Tail, error) {
	if memoryMax <= 0 {
		memoryMax = DefaultMemoryMax
	}
	return newTail(epoch, trees, tailSegment, int(tailSlack*memoryMax/tailSegment)+2)
}

func newTail(epoch fileop.Epoch, trees, size, count int) (*Tail, error) {
	fd, err := unix.MemfdCreate("understudy-tail", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make tail: %w", err)
	}
	t := &Tail{f: os.NewFile(uintptr(fd), "understudy-tail"), epoch: epoch, size: size, count: count, trees: trees, next: 1}
	var head [44]byte
	copy(head[:], tailMagic[:])
	for i, v := range []uint64{uint64(epoch), uint64(size), uint64(count), uint64(trees)} {
		binary.LittleEndian.PutUint64(head[8+8*i:], v)
	}
	binary.LittleEndian.PutUint32(head[40:], crc32.Checksum(head[:40], castagnoli))
	if err = t.f.Truncate(int64(t.layout())); err == nil {
		_, err = t.f.WriteAt(head[:], 0)
	}
	if err == nil { // a file that shrinks would end whoever has it mapped
		_, err = unix.FcntlInt(t.f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err == nil {
		err = t.mapIn()
	}
	if err != nil {
		t.f.Close()
		return nil, fmt.Errorf("make tail: %w", err)
	}
	t.store(wordClock, clockOffset())
	t.store(wordDoubtAll, 1) // until somebody knows better
	t.store(wordUnquiet, UnquietMirror)
	return t, nil
}

// layout places the segments and returns the size of the file.
func (t *Tail) layout() int {
	t.base = tailHeader + t.trees*fileop.TokenSlots*8
	t.free, t.touched = make([]bool, t.count), make([]bool, t.count)
	for i := range t.free {
		t.free[i] = true
	}
	return t.base + t.count*t.size
}

func (t *Tail) mapIn() (err error) {
	t.data, err = unix.Mmap(int(t.f.Fd()), 0, t.base+t.count*t.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

// clockOffset changes when the wall clock is set.
func clockOffset() uint64 {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return 0
	}
	return uint64(time.Now().Unix() - boot.Sec)
}

// File is what the holder keeps. It belongs to the tail.
func (t *Tail) File() *os.File { return t.f }

// Epoch of the journal.
func (t *Tail) Epoch() fileop.Epoch { return t.epoch }

func (t *Tail) word(off int) *uint64 { return (*uint64)(unsafe.Pointer(&t.data[off])) }

func (t *Tail) load(off int) uint64 { return atomic.LoadUint64(t.word(off)) }

// store is one step that a kill may follow.
func (t *Tail) store(off int, v uint64) {
	atomic.StoreUint64(t.word(off), v)
	t.stepped()
}

func (t *Tail) stepped() {
	if t.step != nil {
		t.step()
	}
}

// at is the offset of a segment.
func (t *Tail) at(i int) int { return t.base + i*t.size }

// put appends a record. The journal's lock is held.
func (t *Tail) put(seq, other fileop.Seq, tree uint32, token uint64, rec []byte, crc uint32) error {
	need := (recordHeader + len(rec) + 7) &^ 7
	s, err := t.room(need)
	if err != nil {
		return err
	}
	off := t.at(s.index) + segmentHeader + s.used
	b := t.data[off : off+need]
	binary.LittleEndian.PutUint32(b[4:], crc)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(rec)))
	binary.LittleEndian.PutUint32(b[12:], tree)
	binary.LittleEndian.PutUint64(b[16:], uint64(seq))
	binary.LittleEndian.PutUint64(b[24:], uint64(other))
	binary.LittleEndian.PutUint64(b[32:], token)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:recordHeader], castagnoli))
	t.stepped()
	copy(b[recordHeader:], rec)
	t.stepped()
	s.used += need
	s.next, t.next = seq+1, seq+1
	t.setUsed(s)
	t.note(tree, token)
	return nil
}

// note remembers a token as logged, behind its record.
func (t *Tail) note(tree uint32, token uint64) {
	if token != 0 && int(tree) < t.trees {
		t.store(t.slot(tree, token), token)
	}
}

func (t *Tail) slot(tree uint32, token uint64) int {
	return tailHeader + (int(tree)*fileop.TokenSlots+int(token%fileop.TokenSlots))*8
}

// logged reports whether the operation with a token is logged. The journal's lock is held.
func (t *Tail) logged(tree uint32, token uint64) bool {
	return t.data != nil && int(tree) < t.trees && t.load(t.slot(tree, token)) == token
}

// room returns the segment that takes need bytes more.
func (t *Tail) room(need int) (*segment, error) {
	if n := len(t.live); n > 0 && segmentHeader+t.live[n-1].used+need <= t.size {
		return &t.live[n-1], nil
	}
	if segmentHeader+need > t.size {
		return nil, fmt.Errorf("%w: record of %d bytes in the tail", ErrFull, need)
	}
	for i, free := range t.free {
		if !free {
			continue
		}
		at := t.at(i)
		t.order++
		s := segment{index: i, order: t.order, first: t.next, next: t.next}
		t.store(at+8, uint64(t.next))
		t.setUsed(&s)
		t.store(at, sealWord(t.order))
		t.free[i], t.touched[i] = false, true
		t.live = append(t.live, s)
		return &t.live[len(t.live)-1], nil
	}
	return nil, fmt.Errorf("%w: %d segments of the tail wait for the store", ErrFull, t.count)
}

func (t *Tail) setUsed(s *segment) {
	t.store(t.at(s.index)+16, sealWord(uint64(s.used), s.order, uint64(s.first)))
}

// trim forgets what the queue has stored up to acked. The journal's lock is held.
func (t *Tail) trim(acked fileop.Seq) {
	for len(t.live) > 1 && t.live[0].next <= acked+1 {
		s := t.live[0]
		t.store(t.at(s.index), 0)
		t.free[s.index] = true
		t.live = append(t.live[:0], t.live[1:]...)
	}
}

// shrink gives the memory of one free segment back, beyond a few, and reports whether
// there are more. The journal's lock is held: some 0.1 ms.
func (t *Tail) shrink() (more bool) {
	if t.data == nil {
		return false
	}
	kept := 0
	for i, touched := range t.touched {
		if !touched || !t.free[i] {
			continue
		}
		if kept++; kept <= keepTouched {
			continue
		}
		err := unix.Fallocate(int(t.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(t.at(i)), int64(t.size))
		t.touched[i] = err != nil
		return err == nil
	}
	return false
}

// Kill says that nobody may go on behind this tail: an operation was refused, or the
// epoch ends.
func (t *Tail) Kill() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data != nil && !t.dead.Swap(true) {
		t.store(wordDead, 1)
	}
}

// Close unmaps the tail. What the holder keeps stays as it is. A journal closes its own.
func (t *Tail) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data == nil {
		return nil
	}
	err := unix.Munmap(t.data)
	t.data = nil
	if cerr := t.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("close tail: %w", err)
	}
	return nil
}
