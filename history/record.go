package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"understudy/fileop"
)

// Errors a caller can act on.
var (
	// ErrGap: a frame is not the successor of the last one. The log ends here.
	ErrGap = errors.New("history has a gap")
	// ErrDamaged: what is stored is not what was written.
	ErrDamaged = errors.New("history is damaged")
	// ErrNoMoment: the log does not reach the moment asked for.
	ErrNoMoment = errors.New("no such moment in the history")
	// ErrDropped: the segment was dropped meanwhile.
	ErrDropped = errors.New("this part of the history was dropped")
)

// Kinds of records.
const (
	kindFrame = 1
	kindBegin = 2 // of an epoch
	kindEnd   = 3 // of an epoch
	kindVoid  = 4 // mirror records that the replica never applied
)

// headSize is the length of a record's head, little endian:
//
//	offset size field
//	0      4    "UHL1"
//	4      1    kind
//	5      3    0
//	8      4    bytes of the body
//	12     4    CRC32C of the body
//	16     8    index of the frame in the target's queue; 0 for mirror frames
//	24     8    when it was appended, nanoseconds since 1970, by the target's clock
//	32     4    CRC32C of the bytes 0 to 31
const headSize = 36

var headMagic = [4]byte{'U', 'H', 'L', '1'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxBody is the largest body of a record.
const maxBody = fileop.MaxFrame + fileop.MaxData

// head is a decoded record head.
type head struct {
	kind  byte
	size  int
	sum   uint32
	index uint64
	at    int64
}

func (h *head) append(b []byte) []byte {
	start := len(b)
	b = append(b, headMagic[:]...)
	b = append(b, h.kind, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.size))
	b = binary.LittleEndian.AppendUint32(b, h.sum)
	b = binary.LittleEndian.AppendUint64(b, h.index)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.at))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseHead(b []byte) (h head, err error) {
	if len(b) < headSize || [4]byte(b[:4]) != headMagic || crc32.Checksum(b[:headSize-4], castagnoli) != binary.LittleEndian.Uint32(b[headSize-4:]) {
		return h, fmt.Errorf("%w: no record", ErrDamaged)
	}
	h = head{kind: b[4], size: int(binary.LittleEndian.Uint32(b[8:])), sum: binary.LittleEndian.Uint32(b[12:]),
		index: binary.LittleEndian.Uint64(b[16:]), at: int64(binary.LittleEndian.Uint64(b[24:]))}
	if h.kind < kindFrame || h.kind > kindVoid || h.size > maxBody || [3]byte(b[5:8]) != [3]byte{} {
		return h, fmt.Errorf("%w: record of kind %d, %d bytes", ErrDamaged, h.kind, h.size)
	}
	return h, nil
}

// End is what a replica had applied when its epoch ended.
type End struct {
	Epoch   fileop.Epoch
	Applied fileop.Seq
	Mirror  fileop.Seq
}

func (e End) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(e.Epoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Applied))
	return binary.LittleEndian.AppendUint64(b, uint64(e.Mirror))
}

func parseEnd(b []byte) (e End, err error) {
	if len(b) != 24 {
		return e, fmt.Errorf("%w: end of an epoch of %d bytes", ErrDamaged, len(b))
	}
	return End{fileop.Epoch(binary.LittleEndian.Uint64(b)), fileop.Seq(binary.LittleEndian.Uint64(b[8:])), fileop.Seq(binary.LittleEndian.Uint64(b[16:]))}, nil
}
