package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/repset"
)

// A daemon must not use its own mounts: a thread that waits for an answer of its own
// process cannot be killed, and holds the mount and everybody who uses it.

// beneath says by which paths this process reads the roots: those below a stacked mount
// through the descriptor from before the mount. done ends the use of the paths; it may
// be called when there was an error.
func (n *Node) beneath(roots []string) (places []repset.Place, done func(), err error) {
	var fds []int
	done = func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	for _, root := range roots {
		n.mu.Lock()
		c := n.findStacked(root)
		n.mu.Unlock()
		if c == nil {
			places = append(places, repset.Place{Root: root, At: root})
			continue
		}
		fd, err := c.stacked.Tree().Dup()
		if err != nil {
			return nil, done, fmt.Errorf("read %s beneath its mount: %w", root, err)
		}
		fds = append(fds, fd)
		at := filepath.Join(fmt.Sprintf("/proc/self/fd/%d", fd), strings.TrimPrefix(root, c.dir))
		places = append(places, repset.Place{Root: root, At: at})
	}
	return places, done, nil
}

// mounted reports whether dir is captured by a stacked mount over it. n.mu is held.
func (n *Node) mounted(dir string) bool {
	c := n.captures[dir]
	return c != nil && c.stacked != nil && !c.lost
}

// realRoot is realDir, but does not look through our own mount: what is mounted over was
// checked then.
func realRoot(dir string, mounted bool) error {
	if mounted {
		return nil
	}
	return realDir(dir)
}

// roots are the root directories of rules. What is mounted over is known to be one.
func (n *Node) roots(rules *repset.Rules) []string {
	return rules.RootsFunc(func(path string) bool {
		n.mu.Lock()
		mounted := n.mounted(path)
		n.mu.Unlock()
		if mounted {
			return false
		}
		st, err := os.Lstat(path)
		return err == nil && !st.IsDir()
	})
}
