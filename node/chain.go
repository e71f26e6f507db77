package node

import (
	"fmt"

	"understudy/control"
	"understudy/repset"
)

// Chains: a replica on this machine may itself be protected, and sent on to another one.
// Its applier writes beneath no mount: a daemon that writes through its own mount waits
// for itself, and one that writes beneath it is not captured. So a replica is sent on as it
// is applied (forward.go) or, where that is not possible, captured by changed objects
// (fanotify), which are told of this process's writes as of any other's. A stacked mount
// and a replica exclude each other (docs/decisions/0016, 0020).

// checkReplicaMount refuses a stacked mount that overlaps a replica. n.mu is held.
func (n *Node) checkReplicaMount(dir string) error {
	for _, r := range n.replicas {
		for _, root := range r.info.Roots {
			if repset.Within(dir, root.Path) || repset.Within(root.Path, dir) {
				return control.Errorf(control.Refused, "connect it with capture fanotify: a replica that goes on to another machine needs no mount",
					"mount %s: this machine writes the replica of %s at %s", dir, r.info.owner(), root.Path)
			}
		}
	}
	return nil
}

// checkCaptured refuses to write into a directory that this machine captures in write
// order: it would write through its own mount.
func (n *Node) checkCaptured(info *joinInfo) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	hint := "choose another target path; or umount %s"
	if info.Restore {
		hint = "umount %s, and mount it when the restoration has ended"
	}
	for _, c := range n.captures {
		for _, r := range info.Roots {
			if c.stacked != nil && (repset.Within(c.dir, r.Path) || repset.Within(r.Path, c.dir)) {
				return control.Errorf(control.Refused, fmt.Sprintf(hint, c.dir), "%s is captured in write order by the mount at %s", r.Path, c.dir)
			}
		}
	}
	return nil
}
