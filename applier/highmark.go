package applier

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// highMark is a page shared with the kernel that holds the number of the operation
// being executed. It survives a killed process (not a power cut, for which the boot
// identity is compared) at the price of two stores per operation.
type highMark struct{ page []byte }

const highMarkSize = 4096

func openHighMark(path string) (*highMark, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open mark of the operation under way: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(highMarkSize); err != nil {
		return nil, fmt.Errorf("open mark of the operation under way: %w", err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, highMarkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	// A hole would be filled at the first store, which kills the process if the disk is full.
	if _, err := f.WriteAt(page[:16], 0); err != nil {
		unix.Munmap(page)
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return &highMark{page}, nil
}

func (h *highMark) set(e fileop.Epoch, s fileop.Seq) {
	binary.NativeEndian.PutUint64(h.page, uint64(e))
	binary.NativeEndian.PutUint64(h.page[8:], uint64(s))
}

// get is the last operation begun in epoch e, 0 if none is known.
func (h *highMark) get(e fileop.Epoch) fileop.Seq {
	if binary.NativeEndian.Uint64(h.page) != uint64(e) {
		return 0
	}
	return fileop.Seq(binary.NativeEndian.Uint64(h.page[8:]))
}

func (h *highMark) close() { unix.Munmap(h.page) }
