package stacked

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"understudy/capture"
)

// durableWait bounds how long an fsync waits for the queue in strict mode. A queue that
// is silent for 10 s is given up (stream), and then nobody waits any more.
const durableWait = 15 * time.Second

// touching tells the sinks that content of n from off on is about to change, if that is
// in place. fd is any descriptor of n. No lock is held.
func (f *fileSystem) touching(n *node, fd int, off int64) {
	if !f.sinks.tapped() {
		return
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || off >= st.Size {
		return // behind the end: the change cannot be on disk without the file's new size
	}
	for _, t := range f.sinks.taps() {
		if sink, ok := t.sink.(capture.Toucher); ok && t.begin() {
			sink.Touch(n.obj)
			t.end()
		}
	}
}

// durable waits until what was captured before is durable in every sink that promises
// it. The application's own disk has done its part; a sink that is given up meanwhile
// changes nothing of that.
func (s *sinks) durable() {
	ctx, cancel := context.WithTimeout(context.Background(), durableWait)
	defer cancel()
	for _, t := range s.taps() {
		if sink, ok := t.sink.(capture.Durable); ok && t.begin() {
			sink.Durable(ctx)
			t.end()
		}
	}
}
