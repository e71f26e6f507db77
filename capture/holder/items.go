package holder

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Keep holds files and meta under name, instead of what was there. The files stay the
// caller's. It returns once the holder has them; if the holder is gone it returns an
// error, and the next holder gets them all the same.
func (c *Client) Keep(name string, meta []byte, files ...*os.File) error {
	fds, err := filesOf(files)
	if err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.remember(name, meta, fds); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	if _, err := c.call(message{Verb: verbKeep, Name: name, Meta: meta}, fds); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

// Hand is Keep of one descriptor without waiting for the holder: when it returns, fd is
// in the holder's socket, where a kill of this process does not reach it. fd stays the
// caller's. If the holder is gone it returns an error, and the next one gets it.
func (c *Client) Hand(name string, fd int) error {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		unix.Close(d)
		return os.ErrClosed
	}
	if err := c.remember(name, nil, []int{d}); err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	if err := send(c.conn, message{Verb: verbHand, Name: name}, []int{d}); err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	return nil
}

// remember keeps duplicates for a later holder. Under mu.
func (c *Client) remember(name string, meta []byte, fds []int) error {
	_, known := c.kept[name]
	if len(name) == 0 || len(name) > maxName || len(meta) > MaxMeta || len(fds) > maxFiles || !known && len(c.kept) >= maxItems {
		closeAll(fds)
		return ErrTooMuch
	}
	c.forget(name)
	c.kept[name] = own{append([]byte(nil), meta...), fds}
	return nil
}

// Take gives duplicates of what is held under name; the holder keeps its own. The error
// is ErrNotHeld if there is nothing.
func (c *Client) Take(name string) (meta []byte, files []*os.File, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := c.call(message{Verb: verbTake, Name: name}, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("take %s: %w", name, err)
	}
	if err := c.remember(name, a.m.Meta, a.fds); err != nil {
		return nil, nil, fmt.Errorf("take %s: %w", name, err)
	}
	if files, err = duplicate(a.fds, name); err != nil {
		return nil, nil, fmt.Errorf("take %s: %w", name, err)
	}
	return a.m.Meta, files, nil
}

// Names lists what is held, in order.
func (c *Client) Names() (names []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for after := ""; ; after = names[len(names)-1] {
		a, err := c.call(message{Verb: verbNames, Name: after}, nil)
		if err != nil {
			return nil, fmt.Errorf("list what is held: %w", err)
		}
		names = append(names, a.m.Names...)
		if !a.m.More || len(a.m.Names) == 0 {
			return names, nil
		}
	}
}

// Drop forgets what is held under name; that there is nothing is no error.
func (c *Client) Drop(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(name)
	if _, err := c.call(message{Verb: verbDrop, Name: name}, nil); err != nil {
		return fmt.Errorf("drop %s: %w", name, err)
	}
	return nil
}

// Discard is Drop without waiting for the holder.
func (c *Client) Discard(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(name)
	if c.closed {
		return os.ErrClosed
	}
	return send(c.conn, message{Verb: verbDiscard, Name: name}, nil)
}
