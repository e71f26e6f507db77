package applier

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"

	"golang.org/x/sys/unix"

	"understudy/fileop"
)

// highMark is a page shared with the kernel that holds the number of the operation
// being executed. It survives a killed process (not a power cut, for which the boot
// identity is compared) at the price of three stores per operation.
type highMark struct{ page []byte }

const highMarkSize = 4096

// openHighMark maps the page, making its file if needed. Whether it holds what this
// program left there, known tells: a missing or damaged page says nothing.
func openHighMark(path string) (h *highMark, known bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open mark of the operation under way: %w", err)
	}
	defer f.Close()
	if err := f.Truncate(highMarkSize); err != nil {
		return nil, false, fmt.Errorf("open mark of the operation under way: %w", err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, highMarkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, false, fmt.Errorf("map %s: %w", path, err)
	}
	// A hole would be filled at the first store, which kills the process if the disk is full.
	if _, err := f.WriteAt(bytes.Clone(page), 0); err != nil {
		unix.Munmap(page)
		return nil, false, fmt.Errorf("write %s: %w", path, err)
	}
	h = &highMark{page}
	return h, h.sound(markUnderWay) && h.sound(markCommits), nil
}

// Each mark is two numbers and their check, at an offset of the page.
const (
	markUnderWay = 0
	markCommits  = 64
)

// check is never zero for two zeros.
func check(x, y uint64) uint64 {
	return (bits.RotateLeft64(x, 17)^y)*0x9E3779B97F4A7C15 + x + 1
}

func (h *highMark) put(at int, x, y uint64) {
	binary.NativeEndian.PutUint64(h.page[at:], x)
	binary.NativeEndian.PutUint64(h.page[at+8:], y)
	binary.NativeEndian.PutUint64(h.page[at+16:], check(x, y))
}

func (h *highMark) at(at int) (x, y uint64) {
	return binary.NativeEndian.Uint64(h.page[at:]), binary.NativeEndian.Uint64(h.page[at+8:])
}

func (h *highMark) sound(at int) bool {
	x, y := h.at(at)
	return binary.NativeEndian.Uint64(h.page[at+16:]) == check(x, y)
}

func (h *highMark) set(e fileop.Epoch, s fileop.Seq) { h.put(markUnderWay, uint64(e), uint64(s)) }

// get is the last operation begun in epoch e, 0 if none is known.
func (h *highMark) get(e fileop.Epoch) fileop.Seq {
	epoch, s := h.at(markUnderWay)
	if epoch != uint64(e) {
		return 0
	}
	return fileop.Seq(s)
}

// reset begins anew, after what was there was not sound.
func (h *highMark) reset() {
	h.put(markUnderWay, 0, 0)
	h.put(markCommits, 0, 0)
}

// setCommits notes how often the catalog was written, which tells an older copy of it.
func (h *highMark) setCommits(n uint64) { h.put(markCommits, n, 0) }

func (h *highMark) commits() uint64 {
	n, _ := h.at(markCommits)
	return n
}

func (h *highMark) close() { unix.Munmap(h.page) }
