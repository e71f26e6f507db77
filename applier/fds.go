package applier

import (
	"container/list"

	"golang.org/x/sys/unix"
)

// Bounds of the descriptors kept open.
const (
	maxDirFDs  = 256
	maxFileFDs = 128
)

// fdCache keeps recently used descriptors open by object. Only trim and clear close
// descriptors, so those handed out stay good during one operation.
type fdCache struct {
	max   int
	byKey map[key]*list.Element
	order *list.List // most recently used first; of *fdEntry
	dead  []int      // dropped, to be closed by the next trim
}

type fdEntry struct {
	key
	fd int
}

func newFDCache(limit int) *fdCache {
	return &fdCache{max: limit, byKey: map[key]*list.Element{}, order: list.New()}
}

func (c *fdCache) get(k key) (int, bool) {
	e := c.byKey[k]
	if e == nil {
		return -1, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*fdEntry).fd, true
}

func (c *fdCache) put(k key, fd int) {
	c.drop(k)
	c.byKey[k] = c.order.PushFront(&fdEntry{k, fd})
}

func (c *fdCache) drop(k key) {
	if e := c.byKey[k]; e != nil {
		c.remove(e)
	}
}

func (c *fdCache) remove(e *list.Element) {
	ent := e.Value.(*fdEntry)
	c.dead = append(c.dead, ent.fd)
	delete(c.byKey, ent.key)
	c.order.Remove(e)
}

// trim closes what was dropped and the least recently used beyond the bound.
func (c *fdCache) trim() {
	for c.order.Len() > c.max {
		c.remove(c.order.Back())
	}
	for _, fd := range c.dead {
		unix.Close(fd)
	}
	c.dead = c.dead[:0]
}

func (c *fdCache) clear() {
	for c.order.Len() > 0 {
		c.remove(c.order.Back())
	}
	c.trim()
}
