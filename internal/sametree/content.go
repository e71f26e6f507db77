package sametree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// readWhole is the size up to which a file is read from begin to end. Larger ones are
// read only where SEEK_DATA finds data.
const readWhole = 4 << 30

// content reads a regular file into n.
func (s *reader) content(dirfd int, name string, n *Node) error {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if n.Extents, n.ExtentsKnown, err = extents(fd, n.Size); err != nil {
		return fmt.Errorf("find holes: %w", err)
	}
	ranges := []Range{{0, n.Size}}
	if n.Size > readWhole && n.ExtentsKnown {
		ranges = n.Extents
	}
	n.Blocks = map[int64]Sum{}
	for _, r := range ranges {
		if err := s.blocks(fd, r, n); err != nil {
			return err
		}
	}
	return nil
}

// blocks digests a range that begins at a block.
func (s *reader) blocks(fd int, r Range, n *Node) error {
	for off := r.Start; off < r.End; {
		want := int(min(int64(len(s.buf)), r.End-off))
		got := 0
		for got < want {
			k, err := unix.Pread(fd, s.buf[got:want], off+int64(got))
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("read at byte %d: %w", off+int64(got), err)
			}
			if err == nil && k == 0 {
				break
			}
			got += max(k, 0)
		}
		if got < want && off+int64(got) < n.Size {
			return fmt.Errorf("ends at byte %d, but its size is %d", off+int64(got), n.Size)
		}
		for i := 0; i < got; i += BlockSize {
			if sum, zero := BlockSum(s.buf[i:min(i+BlockSize, got)]); !zero {
				n.Blocks[(off+int64(i))/BlockSize] = sum
			}
		}
		off += int64(want)
	}
	return nil
}

// BlockSum digests a block of at most BlockSize bytes as if filled up with zeros. zero
// says that there is nothing but zeros; such blocks are not in Node.Blocks.
func BlockSum(b []byte) (sum Sum, zero bool) {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return Sum{}, true
	}
	h := sha256.Sum256(b)
	return Sum(h[:16]), false
}

// extents lists where data is allocated, widened to whole blocks.
func extents(fd int, size int64) ([]Range, bool, error) {
	var out []Range
	for off := int64(0); off < size; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return out, true, nil
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, false, err
		}
		out = addExtent(out, Range{start / BlockSize * BlockSize, (end + BlockSize - 1) / BlockSize * BlockSize})
		off = max(end, off+1)
	}
	return out, true, nil
}

func addExtent(list []Range, r Range) []Range {
	if last := len(list) - 1; last >= 0 && list[last].End >= r.Start {
		list[last].End = max(list[last].End, r.End)
		return list
	}
	return append(list, r)
}
