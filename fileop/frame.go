package fileop

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sizes of a frame in bytes. A frame is one message of a stream.
const (
	HeaderSize   = 60
	MaxFrame     = 1 << 20 // JetStream head-of-line latency and pull windows argue against more
	FrameVersion = 1
)

var frameMagic = [4]byte{'U', 'S', 'D', 'Y'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of frames. ErrDamaged: the bytes are not what was written. ErrVersion: a
// newer peer wrote it. ErrNotNext: a good frame, but not the successor of the last.
var (
	ErrDamaged = errors.New("damaged frame")
	ErrVersion = errors.New("frame of another version")
	ErrNotNext = errors.New("frame out of order")
)

// Chain is the digest of a frame's header, which holds the checksum of its body and
// the chain of its predecessor: equal chains mean equal histories.
type Chain uint64

// Header of a frame.
//
//	offset size field (little endian)
//	0      4    "USDY"
//	4      1    version
//	5      1    lane
//	6      2    flags, 0
//	8      8    epoch
//	16     8    number of the first record
//	24     8    records of the other lane logged before the first record
//	32     8    chain of the predecessor, 0 for the first
//	40     4    number of records
//	44     4    bytes of the body
//	48     4    CRC32C of the body
//	52     4    CRC32C of the bytes 0 to 51
//	56     4    0
type Header struct {
	Lane  Lane
	Epoch Epoch
	First Seq
	Other Seq
	Prev  Chain
	Count uint32

	bodyLen uint32
	bodyCRC uint32
}

// Last is the number of the last record.
func (h Header) Last() Seq { return h.First + Seq(h.Count) - 1 }

func (h Header) encode(b []byte) {
	copy(b, frameMagic[:])
	b[4], b[5], b[6], b[7] = FrameVersion, byte(h.Lane), 0, 0
	binary.LittleEndian.PutUint64(b[8:], uint64(h.Epoch))
	binary.LittleEndian.PutUint64(b[16:], uint64(h.First))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.Other))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.Prev))
	binary.LittleEndian.PutUint32(b[40:], h.Count)
	binary.LittleEndian.PutUint32(b[44:], h.bodyLen)
	binary.LittleEndian.PutUint32(b[48:], h.bodyCRC)
	binary.LittleEndian.PutUint32(b[52:], crc32.Checksum(b[:52], castagnoli))
	binary.LittleEndian.PutUint32(b[56:], 0)
}

func chainOf(header []byte) Chain {
	sum := sha256.Sum256(header[:HeaderSize])
	return Chain(binary.LittleEndian.Uint64(sum[:]))
}

// Builder packs records into one frame after another. The zero value is not ready;
// use NewBuilder. It is not safe for concurrent use.
type Builder struct {
	lane  Lane
	epoch Epoch
	next  Seq // number of the next record
	prev  Chain
	first Seq // of the frame being built
	other Seq // of its first record
	last  Seq // Other of its last record
	count uint32
	buf   []byte
}

// NewBuilder starts at record number next (1 in a new epoch), after the frame with
// chain prev (0 in a new epoch).
func NewBuilder(lane Lane, epoch Epoch, next Seq, prev Chain) *Builder {
	return &Builder{lane: lane, epoch: epoch, next: next, prev: prev}
}

// Next is the number the next record gets.
func (b *Builder) Next() Seq { return b.next }

// Count and Size tell what the frame being built holds, in records and bytes.
func (b *Builder) Count() int { return int(b.count) }

// Size is the length in bytes of the frame being built, header included.
func (b *Builder) Size() int { return len(b.buf) }

// Fits reports whether a record of n encoded bytes still fits into this frame.
func (b *Builder) Fits(n int) bool {
	return b.count == 0 || len(b.buf)+n+2*binary.MaxVarintLen64 <= MaxFrame
}

// Add appends an encoded record (AppendRecord) that follows other records of the
// other lane, and returns its number. It copies rec.
func (b *Builder) Add(rec []byte, other Seq) Seq {
	if b.count == 0 {
		if cap(b.buf) < HeaderSize {
			b.buf = make([]byte, HeaderSize, 64<<10)
		}
		b.buf = b.buf[:HeaderSize]
		b.first, b.other, b.last = b.next, other, other
	}
	b.buf = protowire.AppendVarint(b.buf, uint64(other-b.last))
	b.buf = protowire.AppendVarint(b.buf, uint64(len(rec)))
	b.buf = append(b.buf, rec...)
	b.last = other
	b.count++
	b.next++
	return b.next - 1
}

// Finish seals the frame and returns its header, its chain and its bytes, which
// belong to the caller. It returns nil bytes if the frame is empty.
func (b *Builder) Finish() (Header, Chain, []byte) {
	if b.count == 0 {
		return Header{}, b.prev, nil
	}
	out := b.buf
	h := Header{Lane: b.lane, Epoch: b.epoch, First: b.first, Other: b.other, Prev: b.prev, Count: b.count,
		bodyLen: uint32(len(out) - HeaderSize), bodyCRC: crc32.Checksum(out[HeaderSize:], castagnoli)}
	h.encode(out)
	b.prev = chainOf(out)
	b.buf, b.count = nil, 0
	return h, b.prev, out
}

