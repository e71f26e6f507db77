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

// roots are the root directories of rules. A captured directory is known to be one.
func (n *Node) roots(rules *repset.Rules) []string {
	n.mu.Lock()
	captured := make(map[string]bool, len(n.captures))
	for dir := range n.captures {
		captured[dir] = true
	}
	n.mu.Unlock()
	return rules.RootsFunc(func(path string) bool {
		if captured[path] {
			return false
		}
		st, err := os.Lstat(path)
		return err == nil && !st.IsDir()
	})
}
