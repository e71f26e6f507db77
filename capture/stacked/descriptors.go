package stacked

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"understudy/internal/fsx"
)

// descriptors keeps O_PATH descriptors of nodes, the most recently used ones. A node
// without one is opened by its handle when it is needed. Pinned descriptors stay and
// do not count: those of objects without a name, and of file systems without handles.
type descriptors struct {
	low *lowerDir
	max int

	mu   sync.Mutex
	open int  // unpinned descriptors; guarded by mu, as the fields of nodes that say so
	idle node // ring of nodes whose descriptor nobody uses: next is the latest, prev the oldest
}

func newDescriptors(low *lowerDir, limit int) *descriptors {
	d := &descriptors{low: low, max: limit}
	d.idle.next, d.idle.prev = &d.idle, &d.idle
	return d
}

// hold returns a descriptor of n that stays open until release.
func (d *descriptors) hold(n *node) (int, error) {
	d.mu.Lock()
	if n.fd >= 0 {
		d.use(n)
		d.mu.Unlock()
		return n.fd, nil
	}
	d.mu.Unlock()
	if len(n.handle.Bytes) == 0 {
		return -1, unix.ESTALE
	}
	fd, err := d.retry(func() (int, error) { return d.low.open(n.handle, unix.O_PATH|unix.O_NOFOLLOW) })
	if err != nil {
		return -1, err
	}
	return d.give(n, fd), nil
}

// release ends a hold.
func (d *descriptors) release(n *node) {
	d.mu.Lock()
	n.users--
	var drop []int
	switch {
	case n.users > 0 || n.pinned && !n.gone:
	case n.gone:
		drop = append(drop, n.fd)
		d.take(n)
	default:
		d.linkIdle(n)
		drop = d.evict(d.max)
	}
	d.mu.Unlock()
	closeAll(drop)
}

// give makes fd the descriptor of n, or closes it if n has one, and holds it.
func (d *descriptors) give(n *node, fd int) int {
	d.mu.Lock()
	var drop []int
	if n.fd < 0 {
		n.fd = fd
		if n.pinned = len(n.handle.Bytes) == 0; !n.pinned {
			d.open++
		}
		n.users++
		drop = d.evict(d.max)
	} else {
		drop = append(drop, fd)
		d.use(n)
	}
	fd = n.fd
	d.mu.Unlock()
	closeAll(drop)
	return fd
}

// pin keeps the descriptor of n, which the caller holds, until the kernel forgets n.
func (d *descriptors) pin(n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !n.pinned {
		n.pinned = true
		d.open--
	}
}

// unpin lets go of a descriptor, which the caller holds, if there is a handle.
func (d *descriptors) unpin(n *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n.pinned && len(n.handle.Bytes) > 0 {
		n.pinned = false
		d.open++
	}
}

// forget closes the descriptor of n now or at the last release.
func (d *descriptors) forget(n *node) {
	d.mu.Lock()
	n.gone = true
	fd := -1
	if n.fd >= 0 && n.users == 0 {
		fd = n.fd
		d.unlinkIdle(n)
		d.take(n)
	}
	d.mu.Unlock()
	if fd >= 0 {
		unix.Close(fd)
	}
}

// retry repeats a call that found no free descriptor once the idle ones are closed.
func (d *descriptors) retry(call func() (int, error)) (int, error) {
	fd, err := noEINTR(call)
	if !errors.Is(err, unix.EMFILE) && !errors.Is(err, unix.ENFILE) {
		return fd, err
	}
	d.mu.Lock()
	drop := d.evict(0)
	d.mu.Unlock()
	closeAll(drop)
	return noEINTR(call)
}

// counts are the descriptors kept: all unpinned ones, and the idle among them.
func (d *descriptors) counts() (open, idle int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := d.idle.next; n != &d.idle; n = n.next {
		idle++
	}
	return d.open, idle
}

// use, take, evict, linkIdle and unlinkIdle are called under mu.

func (d *descriptors) use(n *node) {
	d.unlinkIdle(n)
	n.users++
}

func (d *descriptors) take(n *node) {
	n.fd = -1
	if !n.pinned {
		d.open--
	}
}

// evict takes the oldest idle descriptors until at most limit are open.
func (d *descriptors) evict(limit int) (drop []int) {
	for d.open > limit && d.idle.prev != &d.idle {
		n := d.idle.prev
		d.unlinkIdle(n)
		drop = append(drop, n.fd)
		d.take(n)
	}
	return drop
}

func (d *descriptors) linkIdle(n *node) {
	n.prev, n.next = &d.idle, d.idle.next
	n.prev.next, n.next.prev = n, n
}

func (d *descriptors) unlinkIdle(n *node) {
	if n.next == nil {
		return
	}
	n.prev.next, n.next.prev = n.next, n.prev
	n.prev, n.next = nil, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// noEINTR repeats a call interrupted by a signal; the Go runtime sends itself some.
func noEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// reopen opens what an O_PATH descriptor holds.
func (d *descriptors) reopen(fd, flags int) (int, error) {
	name := fsx.ProcPath(fd)
	return d.retry(func() (int, error) { return unix.Open(name, flags|unix.O_CLOEXEC, 0) })
}
