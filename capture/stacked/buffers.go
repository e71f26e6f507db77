package stacked

import (
	"sync"

	"golang.org/x/sys/unix"
)

// maxFreeBuffers bounds the buffers kept for later.
const maxFreeBuffers = 32

// buffers are for reading requests. Their pages are there from the beginning and stay:
// if the process is killed while the kernel copies a request to a page that is not, the
// kernel gives the request up and the application gets EIO (fuse_dev_do_read), instead
// of sending it again to the next process. Seen once in 500 kills with memory of the Go
// heap.
type buffers struct {
	mu   sync.Mutex
	free [][]byte // guarded by mu
}

func (b *buffers) get() ([]byte, error) {
	b.mu.Lock()
	if n := len(b.free); n > 0 {
		buf := b.free[n-1]
		b.free = b.free[:n-1]
		b.mu.Unlock()
		return buf, nil
	}
	b.mu.Unlock()
	return unix.Mmap(-1, 0, requestBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
}

func (b *buffers) put(buf []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) < maxFreeBuffers {
		b.free = append(b.free, buf)
		return
	}
	unix.Munmap(buf)
}

// drop gives back those that are free.
func (b *buffers) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, buf := range b.free {
		unix.Munmap(buf)
	}
	b.free = nil
}
