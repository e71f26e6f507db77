package stream

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// maxTrees bounds what a header may claim.
const maxTrees = 1 << 16

// OpenTail maps a tail that a former process left. ErrBroken: it is damaged, or its
// epoch has ended. The file then still belongs to the caller.
func OpenTail(f *os.File) (_ *Tail, err error) {
	t := &Tail{f: f}
	defer func() {
		if err == nil {
			return
		}
		if t.data != nil {
			_ = unix.Munmap(t.data)
		}
		err = fmt.Errorf("open tail: %w", err)
	}()
	if err := t.readHeader(); err != nil {
		return nil, err
	}
	if err := t.mapIn(); err != nil {
		return nil, err
	}
	if t.load(wordDead) != 0 {
		return nil, fmt.Errorf("%w: an operation was refused, or the epoch has ended", ErrBroken)
	}
	if err := t.readSegments(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return t, nil
}

func (t *Tail) readHeader() error {
	var head [44]byte
	if _, err := t.f.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("%w: read header: %w", ErrBroken, err)
	}
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	u := func(off int) uint64 { return binary.LittleEndian.Uint64(head[off:]) }
	size, count, trees := u(16), u(24), u(32)
	if [8]byte(head[:8]) != tailMagic || crc32.Checksum(head[:40], castagnoli) != binary.LittleEndian.Uint32(head[40:]) ||
		size < segmentHeader+recordHeader || size%8 != 0 || size > uint64(st.Size()) || count == 0 || count > uint64(st.Size())/size || trees > maxTrees {
		return fmt.Errorf("%w: header", ErrBroken)
	}
	t.epoch, t.size, t.count, t.trees, t.next = fileop.Epoch(u(8)), int(size), int(count), int(trees), 1
	if want := t.layout(); st.Size() != int64(want) {
		return fmt.Errorf("%w: %d bytes, want %d", ErrBroken, st.Size(), want)
	}
	return nil
}

// readSegments finds the segments that hold records and checks every record.
func (t *Tail) readSegments() error {
	type found struct {
		index int
		order uint64
	}
	var all []found
	for i := range t.count {
		word := t.load(t.at(i))
		if word == 0 {
			continue
		}
		order, ok := unsealWord(word)
		if !ok {
			return fmt.Errorf("segment %d: its order is damaged", i)
		}
		all = append(all, found{i, order})
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.order, b.order) })
	for i := range t.touched {
		t.touched[i] = true // for all we know
	}
	for n, f := range all {
		if n > 0 && f.order != all[n-1].order+1 {
			return fmt.Errorf("segment %d of order %d follows %d", f.index, f.order, all[n-1].order)
		}
		first := fileop.Seq(t.load(t.at(f.index) + 8))
		if n > 0 && first != t.next || first == 0 {
			return fmt.Errorf("segment %d begins at operation %d, want %d", f.index, first, t.next)
		}
		t.order, t.next = f.order, first
		t.free[f.index] = false
		used, ok := unsealWord(t.load(t.at(f.index)+16), f.order, uint64(first))
		s := segment{index: f.index, order: f.order, used: int(used), first: first, next: first}
		if !ok || s.used < 0 || s.used > t.size-segmentHeader || s.used%8 != 0 {
			return fmt.Errorf("segment %d uses %d bytes", f.index, s.used)
		}
		if err := t.readSegment(&s, func(r record) { t.note(r.tree, r.token) }); err != nil {
			return fmt.Errorf("segment %d: %w", f.index, err)
		}
		t.next = s.next
		t.live = append(t.live, s)
	}
	return nil
}

// record is one of the tail's; data is a slice of the mapping.
type record struct {
	seq, other fileop.Seq
	tree       uint32
	token      uint64
	data       []byte
}

// readSegment calls f with each record from s.next on and leaves s.next behind the last.
func (t *Tail) readSegment(s *segment, f func(record)) error {
	at := t.at(s.index) + segmentHeader
	b := t.data[at : at+s.used]
	for len(b) > 0 {
		if len(b) < recordHeader || crc32.Checksum(b[4:recordHeader], castagnoli) != binary.LittleEndian.Uint32(b) {
			return fmt.Errorf("record %d: header is damaged", s.next)
		}
		n := int(binary.LittleEndian.Uint32(b[8:]))
		r := record{tree: binary.LittleEndian.Uint32(b[12:]), seq: fileop.Seq(binary.LittleEndian.Uint64(b[16:])),
			other: fileop.Seq(binary.LittleEndian.Uint64(b[24:])), token: binary.LittleEndian.Uint64(b[32:])}
		end := (recordHeader + n + 7) &^ 7
		if end > len(b) || r.seq != s.next {
			return fmt.Errorf("record %d: number %d, %d bytes", s.next, r.seq, n)
		}
		r.data = b[recordHeader : recordHeader+n]
		if crc32.Checksum(r.data, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
			return fmt.Errorf("record %d: content is damaged", s.next)
		}
		f(r)
		s.next++
		b = b[end:]
	}
	return nil
}

// after calls f with the records behind seq, in order. It is ErrBroken if the tail does
// not join there.
func (t *Tail) after(seq fileop.Seq, f func(record)) error {
	first := t.next
	if len(t.live) > 0 {
		first = t.live[0].first
	}
	if seq+1 < first || seq+1 > t.next {
		return fmt.Errorf("%w: the queue ends at operation %d, its tail holds %d to %d", ErrBroken, seq, first, t.next-1)
	}
	for _, s := range t.live {
		s.next = s.first
		err := t.readSegment(&s, func(r record) {
			if r.seq > seq {
				f(r)
			}
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
	}
	return nil
}
