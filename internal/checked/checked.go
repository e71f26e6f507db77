// Package checked puts a checksum behind a message, for requests and reports that no frame
// protects: a line may damage bytes that TCP's own checksum lets pass.
package checked

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Size is how many bytes Seal adds.
const Size = 4

// ErrDamaged: the bytes are not those that were sealed.
var ErrDamaged = errors.New("damaged message")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Seal returns a copy of b with its CRC32C behind it.
func Seal(b []byte) []byte {
	out := make([]byte, 0, len(b)+Size)
	return binary.LittleEndian.AppendUint32(append(out, b...), crc32.Checksum(b, castagnoli))
}

// Open returns what was sealed, a slice of b.
func Open(b []byte) ([]byte, error) {
	n := len(b) - Size
	if n < 0 || crc32.Checksum(b[:n], castagnoli) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, ErrDamaged
	}
	return b[:n:n], nil
}
