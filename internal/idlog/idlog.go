// Package idlog keeps sets of objects in small files that only grow: which files may have
// changed since some moment. A file is a header and batches of identities, each with a
// checksum. Reading stops at the first batch that is not whole: an append that a power
// cut interrupted was not synced, so nothing relied on it.
package idlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"understudy/fileop"
	"understudy/internal/atomicfile"
)

// ErrDamaged: the file is no log, or its header is not whole.
var ErrDamaged = errors.New("damaged list of objects")

// Head is what the writer says about the whole file; the meaning is the writer's.
type Head [4]uint64

// Batch is what one Append wrote. Marks are the writer's; All says that the set is not
// known, so that every object must be taken for a member.
type Batch struct {
	Marks [2]uint64
	All   bool
	IDs   []fileop.ObjID
}

const (
	magic     = 0x31474f4c44495355 // "USIDLOG1"
	headSize  = 8 + 4*8 + 4
	batchHead = 4 + 4 + 1 + 2*8 // length of the rest, checksum of the rest, flags, marks
	idSize    = 16
	// maxBatch bounds the identities of one batch; Append makes several of more.
	maxBatch = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// File is an open log. One goroutine uses it; Close may come from another.
type File struct{ f *os.File }

// Create makes a log that holds first, durable with its name before it returns. A file
// of that name is replaced.
func Create(path string, head Head, first Batch) (*File, error) {
	b := binary.LittleEndian.AppendUint64(nil, magic)
	for _, v := range head {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if err := atomicfile.Write(path, appendBatch(b, first), 0o600); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("open list of objects: %w", err)
	}
	return &File{f}, nil
}

// Append adds a batch; Sync makes it durable.
func (f *File) Append(b Batch) error {
	if _, err := f.f.Write(appendBatch(nil, b)); err != nil {
		return fmt.Errorf("append to list of objects: %w", err)
	}
	return nil
}

// Sync makes everything appended durable.
func (f *File) Sync() error {
	if err := f.f.Sync(); err != nil {
		return fmt.Errorf("sync list of objects: %w", err)
	}
	return nil
}

// Close the file. It does not sync.
func (f *File) Close() error { return f.f.Close() }

func appendBatch(out []byte, b Batch) []byte {
	for {
		n := min(len(b.IDs), maxBatch)
		start := len(out)
		out = append(out, make([]byte, 8)...)
		flags := byte(0)
		if b.All {
			flags = 1
		}
		out = append(out, flags)
		out = binary.LittleEndian.AppendUint64(out, b.Marks[0])
		out = binary.LittleEndian.AppendUint64(out, b.Marks[1])
		for _, id := range b.IDs[:n] {
			out = binary.LittleEndian.AppendUint64(out, id.Ino)
			out = binary.LittleEndian.AppendUint64(out, id.Gen)
		}
		body := out[start+8:]
		binary.LittleEndian.PutUint32(out[start:], uint32(len(body)))
		binary.LittleEndian.PutUint32(out[start+4:], crc32.Checksum(body, castagnoli))
		if b.IDs = b.IDs[n:]; len(b.IDs) == 0 {
			return out
		}
	}
}

// Read reads a log. What follows the last whole batch is left out.
func Read(path string) (Head, []Batch, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Head{}, nil, fmt.Errorf("read list of objects: %w", err)
	}
	h, out, err := parse(raw)
	if err != nil {
		return h, nil, fmt.Errorf("read list of objects %s: %w", filepath.Base(path), err)
	}
	return h, out, nil
}

func parse(raw []byte) (h Head, out []Batch, err error) {
	if len(raw) < headSize || binary.LittleEndian.Uint64(raw) != magic ||
		binary.LittleEndian.Uint32(raw[headSize-4:]) != crc32.Checksum(raw[:headSize-4], castagnoli) {
		return h, nil, ErrDamaged
	}
	for i := range h {
		h[i] = binary.LittleEndian.Uint64(raw[8+8*i:])
	}
	for raw = raw[headSize:]; len(raw) >= batchHead; {
		n := int(binary.LittleEndian.Uint32(raw))
		if n < batchHead-8 || n > len(raw)-8 || (n-(batchHead-8))%idSize != 0 {
			break
		}
		body := raw[8 : 8+n]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(raw[4:]) {
			break
		}
		b := Batch{All: body[0]&1 != 0, Marks: [2]uint64{binary.LittleEndian.Uint64(body[1:]), binary.LittleEndian.Uint64(body[9:])}}
		for ids := body[17:]; len(ids) > 0; ids = ids[idSize:] {
			b.IDs = append(b.IDs, fileop.ObjID{Ino: binary.LittleEndian.Uint64(ids), Gen: binary.LittleEndian.Uint64(ids[8:])})
		}
		out, raw = append(out, b), raw[8+n:]
	}
	return h, out, nil
}