// Frame is a decoded frame; its records are read one by one.
type Frame struct {
	Header
	Chain Chain
	Body  []byte
}

// ParseFrame checks magic, version, sizes and both checksums. The frame's Body, and the
// Data of its records, stay slices of b. It returns an error for any other bytes and
// allocates nothing.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) < HeaderSize || len(b) > MaxFrame+MaxData {
		return Frame{}, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	if [4]byte(b[:4]) != frameMagic {
		return Frame{}, fmt.Errorf("%w: no magic", ErrDamaged)
	}
	if b[4] != FrameVersion {
		return Frame{}, fmt.Errorf("%w: version %d, this is version %d; upgrade the older machine", ErrVersion, b[4], FrameVersion)
	}
	if crc32.Checksum(b[:52], castagnoli) != binary.LittleEndian.Uint32(b[52:]) {
		return Frame{}, fmt.Errorf("%w: header checksum", ErrDamaged)
	}
	h := decodeHeader(b)
	body := b[HeaderSize:]
	if int(h.bodyLen) != len(body) || (h.Lane != LaneQueue && h.Lane != LaneMirror) || h.Count == 0 || uint64(h.Count) > uint64(len(body))/3 ||
		h.First == 0 || h.First+Seq(h.Count) < h.First || [2]byte(b[6:8]) != [2]byte{} || [4]byte(b[56:60]) != [4]byte{} {
		return Frame{}, fmt.Errorf("%w: header fields", ErrDamaged)
	}
	if crc32.Checksum(body, castagnoli) != h.bodyCRC {
		return Frame{}, fmt.Errorf("%w: body checksum", ErrDamaged)
	}
	return Frame{Header: h, Chain: chainOf(b), Body: body}, nil
}

// decodeHeader reads the fields of a header as they are.
func decodeHeader(b []byte) Header {
	return Header{
		Lane:    Lane(b[5]),
		Epoch:   Epoch(binary.LittleEndian.Uint64(b[8:])),
		First:   Seq(binary.LittleEndian.Uint64(b[16:])),
		Other:   Seq(binary.LittleEndian.Uint64(b[24:])),
		Prev:    Chain(binary.LittleEndian.Uint64(b[32:])),
		Count:   binary.LittleEndian.Uint32(b[40:]),
		bodyLen: binary.LittleEndian.Uint32(b[44:]),
		bodyCRC: binary.LittleEndian.Uint32(b[48:]),
	}
}

// Follows refuses a frame that is not the successor of the one that ended at last
// with chain prev in epoch. Before the first frame of an epoch, last and prev are 0.
func (f *Frame) Follows(epoch Epoch, last Seq, prev Chain) error {
	if f.Epoch != epoch || f.First != last+1 || f.Prev != prev {
		return fmt.Errorf("%w: got epoch %x number %d chain %x, want epoch %x number %d chain %x",
			ErrNotNext, f.Epoch, f.First, f.Prev, epoch, last+1, prev)
	}
	return nil
}

// Reader returns the records of a frame in order.
type Reader struct {
	rest  []byte
	seq   Seq
	other Seq
	left  uint32
	lane  Lane
}

// Records returns a reader at the first record.
func (f *Frame) Records() Reader {
	return Reader{rest: f.Body, seq: f.First, other: f.Other, left: f.Count, lane: f.Lane}
}

// Next fills op with the next record and reports whether there was one. Data and
// xattr values are slices of the frame. After an error the reader is not used again.
func (r *Reader) Next(op *Op) (bool, error) {
	if r.left == 0 {
		if len(r.rest) > 0 {
			return false, fmt.Errorf("%w: %d bytes after the last record", ErrInvalid, len(r.rest))
		}
		return false, nil
	}
	delta, l := protowire.ConsumeVarint(r.rest)
	if l < 0 {
		return false, fmt.Errorf("%w: record %d: counter", ErrInvalid, r.seq)
	}
	rec, l2 := protowire.ConsumeBytes(r.rest[l:])
	if l2 < 0 {
		return false, fmt.Errorf("%w: record %d: length", ErrInvalid, r.seq)
	}
	r.rest = r.rest[l+l2:]
	r.other += Seq(delta)
	*op = Op{Seq: r.seq, Other: r.other}
	if err := parseRecord(rec, op); err != nil {
		return false, fmt.Errorf("record %d: %w", r.seq, err)
	}
	if op.Kind.Lane() != r.lane {
		return false, fmt.Errorf("%w: record %d: %s in the wrong lane", ErrInvalid, r.seq, op.Kind)
	}
	r.seq++
	r.left--
	return true, nil
}

// AppendTo appends the frame's bytes, as ParseFrame took them.
func (f *Frame) AppendTo(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	f.encode(b[start:])
	return append(b, f.Body...)
}

// Until is the frame with the records up to last alone; its chain stays that of the whole.
func (f Frame) Until(last Seq) (Frame, error) {
	if last >= f.Last() {
		return f, nil
	}
	r := f.Records()
	var op Op
	for r.seq <= last {
		if ok, err := r.Next(&op); err != nil || !ok {
			return f, err
		}
	}
	f.Count, f.Body = uint32(last-f.First+1), f.Body[:len(f.Body)-len(r.rest)]
	return f, nil
}
