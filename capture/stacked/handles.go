package stacked

import (
	"sync"

	"golang.org/x/sys/unix"
)

// openFile is one open of a regular file.
type openFile struct {
	n  *node
	fd int // -1: not to be opened again after a restart
	at place
}

// openDir is one open of a directory.
type openDir struct {
	n  *node
	fd int
	at place

	mu   sync.Mutex // guards the rest
	buf  []byte     // entries read below and not yet given out
	rest []byte     // part of buf
	next uint64     // offset of the entry rest begins with
}

// handles are the open files and directories, by the number the kernel gives back.
type handles[T any] struct {
	mu   sync.RWMutex
	m    map[uint64]T // guarded by mu
	last uint64       // guarded by mu
}

func (h *handles[T]) add(v T) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = map[uint64]T{}
	}
	h.last++
	h.m[h.last] = v
	return h.last
}

// get is the zero value for a number that was never given or is closed.
func (h *handles[T]) get(id uint64) T {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.m[id]
}

func (h *handles[T]) remove(id uint64) (T, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.m[id]
	delete(h.m, id)
	return v, ok
}

func (h *handles[T]) all() []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]T, 0, len(h.m))
	for _, v := range h.m {
		out = append(out, v)
	}
	clear(h.m)
	return out
}

func (f *openFile) close() { unix.Close(f.fd) }
func (d *openDir) close()  { unix.Close(d.fd) }
