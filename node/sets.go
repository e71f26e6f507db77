package node

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"

	"understudy/control"
	"understudy/repset"
)

// Replication sets as stored objects of this machine (B5.42 to B5.51). Names keep
// their case and are compared without it.

// maxSets bounds the stored sets: the state file is written whole at every change.
const maxSets = 1000

// findSet is the place of a set in the sorted list, or where it would stand.
func findSet(sets []repset.Set, name string) (int, bool) {
	return slices.BinarySearchFunc(sets, name, func(s repset.Set, name string) int {
		return strings.Compare(strings.ToLower(s.Name), strings.ToLower(name))
	})
}

// connectedSet reports whether a connection uses the set.
func (n *Node) connectedSet(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if strings.EqualFold(c.cfg.Set, name) {
			return true
		}
	}
	return false
}

func (n *Node) listSets(context.Context, nothing) (any, error) {
	var sets []repset.Set
	n.state.read(func(d *stateData) { sets = slices.Clone(d.Sets) })
	out := control.RepsetList{Sets: []control.Repset{}}
	for _, s := range sets {
		out.Sets = append(out.Sets, control.Repset{Set: s, Connected: n.connectedSet(s.Name)})
	}
	return out, nil
}

// storedSet finds a set by name.
func (n *Node) storedSet(name string) (repset.Set, error) {
	var set repset.Set
	var ok bool
	n.state.read(func(d *stateData) {
		var i int
		if i, ok = findSet(d.Sets, name); ok {
			set = d.Sets[i]
			set.Rules = slices.Clone(set.Rules)
		}
	})
	if !ok {
		return set, control.Errorf(control.NotFound, "see: repset list", "no replication set %q on %s", name, n.cfg.Name)
	}
	return set, nil
}

func (n *Node) getSet(_ context.Context, r control.NameRequest) (any, error) {
	set, err := n.storedSet(r.Name)
	return control.Repset{Set: set, Connected: n.connectedSet(set.Name)}, err
}

// saveSet stores an edited set as the next generation. An edit that began from another
// generation than the stored one is refused (B5.50).
func (n *Node) saveSet(_ context.Context, edited repset.Set) (any, error) {
	var saved repset.Set
	var refused error
	err := n.state.update(func(d *stateData) {
		i, ok := findSet(d.Sets, edited.Name)
		old := repset.Set{Name: edited.Name}
		if ok {
			old, edited.Name = d.Sets[i], d.Sets[i].Name
		} else if len(d.Sets) >= maxSets {
			refused = control.Errorf(control.Refused, "delete one that is not needed", "%d replication sets are stored", len(d.Sets))
			return
		}
		if saved, refused = old.Save(edited); refused != nil {
			return
		}
		if !ok {
			d.Sets = slices.Insert(d.Sets, i, saved)
			return
		}
		d.Sets[i] = saved
	})
	switch {
	case errors.Is(refused, repset.ErrChanged):
		return nil, control.Errorf(control.Refused, "load it again with repset resync, then repeat the change", "%v", refused)
	case errors.Is(refused, repset.ErrNoRules):
		return nil, control.Errorf(control.BadRequest, "add an include rule", "%v", refused)
	case refused != nil:
		var ce *control.Error
		if errors.As(refused, &ce) {
			return nil, ce
		}
		return nil, control.Errorf(control.BadRequest, "", "%v", refused)
	}
	if err != nil {
		return nil, err
	}
	notes := n.setChanged(saved)
	return control.SavedRepset{Repset: control.Repset{Set: saved, Connected: n.connectedSet(saved.Name)}, Notes: notes}, nil
}

// deleteSet deletes a set that is not connected (B5.49).
func (n *Node) deleteSet(_ context.Context, r control.NameRequest) (any, error) {
	if _, err := n.storedSet(r.Name); err != nil {
		return nil, err
	}
	if n.connectedSet(r.Name) {
		return nil, control.Errorf(control.Refused, "disconnect it first", "replication set %s is connected", r.Name)
	}
	return nothing{}, n.state.update(func(d *stateData) {
		if i, ok := findSet(d.Sets, r.Name); ok {
			d.Sets = slices.Delete(d.Sets, i, i+1)
		}
	})
}

// fromStored completes a connect request: rules of the stored set, name and address of
// the target.
func (n *Node) fromStored(ctx context.Context, req *control.ConnectRequest) error {
	if len(req.Rules) == 0 {
		set, err := n.storedSet(req.Set)
		if err != nil {
			return err
		}
		req.Set = set.Name
		for _, r := range set.Rules {
			req.Rules = append(req.Rules, r.String())
		}
	}
	if req.Address != "" || req.Target == "" {
		return nil
	}
	m, err := n.findMachine(ctx, req.Target)
	if err != nil {
		return err
	}
	req.Target, req.Address = m.Name, m.Address
	return nil
}

func sortMachines(list []control.Machine) {
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
}
