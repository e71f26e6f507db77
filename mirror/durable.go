package mirror

import (
	"context"

	"understudy/fileop"
)

// Touch tells whoever keeps the files in flight that obj is about to change in place.
func (b *Border) Touch(obj fileop.ObjID) {
	if touch := b.m.cfg.Touch; touch != nil {
		touch(obj)
	}
}

// Durable waits until what was put before is on disk, where that is promised.
func (b *Border) Durable(ctx context.Context) {
	if durable := b.m.cfg.Durable; durable != nil {
		durable(ctx)
	}
}
