package node

import (
	"context"
	"errors"
	"sync/atomic"

	"understudy/control"
	"understudy/event"
)

// LOAD and UNLOAD: what a machine is. The settings LoadSource and LoadTarget say it for
// the start of the daemon; a change by hand lasts until it ends. A machine that is no
// source captures and sends nothing; its connections wait, and begin with a mirror when it
// is one again. A machine that is no target takes no new source and applies nothing; what
// arrives from those it has waits in its queue.

// modules says what this machine is not.
type modules struct {
	noSource, noTarget atomic.Bool
}

// errUnloaded ends sessions of a machine that is no source any more.
var errUnloaded = errors.New("source unloaded")

// loadModule is the verb.
func (n *Node) loadModule(ctx context.Context, r control.ModuleRequest) (any, error) {
	switch r.Module {
	case "source":
		return nothing{}, n.loadSource(ctx, r.Load)
	case "target":
		return nothing{}, n.loadTarget(ctx, r.Load)
	}
	return nil, control.Errorf(control.BadRequest, "source or target", "module %.20q", r.Module)
}

func (n *Node) loadSource(ctx context.Context, load bool) error {
	if n.modules.noSource.Swap(!load) == !load {
		return nil
	}
	n.raiseModule(load, event.SourceStarted, event.SourceStopped)
	n.mu.Lock()
	var conns []*Connection
	for _, c := range n.conns {
		conns = append(conns, c)
	}
	n.mu.Unlock()
	for _, c := range conns {
		if load {
			c.unpark(parkModule, nil)
		} else if s := c.current(); s != nil {
			s.cancel(errUnloaded)
		}
	}
	for _, c := range conns {
		if err := c.await(ctx, func() bool { return load || c.current() == nil }); err != nil && !errors.Is(err, errDisconnected) {
			return err
		}
	}
	return nil
}

func (n *Node) loadTarget(ctx context.Context, load bool) error {
	if n.modules.noTarget.Swap(!load) == !load {
		return nil
	}
	n.raiseModule(load, event.TargetStarted, event.TargetStopped)
	list, _ := n.replicasFrom("")
	var errs []error
	for _, r := range list {
		switch {
		case !load:
			errs = append(errs, r.pause(ctx))
		case !n.pausedNow(r.info.Source): // else somebody paused it
			r.resume()
		}
	}
	return errors.Join(errs...)
}

func (n *Node) raiseModule(load bool, started, stopped event.ID) {
	id := stopped
	if load {
		id = started
	}
	n.events.Raise(id, event.About{})
}

// sourceLoaded refuses what only a source can do.
func (n *Node) sourceLoaded() error {
	if n.modules.noSource.Load() {
		return control.Errorf(control.NoSource, "load source "+n.cfg.Name, "%s is no source now", n.cfg.Name)
	}
	return nil
}

// targetLoaded refuses what only a target can do.
func (n *Node) targetLoaded() error {
	if n.modules.noTarget.Load() {
		return control.Errorf(control.NoTarget, "load target "+n.cfg.Name, "%s is no target now", n.cfg.Name)
	}
	return nil
}
