package node

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"understudy/capture"
	"understudy/capture/lower"
	"understudy/control"
	"understudy/repset"
)

// Where replicas are, whose they are, and how a restoration reads them.

// still is a directory that is read and not watched.
type still struct{ dir string }

func (s still) Root() string                { return s.dir }
func (still) Fidelity() capture.Fidelity    { return capture.Hints }
func (still) Stats() capture.Stats          { return capture.Stats{} }
func (still) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// openStill makes a directory readable for a restoration. It is the connection's own.
func (n *Node) openStill(dir string) (*captured, error) {
	if c := n.captures[dir]; c != nil && c.stacked != nil {
		return nil, control.Errorf(control.Refused, "umount "+dir, "%s is captured in write order", dir)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read replica %s: %w", dir, err)
	}
	c := &captured{dir: dir, name: "none", backend: still{dir}, tree: treeAdapter{lower.New(fd, nil)}, done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(n.ctx)
	n.wait.Add(1)
	go func() {
		defer n.wait.Done()
		defer close(c.done)
		c.err = c.backend.Run(c.ctx)
		unix.Close(fd)
	}()
	return c, nil
}

// chooseTree is how a connection reads one of its roots. n.mu is held.
func (n *Node) chooseTree(root string, c *Connection) (*captured, error) {
	if c.cfg.Restore != nil {
		return n.openStill(root)
	}
	return n.chooseCapture(root, c.cfg.Capture)
}

// keepPlace remembers where a replica is, also when its connection is gone.
func keepPlace(d *stateData, info joinInfo) {
	if info.Restore {
		return
	}
	if d.Places == nil {
		d.Places = map[string]joinInfo{}
	}
	key := placeKey(info.Source, info.Set)
	if _, known := d.Places[key]; known || len(d.Places) < maxPlaces {
		d.Places[key] = info
	}
}

func placeKey(source, set string) string { return source + "/" + strings.ToLower(set) }

// place finds the replica of a set.
func (n *Node) place(original, set string) (found joinInfo, err error) {
	var sources []string
	n.state.read(func(d *stateData) {
		for _, p := range d.Places {
			if strings.EqualFold(p.Set, set) && (original == "" || strings.EqualFold(p.Source, original)) {
				found, sources = p, append(sources, p.Source)
			}
		}
	})
	switch len(sources) {
	case 0:
		return found, control.Errorf(control.NotFound, "see: status target", "this machine holds no replica of set %q of %q", set, original)
	case 1:
		return found, nil
	}
	return found, control.Errorf(control.BadRequest, "name one with ORIGINAL", "set %q came from %s", set, strings.Join(sources, " and "))
}

// replicaRests refuses a replica that still has something to apply.
func (n *Node) replicaRests(place *joinInfo) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.replicas {
		if r.info.Source != place.Source || !strings.EqualFold(r.info.Set, place.Set) {
			continue
		}
		if st := r.status(); st.QueuedOps > 0 {
			return control.Errorf(control.Refused, "wait until they are applied", "%d operations of %s wait for the replica", st.QueuedOps, place.Source)
		}
	}
	return nil
}

// restoredRules are the rules of the set, for the places where the replica lies here.
func (n *Node) restoredRules(req *control.RestoreRequest, place *joinInfo) ([]string, error) {
	var rules []repset.Rule
	for _, s := range req.Rules {
		r, err := repset.ParseRule(s)
		if err != nil {
			return nil, control.Errorf(control.BadRequest, "", "%v", err)
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		b, err := n.backup(place.Source, place.Set)
		if err != nil {
			return nil, err
		}
		rules = b.Set.Rules
	}
	return mappedRules(rules, place.Roots), nil
}

// mappedRules moves rules to where the roots are. Rules outside of all roots say nothing
// about them.
func mappedRules(rules []repset.Rule, roots []joinRoot) (out []string) {
	for _, r := range rules {
		best := -1
		for i := range roots {
			if repset.Within(roots[i].From, r.Path) && (best < 0 || len(roots[i].From) > len(roots[best].From)) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		r.Path = roots[best].Path + strings.TrimPrefix(r.Path, roots[best].From)
		out = append(out, r.String())
	}
	return out
}
