package capture

import (
	"context"

	"understudy/fileop"
)

// Toucher is a Sink that has to know of a file before its content is changed in place:
// such a change can reach the disk before the file's change time does, so that after a
// power cut nothing on the disk tells of it.
type Toucher interface {
	// Touch returns when a power cut cannot make it forgotten that obj changes, or
	// after a second at most. It is called with no lock held, before every change of
	// content within a file's present size.
	Touch(obj fileop.ObjID)
}

// Durable is a Sink that can tell when what it took survives a power cut.
type Durable interface {
	// Durable returns once every operation put before it is on disk, if the sink
	// promises that (strict mode), else at once; or when there is nothing to wait for
	// any more. It is called with no lock held, before the answer to an fsync.
	Durable(ctx context.Context)
}
