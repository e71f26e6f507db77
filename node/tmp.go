package node

import (
	"context"

	"understudy/mirror"
)

func tmpIdle(m *mirror.Mirror) bool {
	switch m.Progress().State {
	case mirror.Mirroring, mirror.Paused, mirror.Joining:
		return false
	}
	return true
}

func tmpDirty(m *mirror.Mirror, root int, path string, deep bool) {}
func tmpHints(m *mirror.Mirror) func(context.Context) error {
	return func(ctx context.Context) error { <-ctx.Done(); return nil }
}
func (r *replica) recover(ctx context.Context) error { return nil }
