package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"understudy/control"
)

// PAUSETARGET and RESUMETARGET: applying stops after the operation in progress, for one
// source or all, while what arrives waits in the target's queue (B10.50 to B10.56). A
// pause holds until it is resumed: over restarts of this daemon, and over new sessions of
// the source, whose mirror waits too.

// pausedTargets are the sources whose operations are not applied.
type pausedTargets struct {
	All     bool     `json:"all,omitempty"`
	Sources []string `json:"sources,omitempty"`
}

// maxPaused bounds the list; more sources than that are paused all together.
const maxPaused = 1000

func (p pausedTargets) holds(source string) bool {
	return p.All || slices.ContainsFunc(p.Sources, func(s string) bool { return strings.EqualFold(s, source) })
}

// change is the state after a pause or a resume; present are the sources there are.
func (p pausedTargets) change(source string, pause bool, present []string) pausedTargets {
	switch {
	case source == "":
		return pausedTargets{All: pause}
	case pause && p.holds(source):
		return p
	case pause:
		p.Sources = append(slices.Clone(p.Sources), source)
		return p
	case p.All: // the others stay paused
		p = pausedTargets{Sources: slices.Clone(present)}
	}
	p.Sources = slices.DeleteFunc(slices.Clone(p.Sources), func(s string) bool { return strings.EqualFold(s, source) })
	return p
}

// pausedNow reports whether a source's operations are not to be applied.
func (n *Node) pausedNow(source string) (paused bool) {
	n.state.read(func(d *stateData) { paused = d.Paused.holds(source) })
	return paused || n.modules.noTarget.Load()
}

// pauseTarget pauses or resumes applying for a source, or for all (""). A pause returns
// when the operations in progress are done; if ctx ends first it is pending, and comes.
func (n *Node) pauseTarget(ctx context.Context, source string, pause bool) error {
	if err := n.targetLoaded(); err != nil && !pause {
		return err
	}
	list, present := n.replicasFrom(source)
	if len(list) == 0 && (pause && source != "" || !pause && !n.anyHeld(source)) {
		return control.Errorf(control.NotFound, "see: status target", "nothing is received from %q", source)
	}
	full := false
	err := n.state.update(func(d *stateData) {
		next := d.Paused.change(source, pause, present)
		if full = len(next.Sources) > maxPaused; !full {
			d.Paused = next
		}
	})
	if full {
		return control.Errorf(control.Refused, "pause all of them", "%d sources are paused one by one", maxPaused)
	}
	if err != nil {
		return err
	}
	list, _ = n.replicasFrom(source) // one that came meanwhile may not have seen the change
	if !pause {
		for _, r := range list {
			r.resume()
		}
		return nil
	}
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, r := range list {
		wg.Go(func() { errs[i] = r.pause(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// anyHeld reports whether a source, or with "" any, is paused.
func (n *Node) anyHeld(source string) (held bool) {
	n.state.read(func(d *stateData) {
		held = d.Paused.holds(source) || source == "" && len(d.Paused.Sources) > 0
	})
	return held
}

// replicasFrom are the replicas of a source, or all (""), and the sources there are.
func (n *Node) replicasFrom(source string) (list []*replica, present []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.replicas {
		if source == "" || strings.EqualFold(r.info.Source, source) {
			list = append(list, r)
		}
		if !slices.Contains(present, r.info.Source) {
			present = append(present, r.info.Source)
		}
	}
	return list, present
}

// pause stops applying after the operation in progress and waits for that.
func (r *replica) pause(ctx context.Context) error {
	r.setPaused(true)
	if err := r.app.Pause(ctx); err != nil {
		return control.Errorf(control.NotReady, "it is Paused when status target says so",
			"the target is Pause Pending: an operation from %s is still in progress: %v", r.info.Source, fmt.Errorf("pause: %w", err))
	}
	r.poke()
	return nil
}

func (r *replica) resume() {
	r.app.Resume()
	r.setPaused(false)
}

func (r *replica) setPaused(paused bool) {
	r.mu.Lock()
	r.paused = paused
	r.mu.Unlock()
	r.pausedEvent(paused)
	r.poke()
}

// pausedWord is the operator's word for a paused replica (B10.52).
func (r *replica) pausedWord() string {
	if r.app.AtRest() {
		return "Paused"
	}
	return "Pause Pending"
}
