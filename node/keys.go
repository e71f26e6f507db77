package node

import (
	"context"
	"errors"
	"time"

	"understudy/control"
	"understudy/internal/access"
)

// Keys of scripts.

func (n *Node) listKeys(context.Context, nothing) (any, error) {
	out := control.KeyList{Keys: []control.KeyInfo{}}
	for _, s := range n.keys.Scripts() {
		out.Keys = append(out.Keys, control.KeyInfo{Name: s.Name, Level: s.Level, Made: s.Made.Format(time.RFC3339)})
	}
	return out, nil
}

func (n *Node) addKey(_ context.Context, r control.KeyRequest) (any, error) {
	level, ok := access.ParseLevel(r.Level)
	if !ok {
		return nil, control.Errorf(control.BadRequest, "monitor or admin", "level %.20q", r.Level)
	}
	file, err := n.keys.AddScript(r.Name, level, n.reachable())
	switch {
	case errors.Is(err, access.ErrExists), errors.Is(err, access.ErrFull):
		return nil, control.Errorf(control.Exists, "remove it first, or choose another name", "%v", err)
	case err != nil:
		return nil, control.Errorf(control.BadRequest, "", "%v", err)
	}
	n.log.Info("key made", "key", r.Name, "level", r.Level)
	return control.KeyReply{File: file}, nil
}

func (n *Node) removeKey(_ context.Context, r control.NameRequest) (any, error) {
	if err := n.keys.RemoveScript(r.Name); errors.Is(err, access.ErrUnknown) {
		return nil, control.Errorf(control.NotFound, "see: understudy key list", "%v", err)
	} else if err != nil {
		return nil, err
	}
	n.srv.Drop(func(c access.Caller) bool { return c.Kind == access.Script && c.Name == r.Name })
	n.log.Info("key removed", "key", r.Name)
	return nothing{}, nil
}
