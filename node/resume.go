package node

import (
	"slices"

	"understudy/capture/stacked"
	"understudy/event"
)

// resumeCaptures adopts the mounts a daemon before this one left with the holder.
// Nothing is served yet: whoever uses them waits until serveResumed, which is called
// when those who listen are attached again. Until then nobody here may touch a path
// below them, not even to look at it: it would wait for itself. A mount that cannot be
// adopted is ended, and the directory captured anew as after a kill without a holder.
func (n *Node) resumeCaptures() {
	if n.holder == nil {
		return
	}
	dirs, err := stacked.Held(n.holder)
	if err != nil {
		n.log.Error("captures not resumed", "err", err)
	}
	for _, dir := range dirs {
		b, err := stacked.Resume(dir, n.stackedConfig(), n.log)
		if err != nil {
			n.log.Error("capture not resumed, the directory is captured anew", "dir", dir, "err", err)
			continue
		}
		n.mu.Lock()
		n.captures[dir] = &captured{dir: dir, name: "stacked", backend: b, tree: treeAdapter{b.Tree()}, stacked: b,
			resumed: true, done: make(chan struct{})}
		n.mu.Unlock()
	}
}

// serveResumed begins to serve what resumeCaptures adopted, and gives back what is no
// longer to be captured.
func (n *Node) serveResumed() {
	for _, c := range n.beginResumed() {
		select {
		case <-c.stacked.Ready():
		case <-c.done:
			continue // it says why; the directory is captured anew
		}
		if slices.Contains(n.mounts(), c.dir) {
			continue
		}
		if err := c.stop(); err != nil {
			n.log.Error("directory not given back", "dir", c.dir, "err", err)
		}
	}
}

func (n *Node) beginResumed() (all []*captured) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.captures {
		if c.resumed {
			c.resumed = false
			n.serve(c)
			n.watchBypass(c, c.stacked.Tree())
			n.events.Raise(event.DaemonResumed, event.About{Dir: c.dir}, c.dir)
			all = append(all, c)
		}
	}
	return all
}

// stackedConfig is that of all stacked captures.
func (n *Node) stackedConfig() stacked.Config {
	cfg := stacked.Config{}
	if n.holder != nil {
		cfg.Keeper = n.holder
	}
	return cfg
}

// capturing reports whether dir is captured by a stacked mount.
func (n *Node) capturing(dir string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.captures[dir]
	return c != nil && c.stacked != nil && !c.lost
}

// pauseCaptures answers what is being served and leaves everything else to the daemon
// that comes.
func (n *Node) pauseCaptures() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.captures {
		if c.stacked != nil && !c.lost {
			c.stacked.Pause()
		}
	}
}
